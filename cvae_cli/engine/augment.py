"""Changes to real images that leave their class as it is, a batch at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(x: Tensor, degrees: float, scale: float, shift: float, shear: float = 0.0) -> Tensor:
    """Rotate, scale, shift and shear every image a little, each in its own way; black outside.

    Args:
        x: (B, C, H, W).
        degrees: largest rotation, either way.
        scale: largest relative change of size.
        shift: largest shift, as a share of the side.
        shear: largest sideways slip from the middle to the edge, as a share of half the side.
    """
    batch = x.shape[0]

    def uniform(limit: float) -> Tensor:
        return (torch.rand(batch, device=x.device) * 2 - 1) * limit

    angle, zoom = uniform(math.radians(degrees)), 1 / (1 + uniform(scale))
    theta = torch.zeros(batch, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * angle.cos(), -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin(), zoom * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(2 * shift), uniform(2 * shift)
    if shear:
        theta[:, 0, 1] += uniform(shear)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
