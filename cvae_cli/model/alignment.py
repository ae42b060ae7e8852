"""Latents of all classes brought to one shared Gaussian, so that they mean the same in every class."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentAlignment(nn.Module):
    """Maps the latents of every class to a shared distribution, and back.

    An encoder that knows the label is free to use its latent differently for every class. The latent
    then gives the label away, and means something else when another class is drawn from it. Here the
    Gaussian of each class's latents is moved to one that all classes share, by the linear map that
    moves them least (optimal transport between Gaussians: Peyré & Cuturi 2019, "Computational
    optimal transport", eq. 2.40), and that one to the prior N(0, I). No information within a class is
    lost, since the decoder undoes the map. What no linear map can move stays: a non-linear probe may
    still tell the classes apart.

    The buffers ``class_mean`` (K, Z), ``to_shared`` and ``from_shared`` (both K, Z, Z) are measured,
    not learned by gradient descent.
    """

    def __init__(self, num_classes: int, latent_dim: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.class_mean: Tensor
        self.to_shared: Tensor
        self.from_shared: Tensor
        self.register_buffer("class_mean", torch.zeros(num_classes, latent_dim))
        for name in ("to_shared", "from_shared"):
            # Not torch.eye, which on the meta device would import half of torch.
            identity = torch.zeros(num_classes, latent_dim, latent_dim)
            identity.diagonal(dim1=1, dim2=2).fill_(1.0)
            self.register_buffer(name, identity)

    def forward(self, mu: Tensor, y: Tensor) -> Tensor:
        """Encoder latents (B, Z) of labels (B,) to the shared space, (B, Z) float32."""
        return _matvec(self.to_shared[y], mu.float() - self.class_mean[y])

    def align_logvar(self, logvar: Tensor, y: Tensor) -> Tensor:
        """Log-variances (B, Z) after :meth:`forward`.

        The dimensions are independent before the map and correlated after it: these are the
        marginals.
        """
        return _matvec(self.to_shared[y].square(), logvar.float().exp()).log()

    def kl(self, mu: Tensor, logvar: Tensor, y: Tensor) -> Tensor:
        """KL divergence of the encoder's posterior from N(0, I) in the shared space.

        The same as that from the label's own prior, N(class_mean, from_shared from_shared^T), as in
        Kingma & Welling 2014, appendix B, with the correlations and the change of volume.

        Args:
            mu: (B, Z), the encoder's.
            logvar: (B, Z), the encoder's.
            y: (B,) int64.

        Returns:
            A scalar in nats per image.
        """
        shared, variance = self(mu, y), self.align_logvar(logvar, y).exp()
        volume = torch.linalg.slogdet(self.to_shared.cpu()).logabsdet.to(mu.device)[y]
        each = 0.5 * (shared.square() + variance - 1.0 - logvar.float()).sum(dim=1) - volume
        return each.mean()

    def inverse(self, z: Tensor, y: Tensor) -> Tensor:
        """Shared latents (B, Z) to those that the decoder takes for labels (B,)."""
        return _matvec(self.from_shared[y], z.float()) + self.class_mean[y]

    @torch.no_grad()
    def fit(
        self,
        share: Tensor,
        mean: Tensor,
        second_moment: Tensor,
        variance: Tensor,
        *,
        images: int,
        strength: float = 1.0,
    ) -> None:
        """Measure the maps from moments of the encoder's latents.

        Args:
            share: (K,), each class's share of all images.
            mean: (K, Z), mean of each class's posterior means, times its share.
            second_moment: (K, Z, Z), mean outer product of the same, times the share.
            variance: (K, Z), mean variance of the posteriors, times the share.
            images: how many images the moments were taken over.
            strength: how far the covariances are made equal, from 0 to 1; the means always are.

        Raises:
            FloatingPointError: a moment is not a finite number.
        """
        dim = mean.shape[1]
        # On the CPU and in double precision, which not every device has.
        share, mean, second_moment, variance = (
            part.cpu().double() for part in (share, mean, second_moment, variance)
        )
        if not all(part.isfinite().all() for part in (mean, second_moment, variance)):
            raise FloatingPointError("latents that are not finite numbers")
        known = share.clamp(min=1e-9)
        class_mean = mean / known[:, None]
        covariance = second_moment / known[:, None, None] - class_mean[:, :, None] * class_mean[:, None, :]
        pooled = covariance.mean(dim=0)
        # A few images do not determine a covariance: the fewer there are, the more of the pooled one
        # is used. The ridge keeps unused dimensions invertible.
        trust = (strength * share * images / (share * images + dim))[:, None, None]
        ridge = 1e-3 * torch.eye(dim, dtype=torch.float64)
        covariance = trust * covariance + (1 - trust) * pooled + ridge
        pooled = covariance.mean(dim=0)
        root, inverse_root = _power(covariance, 0.5), _power(covariance, -0.5)
        to_shared = inverse_root @ _power(root @ pooled @ root, 0.5) @ inverse_root  # (K, Z, Z), symmetric
        noise = (to_shared * (variance / known[:, None])[:, None, :] @ to_shared).mean(dim=0)
        to_shared = _power(pooled + noise, -0.5) @ to_shared
        self.class_mean.copy_(class_mean.float())
        self.to_shared.copy_(to_shared.float())
        self.from_shared.copy_(torch.linalg.inv(to_shared).float())


def _matvec(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(B, Z, Z) times (B, Z), in full precision even under autocast."""
    with torch.autocast(vectors.device.type, enabled=False):
        return (matrices @ vectors[:, :, None])[:, :, 0]


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """A power of symmetric positive definite matrices, (..., Z, Z)."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp(min=1e-9).pow(exponent)[..., None, :]) @ vectors.mT
