"""The conditional variational autoencoder, put together from its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cvae_cli.model.alignment import LatentAlignment
from cvae_cli.model.autoencoder import Decoder, Encoder, ResidualDecoder
from cvae_cli.model.classifiers import make_classifier
from cvae_cli.model.latent_maps import Given, Inferred, Latent, map_shapes
from cvae_cli.model.losses import bernoulli_nll, gaussian_nll, laplace_nll
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.tile_decoder import TileDecoder
from cvae_cli.model.whitened import WhitenedClassifier


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

    With latent maps (:mod:`cvae_cli.model.latent_maps`) it is a hierarchy of three levels: the vector, and
    maps at twice and at four times the coarsest feature maps.

    Where the spec has ``tile_widths``, ``tiles`` draws what is not an image's own label, several times as
    fast as the decoder.

    Latent vectors of all labels share a mean and nearly share a covariance (:class:`LatentAlignment`): a
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
        self.tiles = TileDecoder(spec) if spec.tile_widths else None
        self.classifier = make_classifier(spec)
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
        mu, logvar, _ = self.encoder(x, y)
        return self.alignment(mu, y), self.alignment.align_logvar(logvar, y)

    def infer(self, x: Tensor, y: Tensor, *, with_maps: bool = True) -> Latent:
        """What images say beyond their labels: means of the posteriors.

        Args:
            x: (B, C, H, W).
            y: (B,) int64.
            with_maps: whether the latent maps are wanted too.
        """
        mu, _, features = self.encoder(x, y)
        z = self.alignment(mu, y)
        if not features or not with_maps:
            return Latent(z)
        inferred = Inferred(features)
        self.decoder.infer(self.alignment.inverse(z, y), y, inferred)  # type: ignore[operator]
        return Latent(z, tuple(inferred.maps))

    def decode_logits(self, z: Tensor, y: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Pixels before the sigmoid, (B, C, H, W)."""
        return self.decoder(self.alignment.inverse(z, y), y, Given(maps))

    def decode(self, z: Tensor, y: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Mean image in [0, 1], (B, C, H, W), of latents drawn as labels.

        Args:
            z: (B, Z).
            y: (B,) int64.
            maps: residuals of the latent maps; none for the mean of their prior.
        """
        return torch.sigmoid(self.decode_logits(z, y, maps))

    def classify(self, x: Tensor) -> Tensor:
        """Logits, (B, K), of the label of images that come without one; calibrated."""
        if isinstance(self.classifier, WhitenedClassifier):
            return self.classifier.mirrored_logits(x) / self.spec.label_temperature
        logits: Tensor = self.classifier(x)
        return logits / self.spec.label_temperature

    def relabel(self, latent: Latent, y: Tensor | None, targets: Tensor) -> Tensor:
        """Draw each latent under several labels, in one batch.

        Args:
            latent: from :meth:`infer`, or from the prior.
            y: (B,) int64, the images' own labels, under which the latent is used as it is. Under others the
                vector is shrunk by :meth:`latent_scale`, and of the maps' residuals the share is used that
                the spec says. ``None`` uses all of it everywhere, as for samples.
            targets: (B, T) int64.

        Returns:
            (B, T, C, H, W) in [0, 1].
        """
        if self.tiles is not None and (y is not None or not latent.maps):
            return self._relabel_fast(latent, y, targets)
        batch, count = targets.shape
        z = latent.z[:, None, :].expand(-1, count, -1)
        share = torch.ones_like(targets, dtype=torch.float32)
        if y is not None:
            own = targets == y[:, None]
            share = torch.where(own, share, share * self.spec.map_carry)
            if self.spec.latent_norm is not None:
                z = torch.where(own[:, :, None], z, z * self.latent_scale(latent.z)[:, None, None])
        z = z.contiguous().flatten(0, 1)
        maps = [(each[:, None] * share[:, :, None, None, None]).flatten(0, 1) for each in latent.maps]
        tiles = self.decode(z, targets.reshape(-1), maps)
        return tiles.unflatten(0, (batch, count))

    def _relabel_fast(self, latent: Latent, y: Tensor | None, targets: Tensor) -> Tensor:
        """As :meth:`relabel`, all but the images' own labels by the decoder of tiles."""
        assert self.tiles is not None
        batch, count = targets.shape
        z = latent.z if y is None else latent.z * self.latent_scale(latent.z)[:, None]
        # Copied before it is reshaped, which of an expanded tensor would exclude single tiles from a graph.
        each = z[:, None, :].expand(-1, count, -1).contiguous().flatten(0, 1)
        every = targets.reshape(-1)
        logits = self.tiles(self.alignment.inverse(each, every), every)
        tiles = torch.sigmoid(logits).unflatten(0, (batch, count))
        if y is None:
            return tiles
        own = targets == y[:, None]
        # A graph that is exported has no branches: there they are always drawn.
        if not torch.compiler.is_compiling() and not own.any():
            return tiles
        itself = self.decode(latent.z, y, latent.maps).to(tiles.dtype)[:, None].expand_as(tiles)
        return torch.where(own[:, :, None, None, None].expand_as(tiles), itself, tiles)

    def latent_scale(self, z: Tensor) -> Tensor:
        """What latent vectors (B, Z) are multiplied by under another label: (B,), 1 but for the longest."""
        if self.spec.latent_norm is None:
            return z.new_ones(z.shape[0])
        return (self.spec.latent_norm / z.norm(dim=1).clamp(min=1e-6)).clamp(max=1.0)

    def draw_noise(self, count: int, generator: torch.Generator | None = None) -> Latent:
        """``count`` samples of N(0, I) for every level, on the CPU: of the prior, or noise of a posterior."""
        shapes = map_shapes(self.spec.latent_maps, self.spec.coarsest_side)
        z = torch.randn(count, self.spec.latent_dim, generator=generator)
        return Latent(z, tuple(torch.randn(count, *shape, generator=generator) for shape in shapes))

    def forward(self, x: Tensor, y: Tensor, noise: Latent | None = None) -> Terms:
        """Evidence lower bound by one sample of the posterior (reparameterised).

        Args:
            x: (B, C, H, W).
            y: (B,) int64.
            noise: of every level, from :meth:`draw_noise`; drawn here by default.
        """
        mu, logvar, features = self.encoder(x, y)
        noise = noise or self.draw_noise(len(x))
        # Sampled in the encoder's own space, where the dimensions are independent.
        z = mu + noise.z.to(mu.device) * (0.5 * logvar).exp()
        residuals = Inferred(features, [each.to(mu.device) for each in noise.maps])
        recon_loss = self.recon_loss(self.decoder(z, y, residuals), x)
        kl = self.alignment.kl(mu, logvar, y)
        if features:
            kl = kl + torch.as_tensor(residuals.kl).mean()
        return Terms(recon_loss=recon_loss, kl=kl, elbo=-(recon_loss + kl))
