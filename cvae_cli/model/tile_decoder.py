"""A decoder made for speed: nearly all of its work is products of large matrices."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.spec import ModelSpec

_BLOCK = 4
"""Side of the blocks of pixels that are drawn as one: convolutions of many channels on few places."""
_MAP_WIDTH, _CONVOLUTIONS = 48, 2
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
        return _silu(torch.addcmul(shift, out, scale))


def _silu(h: Tensor) -> Tensor:
    """SiLU; in place when no gradient is needed, so callers must not use ``h`` afterwards."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


class TileDecoder(nn.Module):
    """Latent vector and label to a tile, for strokes and silhouettes.

    Convolutions of few channels leave a processor waiting for memory; a product of two matrices keeps it
    busy, most of all in bfloat16. So products make a map of many channels, a place for each 4x4 pixels, and
    what is left for convolutions is that neighbours fit together. It is taught to draw what the model's own
    decoder draws (:mod:`cvae_cli.training.distillation`), and draws tiles only: reconstructions need the
    latent maps.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of tiles of a spec, with random weights."""
        super().__init__()
        self.side, self.margin = spec.image_size // _BLOCK, spec.canvas_size - spec.image_size
        first, *others = spec.tile_widths
        self.first = _ByLabel(spec.latent_dim, first, spec.num_classes)
        self.hidden = nn.ModuleList(
            _ByLabel(inputs, outputs, spec.num_classes) for inputs, outputs in pairwise([first, *others])
        )
        self.out = _ByLabel(spec.tile_widths[-1], self.side**2 * _MAP_WIDTH, spec.num_classes)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(_MAP_WIDTH, _MAP_WIDTH, 3, padding=1) for _ in range(_CONVOLUTIONS)
        )
        self.pixels = nn.Conv2d(_MAP_WIDTH, spec.channels * _BLOCK**2, 3, padding=1)

    def use(self, dtype: torch.dtype) -> TileDecoder:
        """Compute in a precision from now on, except the first layer, whose input would lose too much."""
        for part in (self.hidden, self.out, self.convolutions, self.pixels):
            part.to(dtype)
        return self

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels of the canvas, (B, C, H, W) float32, whatever the precision in between.

        Args:
            z: (B, Z), latent vectors, as the model's own decoder takes them for these labels.
            y: (B,) int64.
        """
        h = self.first(z, y).to(self.pixels.weight.dtype)
        for layer in self.hidden:
            after = layer(h, y)
            h = h + after if after.shape == h.shape else after
        h = self.out(h, y).view(-1, self.side, self.side, _MAP_WIDTH).permute(0, 3, 1, 2)  # channels last
        for convolution in self.convolutions:
            h = h + _silu(convolution(h))
        # A sigmoid in bfloat16 would have steps of a grey level.
        logits = F.pixel_shuffle(self.pixels(h), _BLOCK).float()
        before = self.margin // 2
        return F.pad(logits, (before, self.margin - before) * 2, value=_OUTSIDE)
