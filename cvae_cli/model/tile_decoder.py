"""A decoder made for speed: the model's own, without what a processor spends most of its time on.

On one core :class:`~cvae_cli.model.autoencoder.Decoder` spends more than half of its time on its finest
feature maps, whose few channels leave the processor waiting for memory. Here nothing but the pixels is
computed at full resolution (sub-pixel convolution, Shi et al. 2016, "Real-time single image and video
super-resolution"), from half of it on nothing outside of the native image, the coarsest maps come from
products of matrices, and nearly all is in bfloat16.
"""

from __future__ import annotations

from itertools import islice, pairwise, zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.autoencoder import Decoder, FilmBlock
from cvae_cli.model.latent_maps import LatentMap
from cvae_cli.model.spec import ModelSpec

_OUTSIDE = -12.0
"""Logit of the canvas around a tile: black, for all purposes."""


def _hardswish(h: Tensor) -> Tensor:
    """Nearly SiLU, at half its price; in place when no gradient is needed."""
    return F.hardswish(h, inplace=not torch.is_grad_enabled())


class _Block(nn.Module):
    """As :class:`FilmBlock`, with the 1 that it adds to the scale in the bias of ``film``."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.film = nn.Linear(condition_dim, 2 * channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    @torch.no_grad()
    def begin_as(self, block: FilmBlock) -> None:
        self.load_state_dict(block.state_dict())
        self.film.bias[: self.conv.in_channels] += 1.0

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """As :meth:`FilmBlock.forward`."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        out: Tensor = self.conv(_hardswish(torch.addcmul(shift, h, scale)))
        return out.add_(h)


