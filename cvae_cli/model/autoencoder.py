"""The encoder and decoders of :class:`~cvae_cli.model.vae.ConditionalVAE`.

At every scale a residual convolution is preceded by a feature-wise affine map (FiLM, Perez et al.
2018). Its scale and shift come from the label in the encoder, and from the label and the latent
together in the decoder. Any normalisation is within one image, so an output depends on its own image
alone: not on the batch, on running statistics, or on how many processes train.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.latent_maps import LatentMap, PriorMean, Residuals
from cvae_cli.model.spec import ModelSpec


class FilmBlock(nn.Module):
    """A residual 3x3 convolution, modulated by a condition vector."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        """Build a block for (B, channels, H, W) and (B, condition_dim)."""
        super().__init__()
        self.film = nn.Linear(condition_dim, 2 * channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """``h + conv(silu(h * (1 + scale) + shift))``, of h's shape."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        out: Tensor = self.conv(_silu(torch.addcmul(shift, h, 1.0 + scale)))
        return out.add_(h)


def _silu(h: Tensor) -> Tensor:
    """SiLU; in place when no gradient is needed, so callers must not use ``h`` afterwards."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


class Encoded(NamedTuple):
    """What an encoder makes of images.

    Attributes:
        mu: (B, Z), mean of the posterior of the global latent.
        logvar: (B, Z), natural logarithm of its variance.
        features: at twice and at four times the coarsest ones, (B, C, H, W) each, from which latent maps are
            read; empty without them.
    """

    mu: Tensor
    logvar: Tensor
    features: tuple[Tensor, ...] = ()


class Encoder(nn.Module):
    """Image and label to the mean and log-variance of the posterior."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the encoder of a spec."""
        super().__init__()
        self.has_maps = bool(spec.latent_maps)
        finest, *coarser = spec.widths[-2::-1]
        self.label = nn.Embedding(spec.num_classes, spec.label_dim) if spec.label_in_encoder else None
        dim = spec.label_dim if spec.label_in_encoder else 1
        self.stem = nn.Conv2d(spec.channels, finest, 4, stride=2, padding=1)
        self.block2 = FilmBlock(finest, dim)
        # Named after their scale: 1/4, 1/8 and so on of the canvas.
        self.scales = tuple(2**halvings for halvings in range(2, spec.depth + 1))
        for scale, inputs, outputs in zip(self.scales, (finest, *coarser), coarser, strict=False):
            self.add_module(f"down{scale}", nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            self.add_module(f"block{scale}", FilmBlock(outputs, dim))
        self.head = nn.Linear(spec.widths[0] * spec.coarsest_side**2, 2 * spec.latent_dim)

    def forward(self, x: Tensor, y: Tensor) -> Encoded:
        """Encode images (B, C, H, W) of labels (B,)."""
        condition = x.new_zeros(x.shape[0], 1) if self.label is None else self.label(y)
        maps = [self.block2(self.stem(x), condition)]
        for scale in self.scales:
            h = F.silu(maps[-1]) if self.has_maps else _silu(maps[-1])
            maps.append(getattr(self, f"block{scale}")(getattr(self, f"down{scale}")(h), condition))
        mu, logvar = self.head(_silu(maps[-1]).flatten(1)).chunk(2, dim=1)
        # A posterior narrower than e^-5 or wider than e^5 of the prior is never useful, and
        # one bad batch in bf16 could otherwise send exp(logvar) to infinity.
        return Encoded(mu, logvar.clamp(-10.0, 10.0), (maps[-2], maps[-3]) if self.has_maps else ())


_PRIOR_MEAN = PriorMean()


class Decoder(nn.Module):
    """Latent and label to an image; the label enters at every scale."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of a spec."""
        super().__init__()
        coarsest, *finer = spec.widths
        self.side, self.width = spec.coarsest_side, coarsest
        self.label = nn.Embedding(spec.num_classes, spec.label_dim)
        dim = 4 * spec.label_dim
        self.condition = nn.Sequential(
            nn.Linear(spec.latent_dim + spec.label_dim, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU()
        )
        self.start = nn.Linear(dim + spec.latent_dim, coarsest * self.side * self.side)
        # Named after their scale: 1/8, 1/4 and so on of the canvas.
        self.scales = tuple(2**halvings for halvings in reversed(range(spec.depth)))
        self.first = f"block{2**spec.depth}"
        self.add_module(self.first, FilmBlock(coarsest, dim))
        for scale, inputs, outputs in zip(self.scales, spec.widths, finer, strict=False):
            self.add_module(f"up{scale}", nn.ConvTranspose2d(inputs, outputs, 2, stride=2))
            self.add_module(f"block{scale}", FilmBlock(outputs, dim))
        self.out = nn.Conv2d(spec.widths[-1], spec.channels, 3, padding=1)
        self.maps = _latent_maps(spec.widths, spec)

    def forward(self, z: Tensor, y: Tensor, residuals: Residuals = _PRIOR_MEAN) -> Tensor:
        """Return logits of the pixels, (B, C, H, W).

        Args:
            z: (B, Z), the global latent.
            y: (B,) int64.
            residuals: of the latent maps.
        """
        h, condition = self._with_latents(z, y, residuals)
        for scale in self.scales[2:]:
            h = getattr(self, f"up{scale}")(_silu(h))
            h = getattr(self, f"block{scale}")(h, condition)
        return self.out(_silu(h))

    def infer(self, z: Tensor, y: Tensor, residuals: Residuals) -> None:
        """Only as far as the last latent map, for residuals that are read on the way."""
        self._with_latents(z, y, residuals)

    def coarsest(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The coarsest feature maps, (B, C, H, W), and the condition of all blocks, (B, 4 * label_dim)."""
        condition = self.condition(torch.cat([z, self.label(y)], dim=1))
        h = self.start(torch.cat([condition, z], dim=1))
        h = h.view(-1, self.side, self.side, self.width).permute(0, 3, 1, 2)  # channels last
        return getattr(self, self.first)(h, condition), condition

    def _with_latents(self, z: Tensor, y: Tensor, residuals: Residuals) -> tuple[Tensor, Tensor]:
        """Features with all latents, and the condition of all blocks."""
        h, condition = self.coarsest(z, y)
        for level, scale in enumerate(self.scales[:2]):
            h = _add_latents(self.maps, level, getattr(self, f"up{scale}")(_silu(h)), residuals)
            h = getattr(self, f"block{scale}")(h, condition)
        return h, condition


def _latent_maps(decoder_widths: tuple[int, ...], spec: ModelSpec) -> nn.ModuleList:
    """The latent maps of a decoder whose features have these widths, from the coarsest."""
    # Those of the encoder beside them have other widths where the decoder is wider.
    return nn.ModuleList(
        LatentMap(width, features, channels)
        for width, features, channels in zip(
            decoder_widths[1:3], spec.widths[1:3], spec.latent_maps, strict=False
        )
    )


def _add_latents(maps: nn.ModuleList, level: int, h: Tensor, residuals: Residuals) -> Tensor:
    """The features of a level with its latents, if there are any."""
    if not len(maps):
        return h
    latent_map = maps[level]
    assert isinstance(latent_map, LatentMap)
    return latent_map(h, residuals.at(level, latent_map, h))


class ResidualBlock(nn.Module):
    """Two normalised and modulated 3x3 convolutions with a skip connection, optionally upsampling.

    The generator block of Miyato & Koyama 2018, with group normalisation (Wu & He 2018) instead of
    batch normalisation. It upsamples between the two convolutions rather than before both, which is
    less work.
    """

    def __init__(self, inputs: int, outputs: int, condition_dim: int, *, scale: int) -> None:
        """Build a block from (B, inputs, H, W) to (B, outputs, scale * H, scale * W)."""
        super().__init__()
        self.scale = scale
        self.film1 = nn.Linear(condition_dim, 2 * inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film2 = nn.Linear(condition_dim, 2 * outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Conv2d(inputs, outputs, 1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, condition_dim) to (B, outputs, scale * H, scale * W)."""
        h1 = self.conv1(_modulated(h, self.film1(condition)))
        h2 = self.conv2(_modulated(self._upsampled(h1), self.film2(condition)))
        return h2 + self._upsampled(self.short(h))

    def _upsampled(self, h: Tensor) -> Tensor:
        return h if self.scale == 1 else F.interpolate(h, scale_factor=float(self.scale), mode="nearest")


def _modulated(h: Tensor, film: Tensor) -> Tensor:
    """``silu(norm(h) * (1 + scale) + shift)`` in groups of 16 channels, of h's shape."""
    scale, shift = film[:, :, None, None].chunk(2, dim=1)
    normal = F.group_norm(h, max(1, h.shape[1] // 16))
    return _silu(torch.addcmul(shift, normal, 1.0 + scale))


_PIXEL_WIDTH = 8
"""Channels of the only feature map at full resolution."""


class ResidualDecoder(nn.Module):
    """Latent and label to an image, for photographs: twice as deep as :class:`Decoder`."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of a spec."""
        super().__init__()
        coarsest, last = spec.decoder_widths[0], spec.decoder_widths[-1]
        self.side, self.width = spec.coarsest_side, coarsest
        self.label = nn.Embedding(spec.num_classes, spec.label_dim)
        dim = 4 * spec.label_dim
        self.condition = nn.Sequential(nn.Linear(spec.latent_dim + spec.label_dim, dim), nn.SiLU())
        self.start = nn.Linear(dim + spec.latent_dim, coarsest * self.side * self.side)
        # Named after their scale: 1/4, 1/2 of the canvas; before them 1/8 and so on where it is larger.
        self.scales = tuple(2**halvings for halvings in range(spec.depth - 1, 0, -1))
        for scale, (inputs, outputs) in zip(self.scales, pairwise(spec.decoder_widths), strict=False):
            self.add_module(f"up{scale}", ResidualBlock(inputs, outputs, dim, scale=2))
        self.last = ResidualBlock(spec.decoder_widths[-2], last, dim, scale=1)
        # Sub-pixel convolution (Shi et al. 2016, "Real-time single image super-resolution"): wide maps
        # at full resolution would take as long as the rest of the decoder. The last convolution runs
        # at full resolution, or the 2x2 blocks would show as a grid.
        self.pixels = nn.Conv2d(last, 4 * _PIXEL_WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_PIXEL_WIDTH, spec.channels, 3, padding=1)
        self.maps = _latent_maps(spec.decoder_widths, spec)

    def forward(self, z: Tensor, y: Tensor, residuals: Residuals = _PRIOR_MEAN) -> Tensor:
        """As :meth:`Decoder.forward`."""
        h, condition = self._with_latents(z, y, residuals)
        for scale in self.scales[2:]:
            h = getattr(self, f"up{scale}")(h, condition)
        return self.out(_silu(F.pixel_shuffle(self.pixels(_silu(self.last(h, condition))), 2)))

    def infer(self, z: Tensor, y: Tensor, residuals: Residuals) -> None:
        """As :meth:`Decoder.infer`."""
        self._with_latents(z, y, residuals)

    def _with_latents(self, z: Tensor, y: Tensor, residuals: Residuals) -> tuple[Tensor, Tensor]:
        """Features with all latents, and the condition of all blocks."""
        condition = self.condition(torch.cat([z, self.label(y)], dim=1))
        h = self.start(torch.cat([condition, z], dim=1))
        h = h.view(-1, self.side, self.side, self.width).permute(0, 3, 1, 2)  # channels last
        for level, scale in enumerate(self.scales[:2]):
            up = getattr(self, f"up{scale}")
            h = _add_latents(self.maps, level, up(h, condition), residuals)
        return h, condition
