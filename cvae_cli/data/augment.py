"""Augmentations: random changes to real images that keep their class, one batch at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_ELASTIC_SIDE = 4
"""Points along each side that an elastic distortion displaces at random."""


def random_affine(
    x: Tensor,
    degrees: float,
    scale: float,
    shift: float,
    shear: float = 0.0,
    *,
    stretch: float = 0.0,
    elastic: float = 0.0,
    outside: str = "zeros",
) -> Tensor:
    """Rotate, scale, shift and shear every image a little, each differently.

    Args:
        x: (B, C, H, W).
        degrees: largest rotation, either way.
        scale: largest relative change of size.
        shift: largest shift, as a share of the side.
        shear: largest sideways displacement of the edge, as a share of half the side.
        stretch: largest relative change of the width alone.
        elastic: largest displacement, as a share of half the side, of a smooth distortion on top (after
            Simard et al. 2003, "Best practices for convolutional neural networks", section 2).
        outside: what fills in from beyond the edge: ``zeros``, or the ``reflection`` of the image.
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
    if stretch:
        theta[:, :, 0] /= (1 + uniform(stretch))[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    if elastic:
        coarse = (torch.rand(batch, 2, _ELASTIC_SIDE, _ELASTIC_SIDE, device=x.device) * 2 - 1) * elastic
        smooth = F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode=outside, align_corners=False)


def random_thickness(x: Tensor, pixels: float) -> Tensor:
    """Thicken or thin the bright strokes of every image, each by another share of ``pixels``, at most 1.

    Between the image and its dilation or erosion by a pixel on either side.

    Args:
        x: (B, C, H, W), in [0, 1].
        pixels: largest change on either side of a stroke.
    """
    amount = (torch.rand(len(x), 1, 1, 1, device=x.device) * 2 - 1) * pixels
    thick = F.max_pool2d(x, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-x, 3, stride=1, padding=1)
    return torch.lerp(x, torch.where(amount > 0, thick, thin), amount.abs())


def random_shift(x: Tensor, pixels: int) -> Tensor:
    """Shift every image by whole pixels; its reflection fills in from beyond the edge.

    Args:
        x: (B, C, H, W).
        pixels: largest shift either way, less than the side.
    """
    batch, _, height, width = x.shape
    padded = F.pad(x, [pixels] * 4, mode="reflect").permute(0, 2, 3, 1)
    down, right = torch.randint(0, 2 * pixels + 1, (2, batch, 1), device=x.device)
    rows, columns = torch.arange(height, device=x.device) + down, torch.arange(width, device=x.device) + right
    index = torch.arange(batch, device=x.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(x: Tensor) -> Tensor:
    """Mirror each image left to right with probability one half; (B, C, H, W)."""
    mirrored = torch.rand(len(x), device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def random_cutout(x: Tensor, pixels: int) -> Tensor:
    """Cut a square out of every image (DeVries & Taylor 2017, "Cutout").

    Its centre is anywhere in the image, so it may reach beyond the edge.

    Args:
        x: (B, C, H, W).
        pixels: side of the square, at least 1.

    Returns:
        Of the same shape, with the image's mean colour in the square.
    """
    batch, _, height, width = x.shape

    def inside(side: int) -> Tensor:
        begin = torch.randint(0, side, (batch, 1), device=x.device) - pixels // 2
        place = torch.arange(side, device=x.device)
        return (place >= begin) & (place < begin + pixels)

    square = (inside(height)[:, :, None] & inside(width)[:, None, :])[:, None]  # (B, 1, H, W)
    return torch.where(square, x.mean(dim=(2, 3), keepdim=True), x)


def differentiable_augment(x: Tensor, groups: int = 1) -> Tensor:
    """Augment real and drawn images alike before a discriminator sees them.

    It then cannot memorise the few real ones, while gradients still reach the drawn ones: brightness,
    saturation and contrast, shifts up to an eighth of the side, and a cut-out square of half the
    side (Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training").

    Args:
        x: (B, C, H, W), values in [0, 1].
        groups: number of equally large groups in the batch. All groups are changed alike, the first
            image of one like the first of another.

    Returns:
        Of the same shape; values may leave [0, 1] a little.
    """
    batch, _, height, width = x.shape
    each = batch // groups
    colour = torch.rand(3, each, 1, 1, 1, device=x.device).repeat(1, groups, 1, 1, 1)
    x = x + 0.5 * (colour[0] - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * colour[1])
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (0.5 + colour[2])

    def places(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (2, each, 1), device=x.device).repeat(1, groups, 1)

    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    down, right = places(-(height // 8), height // 8 + 1)
    # A border of zeros, to which everything that was shifted in from outside points.
    padded = F.pad(x, (1, 1, 1, 1))
    from_row = (rows + down + 1).clamp(0, height + 1)  # (B, H)
    from_column = (columns + right + 1).clamp(0, width + 1)  # (B, W)
    index = torch.arange(batch, device=x.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, from_row[:, :, None], from_column[:, None, :]]
    middle = places(0, height)
    out_row = (rows - middle[0]).abs() < height // 4  # (B, H)
    out_column = (columns - middle[1]).abs() < width // 4
    kept = ~(out_row[:, :, None] & out_column[:, None, :])
    return (shifted * kept[..., None]).permute(0, 3, 1, 2)
