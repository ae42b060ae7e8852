"""The conditional variational autoencoder, put together from its parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cvae_cli.model.alignment import LatentAlignment
from cvae_cli.model.autoencoder import Decoder, Encoder, ResidualDecoder
from cvae_cli.model.classifiers import Classifier, ResidualClassifier
from cvae_cli.model.losses import bernoulli_nll, gaussian_nll, laplace_nll
from cvae_cli.model.spec import ModelSpec


class Terms(NamedTuple):
    """The named terms of one forward pass, scalars in nats per image."""

    recon_loss: Tensor
    kl: Tensor
    elbo: Tensor


class ConditionalVAE(nn.Module):
    """A variational autoencoder whose decoder draws what the label says.

    Sohn, Lee & Yan 2015, "Learning structured output representation using deep conditional
    generative models". The posterior is Gaussian with diagonal covariance, the prior N(0, I) for
    every label. Images are (B, C, H, W) float tensors in [0, 1] of the spec's canvas size; labels
    are (B,) int64.

    Latents of all labels share a mean and nearly share a covariance (:class:`LatentAlignment`): a
    latent says where an image lies among those of its class.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the network that a spec describes, with random weights."""
        super().__init__()
        self.spec = spec
        self.encoder: nn.Module
        self.decoder: nn.Module
        if spec.arch == "resnet18":
            # Imported here because lightning-bolts takes seconds to import, if it is installed at all.
            from cvae_cli.model.resnet import ResNetDecoder, ResNetEncoder

            self.encoder, self.decoder = ResNetEncoder(spec), ResNetDecoder(spec)
        else:
            self.encoder = Encoder(spec)
            self.decoder = Decoder(spec) if spec.arch == "compact" else ResidualDecoder(spec)
        self.classifier: nn.Module
        self.classifier = ResidualClassifier(spec) if spec.arch == "residual" else Classifier(spec)
        self.alignment = LatentAlignment(spec.num_classes, spec.latent_dim)
        if spec.likelihood != "bernoulli":
            self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def recon_loss(self, logits: Tensor, x: Tensor) -> Tensor:
        """Negative log-likelihood of images given the decoder's logits, in nats per image."""
        if self.spec.likelihood == "laplace":
            return laplace_nll(logits, x, self.log_scale)
        if self.spec.likelihood == "gaussian":
            return gaussian_nll(logits, x, self.log_scale)
        return bernoulli_nll(logits, x)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of images given their own labels: ``mu`` and ``logvar``, each (B, Z).

        Both are in the shared latent space. There the dimensions of one image's posterior are
        correlated, and ``logvar`` holds the marginals: enough to see which dimensions are in use, not
        to sample from.
        """
        mu, logvar = self.encoder(x, y)
        return self.alignment(mu, y), self.alignment.align_logvar(logvar, y)

    def decode_logits(self, z: Tensor, y: Tensor) -> Tensor:
        """Pixels before the sigmoid, (B, C, H, W)."""
        return self.decoder(self.alignment.inverse(z, y), y)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Mean image in [0, 1], (B, C, H, W), of latents ``z`` (B, Z) drawn as labels ``y``."""
        return torch.sigmoid(self.decode_logits(z, y))

    def classify(self, x: Tensor) -> Tensor:
        """Logits, (B, K), of the label of images that come without one."""
        return self.classifier(x)

    def relabel(self, mu: Tensor, targets: Tensor) -> Tensor:
        """Draw each latent under several labels, in one batch.

        Args:
            mu: (B, Z), from :meth:`encode`.
            targets: (B, T) int64.

        Returns:
            (B, T, C, H, W) in [0, 1].
        """
        batch, count = targets.shape
        z = mu[:, None, :].expand(-1, count, -1).reshape(batch * count, -1)
        tiles = self.decode(z, targets.reshape(-1))
        return tiles.unflatten(0, (batch, count))

    def forward(self, x: Tensor, y: Tensor, noise: Tensor | None = None) -> Terms:
        """Evidence lower bound by one sample of the posterior (reparameterised).

        Args:
            x: (B, C, H, W).
            y: (B,) int64.
            noise: (B, Z) from N(0, I); drawn here by default.
        """
        mu, logvar = self.encoder(x, y)
        noise = torch.randn_like(mu) if noise is None else noise
        # Sampled in the encoder's own space, where the dimensions are independent.
        z = mu + noise * (0.5 * logvar).exp()
        recon_loss = self.recon_loss(self.decoder(z, y), x)
        kl = self.alignment.kl(mu, logvar, y)
        return Terms(recon_loss=recon_loss, kl=kl, elbo=-(recon_loss + kl))
