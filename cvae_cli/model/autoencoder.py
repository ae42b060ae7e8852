"""The encoder and decoders of :class:`~cvae_cli.model.vae.ConditionalVAE`.

At every scale a residual convolution is preceded by a feature-wise affine map (FiLM, Perez et al.
2018). Its scale and shift come from the label in the encoder, and from the label and the latent
together in the decoder. Any normalisation is within one image, so an output depends on its own image
alone: not on the batch, on running statistics, or on how many processes train.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Encoder(nn.Module):
    """Image and label to the mean and log-variance of the posterior."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the encoder of a spec."""
        super().__init__()
        w8, w4, w2, _ = spec.widths
        side = spec.canvas_size // 8
        self.label = nn.Embedding(spec.num_classes, spec.label_dim) if spec.label_in_encoder else None
        dim = spec.label_dim if spec.label_in_encoder else 1
        self.stem = nn.Conv2d(spec.channels, w2, 4, stride=2, padding=1)
        self.block2 = FilmBlock(w2, dim)
        self.down4 = nn.Conv2d(w2, w4, 4, stride=2, padding=1)
        self.block4 = FilmBlock(w4, dim)
        self.down8 = nn.Conv2d(w4, w8, 4, stride=2, padding=1)
        self.block8 = FilmBlock(w8, dim)
        self.head = nn.Linear(w8 * side * side, 2 * spec.latent_dim)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``mu`` and ``logvar``, each (B, Z)."""
        condition = x.new_zeros(x.shape[0], 1) if self.label is None else self.label(y)
        h = self.block2(self.stem(x), condition)
        h = self.block4(self.down4(_silu(h)), condition)
        h = self.block8(self.down8(_silu(h)), condition)
        mu, logvar = self.head(_silu(h).flatten(1)).chunk(2, dim=1)
        # A posterior narrower than e^-5 or wider than e^5 of the prior is never useful, and
        # one bad batch in bf16 could otherwise send exp(logvar) to infinity.
        return mu, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """Latent and label to an image; the label enters at every scale."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of a spec."""
        super().__init__()
        w8, w4, w2, w1 = spec.widths
        self.side = spec.canvas_size // 8
        self.width8 = w8
        self.label = nn.Embedding(spec.num_classes, spec.label_dim)
        dim = 4 * spec.label_dim
        self.condition = nn.Sequential(
            nn.Linear(spec.latent_dim + spec.label_dim, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU()
        )
        self.start = nn.Linear(dim + spec.latent_dim, w8 * self.side * self.side)
        self.block8 = FilmBlock(w8, dim)
        self.up4 = nn.ConvTranspose2d(w8, w4, 2, stride=2)
        self.block4 = FilmBlock(w4, dim)
        self.up2 = nn.ConvTranspose2d(w4, w2, 2, stride=2)
        self.block2 = FilmBlock(w2, dim)
        self.up1 = nn.ConvTranspose2d(w2, w1, 2, stride=2)
        self.block1 = FilmBlock(w1, dim)
        self.out = nn.Conv2d(w1, spec.channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels, (B, C, H, W)."""
        condition = self.condition(torch.cat([z, self.label(y)], dim=1))
        h = self.start(torch.cat([condition, z], dim=1))
        h = h.view(-1, self.side, self.side, self.width8).permute(0, 3, 1, 2)  # channels last
        h = self.block8(h, condition)
        h = self.block4(self.up4(_silu(h)), condition)
        h = self.block2(self.up2(_silu(h)), condition)
        h = self.block1(self.up1(_silu(h)), condition)
        return self.out(_silu(h))


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
        w8, w4, w2, w1 = spec.decoder_widths
        self.side = spec.canvas_size // 8
        self.width8 = w8
        self.label = nn.Embedding(spec.num_classes, spec.label_dim)
        dim = 4 * spec.label_dim
        self.condition = nn.Sequential(nn.Linear(spec.latent_dim + spec.label_dim, dim), nn.SiLU())
        self.start = nn.Linear(dim + spec.latent_dim, w8 * self.side * self.side)
        self.up4 = ResidualBlock(w8, w4, dim, scale=2)
        self.up2 = ResidualBlock(w4, w2, dim, scale=2)
        self.last = ResidualBlock(w2, w1, dim, scale=1)
        # Sub-pixel convolution (Shi et al. 2016, "Real-time single image super-resolution"): wide maps
        # at full resolution would take as long as the rest of the decoder. The last convolution runs
        # at full resolution, or the 2x2 blocks would show as a grid.
        self.pixels = nn.Conv2d(w1, 4 * _PIXEL_WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_PIXEL_WIDTH, spec.channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels, (B, C, H, W)."""
        condition = self.condition(torch.cat([z, self.label(y)], dim=1))
        h = self.start(torch.cat([condition, z], dim=1))
        h = h.view(-1, self.side, self.side, self.width8).permute(0, 3, 1, 2)  # channels last
        h = self.last(self.up2(self.up4(h, condition), condition), condition)
        return self.out(_silu(F.pixel_shuffle(self.pixels(_silu(h)), 2)))
