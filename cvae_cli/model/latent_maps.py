"""Latents at finer scales than the global one: maps with a prior that depends on label and latents so far.

At each scale the decoder's features give a prior, and the encoder's features beside them a posterior that is
written relative to it (Vahdat & Kautz 2020, "NVAE", section 3.2)::

    prior        N(mu, sigma^2)
    posterior    N(mu + sigma * residual, (sigma * scale)^2)

The standardised residual is what the image says beyond its label and its global latent. It is what can be
carried to another label, whose prior is another one (Ribeiro et al. 2023, "High fidelity image
counterfactuals with probabilistic causal models", section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Latent(NamedTuple):
    """What an image says beyond its label.

    Attributes:
        z: (B, Z) float32, the global latent, in the space that all classes share.
        maps: standardised residuals at twice and at four times the coarsest feature maps, (B, M, H, W) each;
            empty for a model without latent maps, or for the mean of the prior.
    """

    z: Tensor
    maps: tuple[Tensor, ...] = ()


class LatentMap(nn.Module):
    """The prior and posterior of one scale, and the way of its latents into the decoder."""

    def __init__(self, channels: int, feature_channels: int, latent_channels: int) -> None:
        """Build one; both distributions start as N(0, 1).

        Args:
            channels: of the decoder's features.
            feature_channels: of the encoder's.
            latent_channels: of the latent map.
        """
        super().__init__()
        self.prior = nn.Conv2d(channels, 2 * latent_channels, 3, padding=1)
        self.mixed = nn.Conv2d(channels + feature_channels, channels, 3, padding=1)
        self.posterior = nn.Conv2d(channels, 2 * latent_channels, 3, padding=1)
        self.into = nn.Conv2d(latent_channels, channels, 3, padding=1)
        for convolution in (self.prior, self.posterior):
            nn.init.zeros_(convolution.weight)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def infer(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior, relative to the prior.

        Args:
            h: (B, C, H, W), the decoder's features.
            features: (B, C, H, W), the encoder's.

        Returns:
            The residual and the logarithm of the variance's ratio, each (B, M, H, W) float32.
        """
        mixed = self.mixed(torch.cat([F.silu(h), F.silu(features)], dim=1))
        residual, logvar = self.posterior(F.silu(mixed)).float().chunk(2, dim=1)
        return residual, logvar.clamp(-8.0, 3.0)

    def forward(self, h: Tensor, residual: Tensor | None) -> Tensor:
        """Features (B, C, H, W) with latents of given residuals; ``None`` for the mean of the prior."""
        mu, logvar = self.prior(F.silu(h)).float().chunk(2, dim=1)
        latent = mu if residual is None else mu + (0.5 * logvar.clamp(-4.0, 2.0)).exp() * residual
        added: Tensor = self.into(latent.to(h.dtype))
        return h + added


class Residuals(Protocol):
    """Where the residuals of a pass through the decoder come from."""

    def at(self, level: int, latent_map: LatentMap, h: Tensor) -> Tensor | None:
        """(B, M, H, W) for the features (B, C, H, W) of a level, counted from the coarsest; or ``None``."""


class PriorMean:
    """No residual: the mean of the prior."""

    def at(self, level: int, latent_map: LatentMap, h: Tensor) -> Tensor | None:
        """``None``."""
        return None


class Given:
    """Residuals known beforehand."""

    def __init__(self, maps: Sequence[Tensor]) -> None:
        """Take ``maps``, one per level, (B, M, H, W) each; none of them for the mean of the prior."""
        self.maps = maps

    def at(self, level: int, latent_map: LatentMap, h: Tensor) -> Tensor | None:
        """The one of the level."""
        return self.maps[level] if self.maps else None


class Inferred:
    """Residuals read from images while the decoder draws them, and perhaps their tiles in the same pass.

    Attributes:
        maps: the residuals of the images, after the pass.
        kl: (B,) float32, divergence of the posterior from the prior over all levels, in nats.
    """

    def __init__(
        self,
        features: Sequence[Tensor],
        noise: Sequence[Tensor] = (),
        *,
        carry: Tensor | float = 0.0,
        kept: Tensor | None = None,
    ) -> None:
        """Read from features of the encoder.

        Args:
            features: at twice and at four times the coarsest ones, (B, C, H, W) each.
            noise: of the same levels, (B, M, H, W) each, from N(0, 1); none for the posterior's mean.
            carry: what share of its residuals an image hands to its tile, where the decoder draws B tiles
                after the B images.
            kept: (B,) float32, 1 for images whose residuals are used, 0 for those that are drawn without;
                ``None`` for all.
        """
        self.features, self.noise, self.carry, self.kept = features, noise, carry, kept
        self.maps: list[Tensor] = []
        self.kl: Tensor | float = 0.0

    def at(self, level: int, latent_map: LatentMap, h: Tensor) -> Tensor | None:
        """Those of the images, and of the tiles behind them."""
        features = self.features[level]
        # Of the shape, since the length of a tensor would be a constant of an exported graph.
        count, rest = features.shape[0], h.shape[0] - features.shape[0]
        residual, logvar = latent_map.infer(h[:count], features)
        each = 0.5 * (residual.square() + logvar.exp() - 1.0 - logvar)  # Kingma & Welling 2014, appendix B
        divergence = each.sum(dim=(1, 2, 3))
        if self.noise:
            residual = residual + self.noise[level] * (0.5 * logvar).exp()
        if self.kept is not None:
            divergence, residual = divergence * self.kept, residual * self.kept[:, None, None, None]
        self.kl = self.kl + divergence
        self.maps.append(residual)
        return torch.cat([residual, self.carry * residual[:rest]]) if rest else residual


def map_shapes(channels: tuple[int, ...], coarsest_side: int) -> tuple[tuple[int, int, int], ...]:
    """(M, H, W) of each level."""
    sides = (2 * coarsest_side, 4 * coarsest_side)
    return tuple((count, side, side) for count, side in zip(channels, sides, strict=False))
