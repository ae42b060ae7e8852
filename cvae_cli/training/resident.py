"""Training images that stay in a GPU's memory, where a step picks its own."""

from __future__ import annotations

import torch
from torch import Tensor

from cvae_cli.data.labelled import LabelledImages

_SHARE = 0.25
"""Of the memory that a GPU has free, how much images may take."""


class ResidentImages:
    """Images with their labels on the GPU of this process; only their numbers travel there in a step.

    They are brought there when the first batch is asked for: processes that train together each have a GPU of
    their own by then. Where they would take too much of its memory they stay where they are.
    """

    def __init__(self, data: LabelledImages, device: torch.device) -> None:
        """Nothing is copied yet.

        Args:
            data: images without counterparts.
            device: a GPU; which one of several is the one that is current when it is used.
        """
        self.data, self.device = data, device
        self._resident: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One image and its label."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A batch: (B, C, H, W) uint8 and (B,) int64."""
        if self._resident is None:
            here = (self.data.images, self.data.labels)
            fits = self.data.images.nbytes <= _SHARE * free_bytes(self.device)
            self._resident = (here[0].to(self.device), here[1].to(self.device)) if fits else here
        images, labels = self._resident
        numbers = torch.tensor(indices)
        if images.device.type == "cuda":
            numbers = numbers.pin_memory().to(images.device, non_blocking=True)
        return images[numbers], labels[numbers]


def free_bytes(device: torch.device) -> int:
    """What a GPU has left; of the CPU, nothing is to be brought there."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
