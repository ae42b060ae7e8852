"""A decoder made for speed: nearly all of its work is products of large matrices."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.spec import ModelSpec

_BLOCK = 4
"""Side of the blocks of pixels that are refined as one: convolutions of many channels on few places."""
_REFINE_WIDTH = 64
_OUTSIDE = -12.0
"""Logit of the canvas around a tile: black, for all purposes."""


class _ByLabel(nn.Module):
    """``silu(layer(h) * scale + shift)``, both of these learned for each label (FiLM, Perez et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.scale = nn.Embedding(num_classes, outputs)
        self.shift = nn.Embedding(num_classes, outputs)
        nn.init.normal_(self.scale.weight, 1.0, 0.1)
        nn.init.normal_(self.shift.weight, 0.0, 0.1)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """(B, inputs) of labels (B,) to (B, outputs)."""
        out: Tensor = self.layer(h)
        # Under autocast the product is in half precision, and the tables are not.
        scale, shift = self.scale(y).to(out.dtype), self.shift(y).to(out.dtype)
        return F.silu(torch.addcmul(shift, out, scale), inplace=not torch.is_grad_enabled())


class _Refine(nn.Module):
    """Adds what makes edges crisp: convolutions over blocks of pixels, as channels of a small map."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels * _BLOCK**2, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, channels * _BLOCK**2, 3, padding=1)

    def forward(self, logits: Tensor) -> Tensor:
        """(B, C, H, W) to the same; H and W are multiples of ``_BLOCK``."""
        inplace = not torch.is_grad_enabled()
        h = F.pixel_unshuffle(logits, _BLOCK).contiguous(memory_format=torch.channels_last)
        h = F.silu(self.enter(h), inplace=inplace)
        h = F.silu(self.middle(h), inplace=inplace)
        added: Tensor = F.pixel_shuffle(self.leave(h), _BLOCK)
        return logits + added


class TileDecoder(nn.Module):
    """Latent vector and label to a tile, for strokes and silhouettes.

    Convolutions of few channels leave a processor waiting for memory; a product of two matrices keeps it
    busy, most of all in bfloat16. This one is three of them and, since each of their outputs is a pixel by
    itself, a convolution that looks at neighbours. It is taught to draw what the model's own decoder draws
    (:mod:`cvae_cli.training.distillation`), and draws tiles only: reconstructions need the latent maps.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of tiles of a spec, with random weights."""
        super().__init__()
        self.shape = (spec.channels, spec.image_size, spec.image_size)
        self.margin = spec.canvas_size - spec.image_size
        first, *others = spec.tile_widths
        self.first = _ByLabel(spec.latent_dim, first, spec.num_classes)
        self.hidden = nn.ModuleList(
            _ByLabel(inputs, outputs, spec.num_classes) for inputs, outputs in pairwise([first, *others])
        )
        self.out = nn.Linear(spec.tile_widths[-1], spec.channels * spec.image_size**2)
        self.refine = _Refine(spec.channels, _REFINE_WIDTH)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels of the canvas, (B, C, H, W) float32, whatever the precision in between.

        Args:
            z: (B, Z), latent vectors, as the model's own decoder takes them for these labels.
            y: (B,) int64.
        """
        h = self.first(z.to(self.out.weight.dtype), y)
        for layer in self.hidden:
            after = layer(h, y)
            h = h + after if after.shape == h.shape else after
        # A sigmoid in bfloat16 would have steps of a grey level.
        logits = self.refine(self.out(h).view(-1, *self.shape)).float()
        before = self.margin // 2
        return F.pad(logits, (before, self.margin - before) * 2, value=_OUTSIDE)
