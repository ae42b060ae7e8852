"""Finds the fastest precision whose tiles are practically those of fp32."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from cvae_cli.model.canvas import from_canvas, images_at_once, to_canvas
from cvae_cli.model.vae import ConditionalVAE

_IMAGES, _BATCH, _LABELS = 100, 20, 25
_GREY_LEVELS = 2
_SHARE, _MOST = 0.001, 12
"""Share of the pixels that may be further off than ``_GREY_LEVELS``, and how far at most."""


class Difference(NamedTuple):
    """How tiles differ from those in fp32.

    Attributes:
        share: of the pixels that are more than two grey levels off.
        most: grey levels that any of them is off.
    """

    share: float
    most: int

    @property
    def is_right(self) -> bool:
        """Whether the difference is within the limits."""
        return self.share <= _SHARE and self.most <= _MOST


def measure_precisions(model: ConditionalVAE, images: Tensor, labels: Tensor) -> dict[str, Difference]:
    """What bfloat16 changes in the tiles of a model, everywhere and in its decoder of tiles alone.

    Args:
        model: in fp32, on any device.
        images: (N, C, H, W) uint8, not trained on; a hundred of them are used.
        labels: (N,) int64.

    Returns:
        By the values of ``auto_precision`` (:class:`cvae_cli.model.spec.ModelSpec`), the fastest first.
    """
    exact = _tiles(model, images, labels)
    found = {"bf16": _difference(exact, _tiles(_with_tiles_in_bf16(model), images, labels, bf16=True))}
    if model.tiles is not None:
        found["tiles"] = _difference(exact, _tiles(_with_tiles_in_bf16(model), images, labels))
    return found


def right_precision(model: ConditionalVAE, images: Tensor, labels: Tensor) -> str:
    """The fastest that is right, as the spec's ``auto_precision`` says it; arguments as above."""
    found = measure_precisions(model, images, labels)
    return next((name for name, difference in found.items() if difference.is_right), "fp32")


def rounded_for_bf16(model: ConditionalVAE) -> ConditionalVAE:
    """The model, its decoder of tiles rounded to what bfloat16 can hold.

    In bfloat16 its tiles are then those of fp32, but for what is rounded in between.
    """
    if model.tiles is None:
        return model
    other = _with_tiles_in_bf16(model)
    assert other.tiles is not None
    other.tiles.use(torch.float32)
    return other


def _with_tiles_in_bf16(model: ConditionalVAE) -> ConditionalVAE:
    if model.tiles is None:
        return model
    other = copy.deepcopy(model)
    assert other.tiles is not None
    other.tiles.use(torch.bfloat16)
    return other


@torch.no_grad()
def _tiles(model: ConditionalVAE, images: Tensor, labels: Tensor, *, bf16: bool = False) -> Tensor:
    """Tiles of some images under labels that are not their own, (N, T, C, H, W) uint8."""
    spec, device = model.spec, next(model.parameters()).device
    # Of very many classes a few, spread over all of them.
    others = torch.linspace(1, spec.num_classes - 1, min(spec.num_classes - 1, _LABELS)).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:_IMAGES]
    batch = images_at_once(_BATCH, spec.canvas_size)
    drawn = []
    for part, y in zip(images[order].split(batch), labels[order].split(batch), strict=True):
        x, y = to_canvas(part.to(device), spec.canvas_size), y.to(device)
        targets = (y[:, None] + others.to(device)) % spec.num_classes
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            tiles = model.relabel(model.infer(x, y, with_maps=spec.map_carry > 0), y, targets)
        drawn.append(from_canvas(tiles, spec.image_size).cpu())
    return torch.cat(drawn)


def _difference(exact: Tensor, other: Tensor) -> Difference:
    apart = (exact.int() - other.int()).abs()
    return Difference(float((apart > _GREY_LEVELS).float().mean()), int(apart.max()))
