"""Networks that tell real images from drawn ones; only training uses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cvae_cli.model.spec import ModelSpec


class ProjectionDiscriminator(nn.Module):
    """Tells real from drawn images, given the label.

    Miyato & Koyama 2018, "cGANs with projection discriminator", with spectral normalisation
    (Miyato et al. 2018) on every layer.
    """

    def __init__(self, spec: ModelSpec, width: int, *, centred: bool = False) -> None:
        """Build a discriminator.

        Args:
            spec: of the images.
            width: channels of its first layer.
            centred: whether images are scaled to [-1, 1] and the variance of the maps is kept. It
                then learns about three times as fast on photographs, whose mean is not black.
        """
        super().__init__()
        self.centred = centred
        widths = (spec.channels, *(width * min(2**number, 4) for number in range(spec.depth)))
        self.features = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            for inputs, outputs in pairwise(widths)
        )
        dim = widths[-1] * spec.coarsest_side**2
        self.score = spectral_norm(nn.Linear(dim, 1))
        self.label = spectral_norm(nn.Embedding(spec.num_classes, dim))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores, (B,), positive for real; and the feature maps they come from."""
        maps, gain = [], math.sqrt(2.0) if self.centred else 1.0
        x = 2 * x - 1 if self.centred else x
        for convolution in self.features:
            x = gain * F.leaky_relu(convolution(x), 0.2)
            maps.append(x)
        h = x.flatten(1)
        return self.score(h).squeeze(1) + (self.label(y) * h).sum(dim=1), maps


class FeatureDiscriminator(nn.Module):
    """Tells real from drawn images by the feature maps of a frozen network.

    One discriminator on the maps of each scale (Sauer et al. 2021, "Projected GANs converge faster"), which
    is given the label (Miyato & Koyama 2018).
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int) -> None:
        """Build the discriminators.

        Args:
            channels: of the feature maps, each of half the side of the one before.
            num_classes: number of labels.
            width: channels of each discriminator.
        """
        super().__init__()
        self.steps = nn.ModuleList()
        for number, inputs in enumerate(channels, start=1):
            step = nn.ModuleList()
            for _ in range(len(channels) - number):
                step.append(spectral_norm(nn.Conv2d(inputs, width, 4, stride=2, padding=1)))
                inputs = width
            step.append(spectral_norm(nn.Conv2d(inputs, width, 3, padding=1)))
            self.steps.append(step)
        self.score = nn.ModuleList(spectral_norm(nn.Linear(width, 1)) for _ in self.steps)
        self.label = nn.ModuleList(spectral_norm(nn.Embedding(num_classes, width)) for _ in self.steps)

    def forward(self, maps: list[Tensor], y: Tensor) -> Tensor:
        """Scores, (B, S), one per scale; positive for real.

        Args:
            maps: S feature maps, (B, C, H, W) each.
            y: (B,) int64.
        """
        scores = []
        for h, step, score, label in zip(maps, self.steps, self.score, self.label, strict=True):
            assert isinstance(step, nn.ModuleList)
            for convolution in step:
                h = math.sqrt(2.0) * F.leaky_relu(convolution(h), 0.2)
            # Summed over positions, as in Miyato & Koyama 2018.
            h = h.sum(dim=(2, 3)) / math.sqrt(h.shape[2] * h.shape[3])
            scores.append(score(h).squeeze(1) + (label(y) * h).sum(dim=1))
        return torch.stack(scores, dim=1)
