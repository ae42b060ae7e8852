"""The networks: :class:`ConditionalVAE`, and the discriminator used only in training.

At every scale a residual convolution is preceded by a feature-wise affine map (FiLM, Perez et
al. 2018) whose scale and shift come from the label, in the decoder from the label and the latent
code together. Where there is normalisation it is within an image. So an output depends on its own
image alone: never on the batch, on running statistics, or on how many processes train.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

from cvae_cli.model.losses import bernoulli_nll, gaussian_nll, laplace_nll
from cvae_cli.model.spec import ModelSpec


class Terms(NamedTuple):
    """The named terms of one forward pass, scalars in nats per image."""

    recon_loss: Tensor
    kl: Tensor
    elbo: Tensor


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
        drawn: Tensor = self.conv(_silu(torch.addcmul(shift, h, 1.0 + scale)))
        return drawn.add_(h)


def _silu(h: Tensor) -> Tensor:
    """SiLU of what nothing else needs, in place unless a gradient is wanted."""
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
        # without bounds one bad batch in bf16 can send exp(logvar) to infinity.
        return mu, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """Latent code and label to an image; the label enters at every scale."""

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
    """Two normalised and modulated 3x3 convolutions beside a short way, maybe to twice the side.

    The generator's block of Miyato & Koyama 2018, with group normalisation (Wu & He 2018), so that
    it too depends on its own image alone. The side grows between the convolutions, not before both,
    which is less work.
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
        narrow = self.conv1(_modulated(h, self.film1(condition)))
        drawn = self.conv2(_modulated(self._grown(narrow), self.film2(condition)))
        return drawn + self._grown(self.short(h))

    def _grown(self, h: Tensor) -> Tensor:
        return h if self.scale == 1 else F.interpolate(h, scale_factor=float(self.scale), mode="nearest")


