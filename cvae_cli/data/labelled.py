"""Images with their labels, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvae_cli.errors import DataError

SPLIT_SEED = 20240229
"""Of the validation split, which is the same for every training seed, so that runs can be compared."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) uint8, at native size.
        labels: (N,) int64 in [0, K).
        classes: the K class names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One image and its label."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A batch at once; a ``DataLoader`` prefers this to one call per image."""
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> LabelledImages:
        """The images at the given indices."""
        return LabelledImages(self.images[indices], self.labels[indices], self.classes)


def hold_out(data: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    """Split training images into a part to train on and a part to validate on.

    The split is the same for every seed, so that runs can be compared.

    Args:
        data: at least ten images.
        count: how many to hold out, but no more than a tenth of them.

    Raises:
        DataError: fewer than ten images.
    """
    count = min(count, len(data) // 10)
    if count < 1:
        raise DataError(f"{len(data)} training images are too few: at least 10 are needed.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return data.subset(order[count:]), data.subset(order[:count])