class _ByLabel(nn.Module):
    """``hardswish(layer(z) * scale + shift)``, both of which are learned for each label (FiLM)."""

    def __init__(self, inputs: int, outputs: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.scale = nn.Embedding(num_classes, outputs)
        self.shift = nn.Embedding(num_classes, outputs)
        nn.init.normal_(self.scale.weight, 1.0, 0.1)
        nn.init.normal_(self.shift.weight, 0.0, 0.3)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """(B, inputs) of labels (B,) to (B, outputs)."""
        out: Tensor = self.layer(z)
        # Under autocast the product is in half precision, and the tables are not.
        scale, shift = self.scale(y).to(out.dtype), self.shift(y).to(out.dtype)
        return F.hardswish(torch.addcmul(shift, out, scale))


class _MapMean(nn.Module):
    """What the mean of a latent map's prior adds to the features: all that a tile has of that map."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.prior = nn.Conv2d(channels, latent_channels, 3, padding=1)
        self.into = nn.Conv2d(latent_channels, channels, 3, padding=1)

    @torch.no_grad()
    def begin_as(self, latent_map: LatentMap) -> None:
        mean = {name: value.chunk(2)[0] for name, value in latent_map.prior.state_dict().items()}
        self.prior.load_state_dict(mean)
        self.into.load_state_dict(latent_map.into.state_dict())

    def forward(self, h: Tensor) -> Tensor:
        """As :meth:`LatentMap.forward` without a residual."""
        out: Tensor = self.into(self.prior(F.hardswish(h)))
        return out.add_(h)


class TileDecoder(nn.Module):
    """Latent vector and label to a tile, for strokes and silhouettes.

    Products of matrices make the coarsest feature maps; from there on it begins as a copy of the model's own
    decoder (:meth:`begin_as`). It is taught to draw what that one draws
    (:mod:`cvae_cli.training.distillation`). Of the latent maps it has the prior's mean at most, which is all
    that tiles have of them: so it draws tiles only, and no reconstructions.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of tiles of a spec, with random weights."""
        super().__init__()
        hidden, planes = spec.tile_widths
        widths, dim = spec.widths, 4 * spec.label_dim
        self.side, self.width = spec.coarsest_side, widths[0]
        self.native, self.margin = spec.image_size, spec.canvas_size - spec.image_size
        self.first = _ByLabel(spec.latent_dim, hidden, spec.num_classes)
        self.start = nn.Linear(hidden, self.width * self.side**2)
        self.condition = nn.Linear(hidden, dim)
        # Transposed 2x2 convolutions of stride 2, as products of matrices: the four pixels of a place are
        # channels. What the last one makes stays so.
        self.ups = nn.ModuleList(nn.Conv2d(inputs, 4 * outputs, 1) for inputs, outputs in pairwise(widths))
        self.blocks = nn.ModuleList(_Block(width, dim) for width in widths[1:-1])
        # Before the first two blocks, where the spec wants them.
        shapes = zip(widths[1:3], spec.latent_maps if spec.tile_maps else (), strict=False)
        self.maps = nn.ModuleList(_MapMean(width, channels) for width, channels in shapes)
        self.planes = nn.Conv2d(4 * widths[-1], 4 * planes, 1)
        self.pixels = nn.Conv2d(4 * planes, 4 * spec.channels, 3, padding=1)

    def use(self, dtype: torch.dtype) -> TileDecoder:
        """Compute in a precision from now on, but for the first layer: a latent would lose too much."""
        for name, part in self.named_children():
            if name != "first":
                part.to(dtype)
        return self

    @torch.no_grad()
    def begin_as(self, decoder: Decoder) -> None:
        """Take over what the decoder of the same spec has learned, from the coarsest maps on."""
        # The last block of the decoder, at full resolution, has nothing that corresponds to it here.
        for own, scale in zip(self.blocks, decoder.scales, strict=False):
            block = decoder.get_submodule(f"block{scale}")
            assert isinstance(own, _Block)
            assert isinstance(block, FilmBlock)
            own.begin_as(block)
        for own, scale in zip(self.ups, decoder.scales, strict=True):
            up = decoder.get_submodule(f"up{scale}")
            assert isinstance(own, nn.Conv2d)
            assert own.bias is not None
            assert isinstance(up, nn.ConvTranspose2d)
            assert up.bias is not None
            own.weight.copy_(up.weight.permute(2, 3, 1, 0).reshape(own.weight.shape))
            own.bias.copy_(up.bias.repeat(4))
        for mean, latent_map in zip(self.maps, decoder.maps, strict=False):
            assert isinstance(mean, _MapMean)
            assert isinstance(latent_map, LatentMap)
            mean.begin_as(latent_map)
        self._factor(decoder.out)

    def _factor(self, out: nn.Conv2d) -> None:
        """Split a 3x3 convolution of the pixels into a product of each pixel and one of few channels.

        By its singular values, the largest of which nearly make it up. Further planes say nothing yet.
        """
        assert out.bias is not None
        outputs, inputs = out.weight.shape[:2]
        planes = self.planes.out_channels // 4
        left, sizes, right = torch.linalg.svd(
            out.weight.transpose(0, 1).reshape(inputs, outputs * 9), full_matrices=False
        )
        kept = min(planes, len(sizes))
        into, kernel = left.new_zeros(planes, inputs), left.new_zeros(outputs, planes, 3, 3)
        into[kept:].normal_(std=0.1)
        into[:kept] = (left[:, :kept] * sizes[:kept].sqrt()).T
        right = right[:kept] * sizes[:kept, None].sqrt()
        kernel[:, :kept] = right.reshape(kept, outputs, 3, 3).transpose(0, 1)
        assert self.planes.bias is not None
        self.planes.weight.copy_(torch.block_diag(*[into] * 4)[:, :, None, None])
        self.planes.bias.zero_()
        # In blocks of 2x2 pixels: which pixel of which block each of the nine neighbours of a pixel is.
        blocks = self.pixels.weight.new_zeros(2, 2, outputs, 2, 2, planes, 3, 3)
        for row in range(2):
            for column in range(2):
                for down in range(3):
                    for across in range(3):
                        (dy, y), (dx, x) = divmod(row + down - 1, 2), divmod(column + across - 1, 2)
                        blocks[row, column, :, y, x, :, 1 + dy, 1 + dx] = kernel[:, :, down, across]
        self.pixels.weight.copy_(blocks.reshape(self.pixels.weight.shape))
        assert self.pixels.bias is not None
        self.pixels.bias.copy_(out.bias.repeat(4))

    def coarsest(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`Decoder.coarsest` makes."""
        weight = self.start.weight
        if weight.dtype == torch.float32:
            rounded = self.first(z, y)
            h = self.start(rounded)
        else:
            with torch.autocast(z.device.type, enabled=False):
                hidden = self.first(z.float(), y)
            rounded = hidden.to(weight.dtype)
            # And what rounding took from it: of all that is rounded, this would show most.
            h = self.start(rounded) + F.linear((hidden - rounded).to(weight.dtype), weight)
        h = h.view(-1, self.side, self.side, self.width).permute(0, 3, 1, 2)  # channels last
        return h, self.condition(rounded)

    def finish(self, h: Tensor, condition: Tensor) -> Tensor:
        """From there to what :meth:`forward` returns."""
        before, native = self.margin // 4, self.native // 2
        h = _hardswish(h)
        for up, block, mean in zip_longest(islice(self.ups, len(self.blocks)), self.blocks, self.maps):
            h = _in_pixels(up(h))
            if block is self.blocks[-1]:
                h = h[:, :, before : before + native, before : before + native]
                h = h.contiguous(memory_format=torch.channels_last)
            if mean is not None:
                h = mean(h)
            h = _hardswish(block(h, condition))
        planes = self.planes(_hardswish(self.ups[-1](h)))
        # A sigmoid in bfloat16 would have steps of a grey level.
        logits = _in_pixels(self.pixels(planes)).float()
        before = self.margin // 2
        return F.pad(logits, (before, self.margin - before) * 2, value=_OUTSIDE)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels of the canvas, (B, C, H, W) float32, whatever the precision in between.

        Args:
            z: (B, Z), latent vectors, as the model's own decoder takes them for these labels.
            y: (B,) int64.
        """
        return self.finish(*self.coarsest(z, y))


def _in_pixels(h: Tensor) -> Tensor:
    """Blocks of 2x2 pixels (B, 4 * C, H, W) to (B, C, 2 * H, 2 * W), channels last in memory."""
    h = h.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1)).transpose(2, 3)  # (B, H, 2, W, 2, C)
    return h.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