def _modulated(h: Tensor, film: Tensor) -> Tensor:
    """``silu(norm(h) * (1 + scale) + shift)`` in groups of 16 channels, of h's shape."""
    scale, shift = film[:, :, None, None].chunk(2, dim=1)
    normal = F.group_norm(h, max(1, h.shape[1] // 16))
    return _silu(torch.addcmul(shift, normal, 1.0 + scale))


_PIXEL_WIDTH = 8
"""Channels of the only feature map of the full side."""


class ResidualDecoder(nn.Module):
    """Latent code and label to an image, for photographs: twice as deep as :class:`Decoder`."""

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
        # Four pixels of each place at once (Shi et al. 2016, "Real-time single image super-resolution"):
        # wide maps of the full side would take as long as all the rest. Their last convolution is at
        # the full side, or the four would be seen as a grid.
        self.pixels = nn.Conv2d(w1, 4 * _PIXEL_WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_PIXEL_WIDTH, spec.channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return logits of the pixels, (B, C, H, W)."""
        condition = self.condition(torch.cat([z, self.label(y)], dim=1))
        h = self.start(torch.cat([condition, z], dim=1))
        h = h.view(-1, self.side, self.side, self.width8).permute(0, 3, 1, 2)  # channels last
        h = self.last(self.up2(self.up4(h, condition), condition), condition)
        return self.out(_silu(F.pixel_shuffle(self.pixels(_silu(h)), 2)))


class Classifier(nn.Module):
    """Reads the label of an image; serves input that comes without one."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the classifier of a spec."""
        super().__init__()
        side, width = spec.canvas_size // 8, spec.classifier_width
        self.features = nn.Sequential(
            nn.Conv2d(spec.channels, width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Flatten(),
        )
        dim = 4 * width
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(dim * side * side, dim), nn.SiLU(), nn.Linear(dim, spec.num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.head(self.features(x))


class ResidualClassifier(nn.Module):
    """Reads the label of a photograph; its feature maps also teach the decoder.

    Residual convolutions at 1/2, 1/4 and 1/8 of the side. It learns with batch normalisation
    (:meth:`normalised`), which is then folded into the convolutions: what is left computes the same,
    and depends on its own image alone.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the classifier of a spec."""
        super().__init__()
        width, inputs = spec.classifier_width, spec.channels
        self.down, self.residual = nn.ModuleList(), nn.ModuleList()
        for outputs, depth in ((width, 1), (2 * width, 2), (4 * width, 1)):
            self.down.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            same = (nn.Conv2d(outputs, outputs, 3, padding=1) for _ in range(depth))
            self.residual.append(nn.ModuleList(same))
            inputs = outputs
        self.head = nn.Linear(inputs, spec.num_classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps at 1/2, 1/4 and 1/8 of the side of (B, C, H, W) in [0, 1]; not negative."""
        found = []
        h = 2 * x - 1
        for down, same in zip(self.down, self.residual, strict=True):
            h = F.relu(down(h))
            assert isinstance(same, nn.ModuleList)
            for convolution in same:
                h = h + F.relu(convolution(h))
            found.append(h)
        return found

    def read(self, maps: list[Tensor]) -> Tensor:
        """Logits, (B, K), of what :meth:`maps` found."""
        return self.head(maps[-1].mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.read(self.maps(x))

    def normalised(self) -> ResidualClassifier:
        """A copy, with a batch normalisation after each convolution, to be trained."""
        other = copy.deepcopy(self)
        for convolutions in (other.down, *other.residual):
            for number, convolution in enumerate(convolutions):
                convolutions[number] = nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))
        return other

    @torch.no_grad()
    def fold(self, trained: ResidualClassifier) -> None:
        """Take the weights of a trained :meth:`normalised` copy."""
        trained.eval()
        for mine, theirs in zip((self.down, *self.residual), (trained.down, *trained.residual), strict=True):
            for convolution, pair in zip(mine, theirs, strict=True):
                folded = fuse_conv_bn_eval(pair[0], pair[1])
                convolution.load_state_dict(folded.state_dict())
        self.head.load_state_dict(trained.head.state_dict())


class CommonCode(nn.Module):
    """Brings the codes of every class to the same mean, and their covariances together; and back.

    An encoder that knows the label is free to use its code in another way for every class: then
    the code gives the label away, and a code of one class means something else in another. Here
    the Gaussian of each class's codes is carried to one that is common to all, by the linear map
    that moves them least (optimal transport between Gaussians: Peyre & Cuturi 2019,
    "Computational optimal transport", eq. 2.40), and that one to N(0, I), the prior. Within a
    class nothing is lost, since the decoder carries the codes back. What no linear map can move
    stays: a probe that is not linear may still tell classes apart.

    ``centre`` (K, Z), ``there`` and ``back`` (K, Z, Z) are measured, not learned by gradient.
    """

    def __init__(self, classes: int, dim: int) -> None:
        """Begin with the identity."""
        super().__init__()
        self.centre: Tensor
        self.there: Tensor
        self.back: Tensor
        self.register_buffer("centre", torch.zeros(classes, dim))
        self.register_buffer("there", torch.eye(dim).repeat(classes, 1, 1))
        self.register_buffer("back", torch.eye(dim).repeat(classes, 1, 1))

    def forward(self, mu: Tensor, y: Tensor) -> Tensor:
        """The encoder's codes (B, Z) of labels (B,) to common ones."""
        return _times(self.there[y], mu.float() - self.centre[y])

    def map_logvar(self, logvar: Tensor, y: Tensor) -> Tensor:
        """The logarithms of the variances, (B, Z), after :meth:`forward`.

        Independent before, the dimensions are correlated after it: these are their marginals.
        """
        return _times(self.there[y].square(), logvar.float().exp()).log()

    def kl(self, mu: Tensor, logvar: Tensor, y: Tensor) -> Tensor:
        """KL divergence of the encoder's posterior from N(0, I) in the common code.

        The same as that from the prior N(centre, back back^T) of its label, as in Kingma &
        Welling 2014, appendix B, with the correlations and the change of volume.

        Args:
            mu: (B, Z), the encoder's.
            logvar: (B, Z), the encoder's.
            y: (B,) int64.

        Returns:
            A scalar in nats per image.
        """
        code, variance = self(mu, y), self.map_logvar(logvar, y).exp()
        volume = torch.linalg.slogdet(self.there.cpu()).logabsdet.to(mu.device)[y]
        each = 0.5 * (code.square() + variance - 1.0 - logvar.float()).sum(dim=1) - volume
        return each.mean()

    def inverse(self, z: Tensor, y: Tensor) -> Tensor:
        """Common codes (B, Z) to those that the decoder takes for labels (B,)."""
        return _times(self.back[y], z.float()) + self.centre[y]

    @torch.no_grad()
    def fit(
        self,
        share: Tensor,
        mean: Tensor,
        square: Tensor,
        variance: Tensor,
        *,
        images: int,
        strength: float = 1.0,
    ) -> None:
        """Measure the maps from moments of the encoder's codes.

        Args:
            share: (K,), of each class among all images.
            mean: (K, Z), of the posterior means of each class, times its share.
            square: (K, Z, Z), mean outer product of the same, times the share.
            variance: (K, Z), mean variance of the posteriors, times the share.
            images: how many images these are the moments of.
            strength: how far the covariances are made equal, from 0 to 1; the means always are.
        """
        dim = mean.shape[1]
        # On the CPU and in double precision, which not every device has.
        share, mean, square, variance = (part.cpu().double() for part in (share, mean, square, variance))
        known = share.clamp(min=1e-9)
        centre = mean / known[:, None]
        own = square / known[:, None, None] - centre[:, :, None] * centre[:, None, :]
        # Few images do not tell a covariance: the fewer, the more of that of all classes, and a
        # little more, so that a dimension that is not used can be turned round.
        common = own.mean(dim=0)
        trust = (strength * share * images / (share * images + dim))[:, None, None]
        ridge = 1e-3 * torch.eye(dim, dtype=torch.float64)
        own = trust * own + (1 - trust) * common + ridge
        common = own.mean(dim=0)
        root, inverse = _power(own, 0.5), _power(own, -0.5)
        there = inverse @ _power(root @ common @ root, 0.5) @ inverse  # (K, Z, Z), symmetric
        noise = (there * (variance / known[:, None])[:, None, :] @ there).mean(dim=0)
        there = _power(common + noise, -0.5) @ there
        self.centre.copy_(centre.float())
        self.there.copy_(there.float())
        self.back.copy_(torch.linalg.inv(there).float())


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(B, Z, Z) times (B, Z), in full precision also where others are in half of it."""
    with torch.autocast(vectors.device.type, enabled=False):
        return (matrices @ vectors[:, :, None])[:, :, 0]


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """A power of symmetric positive definite matrices, (..., Z, Z)."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp(min=1e-9).pow(exponent)[..., None, :]) @ vectors.mT


class ConditionalVAE(nn.Module):
    """A variational autoencoder whose decoder draws what the label says.

    Sohn, Lee & Yan 2015, "Learning structured output representation using deep conditional
    generative models"; the posterior is Gaussian with diagonal covariance, the prior N(0, I)
    for every label. Images are (B, C, H, W) float tensors in [0, 1] of the spec's canvas size;
    labels are (B,) int64.

    Codes of all labels have the same mean and covariances that are close (:class:`CommonCode`):
    what a code says of an image is its place among those of its class.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the network that a spec describes, with random weights."""
        super().__init__()
        self.spec = spec
        self.encoder: nn.Module
        self.decoder: nn.Module
        if spec.arch == "resnet18":
            # Here, because lightning-bolts takes seconds to import, where it is installed at all.
            from cvae_cli.model.resnet import ResNetDecoder, ResNetEncoder

            self.encoder, self.decoder = ResNetEncoder(spec), ResNetDecoder(spec)
        else:
            self.encoder = Encoder(spec)
            self.decoder = Decoder(spec) if spec.arch == "compact" else ResidualDecoder(spec)
        # Where there is a classifier by whose feature maps tiles are drawn, it is the better one.
        self.classifier: nn.Module
        self.classifier = ResidualClassifier(spec) if spec.arch == "residual" else Classifier(spec)
        self.common = CommonCode(spec.num_classes, spec.latent_dim)
        if spec.likelihood != "bernoulli":
            self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def recon_loss(self, logits: Tensor, x: Tensor) -> Tensor:
        """Negative log-likelihood of images given the decoder's logits, nats per image."""
        if self.spec.likelihood == "laplace":
            return laplace_nll(logits, x, self.log_scale)
        if self.spec.likelihood == "gaussian":
            return gaussian_nll(logits, x, self.log_scale)
        return bernoulli_nll(logits, x)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of images given their own labels: ``mu`` and ``logvar``, each (B, Z).

        In the common code. There the dimensions of one image's posterior are correlated, and
        ``logvar`` are those of their marginals: enough to see which are in use, not to sample.
        """
        mu, logvar = self.encoder(x, y)
        return self.common(mu, y), self.common.map_logvar(logvar, y)

    def decode_logits(self, z: Tensor, y: Tensor) -> Tensor:
        """Pixels before the sigmoid, (B, C, H, W)."""
        return self.decoder(self.common.inverse(z, y), y)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Mean image in [0, 1], (B, C, H, W), of codes ``z`` (B, Z) drawn as labels ``y``."""
        return torch.sigmoid(self.decode_logits(z, y))

    def classify(self, x: Tensor) -> Tensor:
        """Logits, (B, K), of the label of images that come without one."""
        return self.classifier(x)

    def relabel(self, mu: Tensor, targets: Tensor) -> Tensor:
        """Draw each code under several labels, in one batch.

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
            noise: (B, Z) from N(0, I); drawn here if there is none.
        """
        mu, logvar = self.encoder(x, y)
        noise = torch.randn_like(mu) if noise is None else noise
        z = mu + noise * (0.5 * logvar).exp()
        # Sampled where the encoder puts it: there its dimensions are independent.
        recon_loss = self.recon_loss(self.decoder(z, y), x)
        kl = self.common.kl(mu, logvar, y)
        return Terms(recon_loss=recon_loss, kl=kl, elbo=-(recon_loss + kl))


class ProjectionDiscriminator(nn.Module):
    """Tells real from drawn images, given the label; only training uses it.

    Miyato & Koyama 2018, "cGANs with projection discriminator", with spectral normalisation
    (Miyato et al. 2018) on every layer.
    """

    def __init__(self, spec: ModelSpec, width: int, *, centred: bool = False) -> None:
        """Build a discriminator.

        Args:
            spec: of the images.
            width: channels of its first layer.
            centred: whether it sees images in [-1, 1], and keeps the variance of its maps: it then
                learns about three times as fast on photographs, whose mean is not black.
        """
        super().__init__()
        side = spec.canvas_size // 8
        self.centred = centred
        self.features = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            for inputs, outputs in ((spec.channels, width), (width, 2 * width), (2 * width, 4 * width))
        )
        dim = 4 * width * side * side
        self.score = spectral_norm(nn.Linear(dim, 1))
        self.label = spectral_norm(nn.Embedding(spec.num_classes, dim))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores, (B,), positive reads as real; and the feature maps they come from."""
        maps, gain = [], math.sqrt(2.0) if self.centred else 1.0
        x = 2 * x - 1 if self.centred else x
        for convolution in self.features:
            x = gain * F.leaky_relu(convolution(x), 0.2)
            maps.append(x)
        h = x.flatten(1)
        return self.score(h).squeeze(1) + (self.label(y) * h).sum(dim=1), maps


class FeatureDiscriminator(nn.Module):
    """Tells real from drawn images by the feature maps of a classifier; only training uses it.

    One discriminator on the maps of either smaller scale, on features that are learned before and stay
    as they are: Sauer et al. 2021, "Projected GANs converge faster". Here they are of a classifier
    of the very same images, and each discriminator knows the label (Miyato & Koyama 2018).
    """

    def __init__(self, spec: ModelSpec, width: int) -> None:
        """Build the discriminators; ``width`` is the number of their channels."""
        super().__init__()
        self.steps = nn.ModuleList()
        for downs, inputs in ((1, 2 * spec.classifier_width), (0, 4 * spec.classifier_width)):
            step = nn.ModuleList()
            if downs:
                step.append(spectral_norm(nn.Conv2d(inputs, width, 4, stride=2, padding=1)))
                inputs = width
            step.append(spectral_norm(nn.Conv2d(inputs, width, 3, padding=1)))
            self.steps.append(step)
        self.score = nn.ModuleList(spectral_norm(nn.Linear(width, 1)) for _ in self.steps)
        self.label = nn.ModuleList(spectral_norm(nn.Embedding(spec.num_classes, width)) for _ in self.steps)

    def forward(self, maps: list[Tensor], y: Tensor) -> Tensor:
        """Scores, (B, 2), one a scale; positive reads as real.

        Args:
            maps: from :meth:`ResidualClassifier.maps`.
            y: (B,) int64.
        """
        scores = []
        for h, step, score, label in zip(maps[1:], self.steps, self.score, self.label, strict=True):
            assert isinstance(step, nn.ModuleList)
            for convolution in step:
                h = math.sqrt(2.0) * F.leaky_relu(convolution(h), 0.2)
            # The sum over places, as in the paper of the projection.
            h = h.sum(dim=(2, 3)) / math.sqrt(h.shape[2] * h.shape[3])
            scores.append(score(h).squeeze(1) + (label(y) * h).sum(dim=1))
        return torch.stack(scores, dim=1)
