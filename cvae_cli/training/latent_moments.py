"""Moments of each class's latents, from which the alignment of the classes is fitted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvae_cli.model.alignment import LatentAlignment
from cvae_cli.model.autoencoder import Encoded
from cvae_cli.model.canvas import images_at_once
from cvae_cli.training.recipe import AlignmentRecipe

_FIT_INTERVAL = 50
"""Steps between two fits of the alignment."""
_BATCH, _BATCH_CLASSES = 500, 50_000
"""Images at once, at most; and times the number of classes, which their products take memory for."""


class LatentMoments(nn.Module):
    """Running moments of the encoder's latents, by class.

    The buffers are what :meth:`cvae_cli.model.alignment.LatentAlignment.fit` takes.
    """

    def __init__(self, recipe: AlignmentRecipe, num_classes: int, latent_dim: int) -> None:
        """Start empty."""
        super().__init__()
        self.recipe = recipe
        self.share: Tensor
        self.mean: Tensor
        self.second_moment: Tensor
        self.variance: Tensor
        self.register_buffer("share", torch.zeros(num_classes))
        self.register_buffer("mean", torch.zeros(num_classes, latent_dim))
        self.register_buffer("second_moment", torch.zeros(num_classes, latent_dim, latent_dim))
        self.register_buffer("variance", torch.zeros(num_classes, latent_dim))

    @torch.no_grad()
    def follow(
        self,
        alignment: LatentAlignment,
        mu: Tensor,
        logvar: Tensor,
        y: Tensor,
        *,
        step: int,
        warmup_steps: int,
    ) -> None:
        """Update the moments with a batch, and now and then fit the alignment to them.

        Args:
            alignment: of the model that is trained.
            mu: (B, Z), the encoder's.
            logvar: (B, Z), the encoder's.
            y: (B,) int64.
            step: of the optimiser.
            warmup_steps: steps before the first fit.
        """
        if self.recipe.strength is None:
            return
        # Few batches count at first, while the latents change fast.
        rate = max(self.recipe.moments_rate, 1 / (1 + step))
        kept = self._kept
        torch._foreach_lerp_(kept, list(_moments(mu, logvar, y, len(self.share))), rate)
        if step >= warmup_steps and step % _FIT_INTERVAL == 0:
            alignment.fit(*kept, images=int(len(y) / rate), strength=self.recipe.strength)

    @torch.no_grad()
    def fit_exactly(
        self,
        alignment: LatentAlignment,
        encode: Callable[[Tensor, Tensor], Encoded],
        images: Tensor,
        y: Tensor,
    ) -> None:
        """Fit the alignment of the EMA to its own latents, which running moments do not describe.

        Args:
            alignment: of the EMA.
            encode: its encoder, from (B, C, H, W) uint8 images and labels.
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if self.recipe.strength is None:
            return
        device, classes = self.share.device, len(self.share)
        batch = min(images_at_once(_BATCH, images.shape[-1]), max(1, _BATCH_CLASSES // classes))
        moments = [torch.zeros_like(each) for each in self._kept]
        for part, labels in zip(images.split(batch), y.split(batch), strict=True):
            own = labels.to(device)
            mu, logvar, *_ = encode(part.to(device), own)
            for total, each in zip(moments, _moments(mu, logvar, own, classes), strict=True):
                total += each * (len(own) / len(y))
        alignment.fit(*moments, images=len(y), strength=self.recipe.strength)

    @property
    def _kept(self) -> list[Tensor]:
        return [self.share, self.mean, self.second_moment, self.variance]


def _moments(
    mu: Tensor, logvar: Tensor, y: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each class's share, (K,), and times that the means of ``mu``, its outer product and the variance."""
    with torch.autocast(mu.device.type, enabled=False):
        mu = mu.float()
        # Not one_hot, which looks at the labels and would wait for the device.
        of_class = (y == torch.arange(num_classes, device=y.device)[:, None]).float() / len(y)  # (K, B)
        second_moment = torch.einsum("kb,bi,bj->kij", of_class, mu, mu)
        return of_class.sum(dim=1), of_class @ mu, second_moment, of_class @ logvar.float().exp()
