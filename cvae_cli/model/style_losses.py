"""Differentiable measures of style, which training compares between an image and its tiles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def stroke_style(x: Tensor) -> Tensor:
    """Thickness, slant and width of bright strokes, differentiably.

    Stand-ins for the measures of Morpho-MNIST (Castro et al. 2019), which need a skeleton and
    quantiles: ink over length of outline; the shear u11 / u02 of the ink's moments; and how far
    the ink reaches, by its eighth moment, on either side of the slanted axis.

    Args:
        x: (B, 1, H, W), values in [0, 1].

    Returns:
        (B, 3), float32: half a thickness in pixels, a shear, a width in eighths of a pixel.
    """
    ink = x[:, 0].float()
    rows = torch.arange(ink.shape[1], dtype=torch.float32, device=ink.device)
    columns = torch.arange(ink.shape[2], dtype=torch.float32, device=ink.device)
    mass = ink.sum(dim=(1, 2)) + 1e-3
    from_y = rows - ((ink.sum(dim=2) * rows).sum(dim=1) / mass)[:, None]  # (B, H)
    from_x = columns - ((ink.sum(dim=1) * columns).sum(dim=1) / mass)[:, None]  # (B, W)
    # Not as a matrix product, which mixed precision would do in 16 bits.
    u11 = (ink * from_y[:, :, None] * from_x[:, None, :]).sum(dim=(1, 2)) / mass
    u02 = (ink.sum(dim=2) * from_y.square()).sum(dim=1) / mass
    shear = u11 / (u02 + 0.5)  # not a dot, which has no slant
    across = from_x[:, None, :] - shear[:, None, None] * from_y[:, :, None]
    reach = [
        ((ink * F.relu(side * across / 8).pow(8)).sum(dim=(1, 2)) / mass + 1e-8).pow(1 / 8)
        for side in (1, -1)
    ]
    right = ink[:, :-1, 1:] - ink[:, :-1, :-1]
    down = ink[:, 1:, :-1] - ink[:, :-1, :-1]
    outline = ((right.square() + down.square() + 1e-4).sqrt() - 1e-2).sum(dim=(1, 2)) + 0.1
    return torch.stack([mass / outline, shear, reach[0] + reach[1]], dim=1)


def silhouette_style(x: Tensor) -> Tensor:
    """Brightness and area of bright objects on black, differentiably.

    Args:
        x: (B, 1, H, W), values in [0, 1].

    Returns:
        (B, 2), float32, in [0, 1]: the mean, and the share of pixels from about a tenth up.
    """
    x = x.float()
    area = torch.sigmoid((x - 0.1) * 40)  # from 0.02 at black to 0.98 at a fifth
    return torch.cat([x.mean(dim=(2, 3)), area.mean(dim=(2, 3))], dim=1)


def colour_layout(x: Tensor) -> Tensor:
    """Mean colours over a 4x4 grid.

    Args:
        x: (B, C, H, W), values in [0, 1].

    Returns:
        (B, 16 * C) float32.
    """
    return F.adaptive_avg_pool2d(x.float(), 4).flatten(1)
