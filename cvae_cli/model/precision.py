"""Finds the fastest precision whose tiles are practically those of fp32, and rounds weights for it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from cvae_cli.model.canvas import from_canvas, images_at_once, to_canvas
from cvae_cli.model.tile_decoder import TileDecoder
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


def fit_to_bf16(model: ConditionalVAE, images: Tensor, labels: Tensor) -> tuple[ConditionalVAE, str]:
    """Round the weights of a model to what bfloat16 can hold, where that makes bfloat16 right.

    Its tiles in bfloat16 are then those of fp32, but for what is rounded in between; and rounding must change
    no more than that either. Of a model with a decoder of tiles only that one is rounded, as it was made for
    bfloat16: all else is as it was taught.

    Args:
        model: in fp32, on any device; stays as it is.
        images: (N, C, H, W) uint8, not trained on; with none, nothing is found right.
        labels: (N,) int64.

    Returns:
        The model or a rounded copy, and the ``auto_precision`` of its spec.
    """
    if model.tiles is not None:
        rounded = _rounded(model, ("tiles",))
        return rounded, right_precision(rounded, images, labels) if len(images) else "fp32"
    if len(images):
        rounded = _rounded(model, ("encoder", "decoder"))
        exact, held = (_tiles(each, images, labels) for each in (model, rounded))
        if (
            _difference(exact, held).is_right
            and _difference(held, _tiles(rounded, images, labels, bf16=True)).is_right
        ):
            return rounded, "bf16"
    return model, "fp32"


def _rounded(model: ConditionalVAE, parts: tuple[str, ...]) -> ConditionalVAE:
    """A copy of a model, some of its networks rounded."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name in parts:
            part = getattr(other, name)
            if isinstance(part, TileDecoder):
                part.use(torch.bfloat16).use(torch.float32)  # but for the layer that stays in fp32
            elif part is not None:
                for value in part.parameters():
                    value.copy_(value.bfloat16())
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
