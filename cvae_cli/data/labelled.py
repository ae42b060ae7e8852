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
        counterparts: (N, K) int64, the image that shows the same under each other label: see
            :func:`cvae_cli.data.pairs.find_counterparts`; ``None`` if the images are not paired.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    counterparts: Tensor | None = None

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
        """The images at the given indices, (M,) int64."""
        counterparts = None
        if self.counterparts is not None:
            place = torch.full((len(self) + 1,), -1, dtype=torch.int64)  # the last for those without any
            place[indices] = torch.arange(len(indices))
            counterparts = place[self.counterparts[indices]]
        return LabelledImages(self.images[indices], self.labels[indices], self.classes, counterparts)


def together(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """The images of both, in random order, without counterparts; the order is always the same.

    Raises:
        ValueError: they are not of the same classes.
    """
    if first.classes != second.classes:
        raise ValueError("images of different classes cannot be put together.")
    order = torch.randperm(len(first) + len(second), generator=torch.Generator().manual_seed(SPLIT_SEED))
    images = torch.cat([first.images, second.images])[order]
    return LabelledImages(images, torch.cat([first.labels, second.labels])[order], first.classes)


def hold_out(data: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    """Split training images into a part to train on and a part to validate on.

    The split is the same for every seed, so that runs can be compared. Counterparts stay together, and no
    class is held out whole. Neither part is class by class: the first images are used as a sample of all.

    Args:
        data: at least ten images.
        count: how many to hold out, but no more than a tenth of them.

    Raises:
        DataError: fewer than ten images, or none that can be held out.
    """
    count = min(count, len(data) // 10)
    if count < 1:
        raise DataError(f"{len(data)} training images are too few: at least 10 are needed.")
    dice = torch.Generator().manual_seed(SPLIT_SEED)
    group = torch.arange(len(data))
    if data.counterparts is not None:
        firsts = data.counterparts.masked_fill(data.counterparts < 0, len(data)).amin(dim=1)
        _, group = firsts.unique(return_inverse=True)
        place = torch.randperm(int(group.max()) + 1, generator=dice)[group]
        held = place < max(1, round(count / len(data) * len(place.unique())))
        order = torch.randperm(len(data), generator=dice)
    else:
        order = torch.randperm(len(data), generator=dice)
        held = torch.zeros(len(data), dtype=torch.bool)
        held[order[:count]] = True
    trained = torch.bincount(data.labels[~held], minlength=len(data.classes))
    for label in (trained == 0).nonzero()[:, 0].tolist():
        here = held & (data.labels == label)  # no more, if its group was given back for another class
        if here.any():
            held[group == group[here][0]] = False
    if not held.any():
        raise DataError(f"{len(data)} training images are too few: none can be held out for validation.")
    return data.subset(order[~held[order]]), data.subset(order[held[order]])
