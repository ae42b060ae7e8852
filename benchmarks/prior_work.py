"""The prior work's way: its ResNet-18 pair, an image at a time, one figure of matplotlib each.

lightning-bolts' ``resnet18_encoder`` and ``resnet18_decoder`` (``enc_out_dim`` 512,
``latent_dim`` 256, ``input_height`` 32, no first convolution of stride 2, no pooling), from
lightning-bolts itself where it is installed and of the same layers built here where it is not.
Weights are random: they make no difference to speed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT = 256


class _DownBlock(nn.Module):
    """ResNet's basic block (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.short: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.short(x))


class _UpBlock(nn.Module):
    """The same turned round, as in lightning-bolts: what is larger is repeated before it is convolved."""

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__()
        larger: list[nn.Module] = [nn.Upsample(scale_factor=scale)] if scale > 1 else []
        self.main = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            *larger,
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.short: nn.Module = nn.Identity()
        if scale > 1 or inputs != outputs:
            self.short = nn.Sequential(
                *larger, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.short(x))


def _encoder() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_DownBlock(inputs, outputs, stride), _DownBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _decoder() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(LATENT, 512 * 4 * 4), nn.Unflatten(1, (512, 4, 4))]
    inputs = 512
    for outputs, scale in ((256, 2), (128, 2), (64, 2), (64, 1)):
        layers += [_UpBlock(inputs, outputs, scale), _UpBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(64, 3, 3, 1, 1, bias=False))


class PriorWork(nn.Module):
    """Encoder, linear layers and decoder, for batches of (B, 3, 32, 32)."""

    def __init__(self) -> None:
        """Build both, from lightning-bolts where it is there."""
        super().__init__()
        try:
            from pl_bolts.models.autoencoders.components import resnet18_decoder, resnet18_encoder
        except Exception:  # it fails to import in many ways beside newer packages
            self.source = "layers rebuilt"
            self.encoder, self.decoder = _encoder(), _decoder()
        else:
            self.source = "lightning-bolts"
            self.encoder = resnet18_encoder(False, False)
            self.decoder = resnet18_decoder(LATENT, 32, False, False)
        self.mu, self.logvar = nn.Linear(512, LATENT), nn.Linear(512, LATENT)

    def forward(self, x: Tensor) -> Tensor:
        """A sample of the posterior, decoded."""
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())


def figure(original: Any, tiles: Any, file: str) -> None:
    """The figure that it wrote for an image: the original and nine others, with titles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(1, 1 + len(tiles), figsize=(20, 2.5))
    for number, (axis, pixels) in enumerate(zip(axes, [original, *tiles], strict=True)):
        axis.imshow(pixels)
        axis.set_title("original" if number == 0 else f"label {number}")
        axis.axis("off")
    drawn.savefig(file)
    pyplot.close(drawn)
