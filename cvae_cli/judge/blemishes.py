"""A second sign of broken tiles: a small network that tells images with a local blemish from sound ones.

A classifier's features are averages over the whole image: a grey dot inside a zero hardly moves them.
So a network of its own is taught to find such spots, from real images alone: half of those it sees have
been spoiled on purpose. The idea is that of CutPaste (Li et al. 2021, "CutPaste: self-supervised learning
for anomaly detection and localization", section 3) and of foreign patch interpolation (Tan et al. 2020,
"Detecting outliers with foreign patch interpolation", section 2). No tile of any model is ever among them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvae_cli.model.canvas import images_at_once

WIDTHS = (24, 32, 48)
"""Channels of the feature maps at 1/1, 1/2 and 1/2 of the image."""
MIN_STEPS, MAX_STEPS = 200, 1500
_EPOCHS = 10
_BATCH, _LEAST_BATCH = 128, 16
_LEARNING_RATE = 4e-3


class BlemishNetwork(nn.Module):
    """Three convolutions; their mean and their maximum over all positions; one number."""

    def __init__(self, channels: int, widths: tuple[int, ...] = WIDTHS, *, training: bool = False) -> None:
        """Build the network; with batch normalisation only for training, as the judge's own."""
        super().__init__()
        inputs = (channels, *widths)
        self.convolutions = nn.ModuleList()
        for before, after in zip(inputs, widths, strict=False):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=not training)
            self.convolutions.append(nn.Sequential(conv, nn.BatchNorm2d(after)) if training else conv)
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B,) logits of having a blemish."""
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if number == 0:
                x = F.max_pool2d(x, 2)
        return self.head(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))[:, 0]

    def fold(self, channels: int) -> BlemishNetwork:
        """The same function without batch normalisation."""
        self.eval()
        widths = tuple(pair[0].out_channels for pair in self.convolutions)  # type: ignore[index]
        folded = BlemishNetwork(channels, widths).eval()
        for number, pair in enumerate(self.convolutions):
            folded.convolutions[number] = fuse_conv_bn_eval(*pair)  # type: ignore[misc]
        folded.head = self.head
        return folded


def train_blemishes(
    images: Tensor, device: torch.device, progress: Callable[[int, int], None] = lambda done, total: None
) -> BlemishNetwork:
    """Teach a network to find blemishes.

    Args:
        images: (N, C, H, W) uint8, real and sound; N at least 2.
        device: to train on.
        progress: called after each step with the number of steps done and in all.

    Returns:
        The network in evaluation mode, on the CPU, without batch normalisation.
    """
    channels = images.shape[1]
    network = BlemishNetwork(channels, training=True).to(device)
    most = min(_BATCH, max(_LEAST_BATCH, images_at_once(4 * _BATCH, images.shape[-1])))
    batch, steps = max(2, min(most, len(images) // 8)), count_steps(len(images))
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images))
        chosen, order = order[:batch], order[batch:]
        x = images[chosen].to(device).float() / 255
        # Both are softened: how soft its edges are tells whether a model drew an image, not whether
        # it drew it well.
        logits = network(torch.cat([random_softness(x), random_softness(random_blemish(x))]))
        spoiled = torch.cat([torch.zeros(len(x)), torch.ones(len(x))]).to(device)
        loss = F.binary_cross_entropy_with_logits(logits, spoiled)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        progress(step + 1, steps)
    return network.cpu().fold(channels)


def count_steps(images: int) -> int:
    """How many steps :func:`train_blemishes` takes for a number of images."""
    return min(MAX_STEPS, max(MIN_STEPS, _EPOCHS * images // _BATCH))


def random_blemish(x: Tensor) -> Tensor:
    """Spoil every image at one place, each in another way.

    A spot is blended with the same spot of another image, or with one grey level, so that it is a dot or
    a gap; or the whole image is made ragged. The spot lies where there is something to see.

    Args:
        x: (B, C, H, W) in [0, 1].

    Returns:
        The same shape, in [0, 1].
    """
    batch, _, height, width = x.shape
    where = x.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, device=where)

    rows = torch.arange(height, device=where, dtype=torch.float32).view(1, 1, -1, 1)
    columns = torch.arange(width, device=where, dtype=torch.float32).view(1, 1, 1, -1)
    grey = x.mean(dim=1, keepdim=True)
    contrast = F.max_pool2d(grey, 7, 1, 3) + F.max_pool2d(-grey, 7, 1, 3)
    centre = torch.multinomial((contrast > 0.3).flatten(1).float() + 1e-6, 1).view(-1, 1, 1, 1)
    down = rows - centre.div(width, rounding_mode="floor")
    right = columns - centre % width
    stretch = uniform(0.6, 1.6)
    # For images of another size than MNIST's, of as large a share of the side.
    radius = uniform(1.0, 4.0) * height / 28
    spot = torch.sigmoid(3 * (radius - (down.square() * stretch + right.square() / stretch).sqrt()))
    foreign = x + spot * uniform(0.3, 1.0) * (x[torch.randperm(batch, device=where)] - x)
    dot = torch.maximum(x, spot * uniform(0.15, 0.8))
    gap = x * (1 - spot * uniform(0.3, 0.9))
    moved = [
        2 * uniform(0.5, 1.5)[:, 0]
        * F.avg_pool2d(torch.randn(batch, 1, height, width, device=where), 3, 1, 1)[:, 0]
        for _ in range(2)
    ]  # fmt: skip
    grid = torch.stack(
        [
            2 * (columns[0] + moved[0]) / max(1, width - 1) - 1,
            2 * (rows[0] + moved[1]) / max(1, height - 1) - 1,
        ],
        dim=-1,
    )
    ragged = F.grid_sample(x, grid, padding_mode="border", align_corners=True)
    kind = torch.randint(0, 4, (batch, 1, 1, 1), device=where)
    spoiled = torch.where(kind == 0, foreign, torch.where(kind == 1, dot, gap))
    return torch.where(kind == 3, ragged, spoiled).clamp(0, 1)


def random_softness(x: Tensor) -> Tensor:
    """Blur every image a little and change its contrast, each differently; (B, C, H, W) in [0, 1]."""
    batch = len(x)
    blur = 0.25 * torch.rand(batch, 1, 1, 1, device=x.device)
    around = (x.roll(1, 2) + x.roll(-1, 2) + x.roll(1, 3) + x.roll(-1, 3)) / 4
    gain = 0.8 + torch.rand(batch, 1, 1, 1, device=x.device)
    soft = (((1 - 2 * blur) * x + 2 * blur * around - 0.5) * gain + 0.5).clamp(0, 1)
    return soft * x.amax(dim=(1, 2, 3), keepdim=True)
