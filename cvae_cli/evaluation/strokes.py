"""The handwriting in a drawing: how thick, how slanted and how wide its strokes are.

Morpho-MNIST (Castro et al. 2019, "Morpho-MNIST: quantitative assessment and diagnostics for
representation learning", JMLR 20, section 3) defines the three on the image enlarged four times. The
skeleton differs: there the medial axis, here the result of Zhang and Suen's thinning (1984, "A fast
parallel algorithm for thinning digital patterns", CACM 27), which is many times as fast. Needs the extra
``[evaluate]``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize
from torch import Tensor
from torch.nn import functional as F

from cvae_cli.model.canvas import images_at_once

_SCALE = 4
_THRESHOLD = 0.5
"""Foreground is brighter than this share of the way from the darkest to the brightest pixel."""
_OUTSIDE = 0.01
"""Share of the ink to the left, and to the right, of the measured width."""
_CHUNK = 250


class Strokes(NamedTuple):
    """Measures of N images, each (N,) float32; 0 for an image without a stroke."""

    thickness: Tensor
    """Twice the mean distance of the skeleton from the background, in pixels."""
    slant: Tensor
    """Angle of the strokes from the vertical, in radians; leaning to the right is positive."""
    width: Tensor
    """Of the slanted box that holds 98% of the ink, in pixels."""


def measure(images: Tensor) -> Strokes:
    """Measure bright strokes on black.

    Args:
        images: (N, 1, H, W) uint8.
    """
    parts = [_measure(part) for part in images.split(images_at_once(_CHUNK, images.shape[-1]))]
    return Strokes(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _measure(images: Tensor) -> Strokes:
    fine = _enlarge(images.float())[:, 0]  # (N, H, W)
    ink = fine.flatten(1)
    lowest, highest = ink.amin(dim=1), ink.amax(dim=1)
    level = lowest + (highest - lowest) * _THRESHOLD
    blank = highest - lowest < 1
    shear, middle = _moments(fine)
    width = _width(fine, shear, middle)
    thickness = _thickness((fine >= level[:, None, None]) & ~blank[:, None, None])
    return Strokes(
        thickness=thickness.masked_fill(blank, 0.0),
        slant=torch.atan(-shear).masked_fill(blank, 0.0),
        width=width.masked_fill(blank, 0.0),
    )


def _enlarge(x: Tensor) -> Tensor:
    """Four times as large, smoothed as in an image pyramid, so that edges lie between pixels."""
    big = F.interpolate(x, scale_factor=_SCALE, mode="bicubic", align_corners=False)
    sigma = 2 * _SCALE / 6
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).view(1, 1, 1, -1)
    big = F.conv2d(F.pad(big, (reach, reach, 0, 0), mode="replicate"), taps)
    big = F.conv2d(F.pad(big, (0, 0, reach, reach), mode="replicate"), taps.transpose(2, 3))
    return big.clamp(0, 255)


def _moments(fine: Tensor) -> tuple[Tensor, Tensor]:
    """The horizontal shear u11 / u02, and the height of the centre; (N,) each."""
    rows = torch.arange(fine.shape[1], dtype=torch.float32)
    columns = torch.arange(fine.shape[2], dtype=torch.float32)
    mass = fine.sum(dim=(1, 2)).clamp(min=1e-6)
    in_rows, in_columns = fine.sum(dim=2), fine.sum(dim=1)
    y = (in_rows * rows).sum(dim=1) / mass
    x = (in_columns * columns).sum(dim=1) / mass
    from_y, from_x = rows - y[:, None], columns - x[:, None]
    u11 = torch.einsum("nyx,ny,nx->n", fine, from_y, from_x) / mass
    u02 = (in_rows * from_y.square()).sum(dim=1) / mass
    return u11 / u02.clamp(min=1e-6), y


def _width(fine: Tensor, shear: Tensor, middle: Tensor) -> Tensor:
    """Distance between two slanted lines that leave 1% of the ink on either side."""
    count, height, width = fine.shape
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    place = columns[None, None, :] + 0.5 - (shear[:, None] * (rows - middle[:, None]))[:, :, None]
    # With a whole width to spare on each side, since sheared ink may lie outside the picture.
    bins = (place.floor().long() + width).clamp(0, 3 * width - 1)
    ink = torch.zeros(count, 3 * width).scatter_add_(1, bins.flatten(1), fine.flatten(1))
    share = ink.cumsum(dim=1) / ink.sum(dim=1, keepdim=True).clamp(min=1e-6)
    edges = [_crossing(share, _OUTSIDE), _crossing(share, 1 - _OUTSIDE)]
    return (edges[1] - edges[0]) / _SCALE


def _crossing(share: Tensor, value: float) -> Tensor:
    """Where rising rows of numbers cross a value, between indices by linear interpolation."""
    wanted = torch.full((len(share), 1), value)
    right = torch.searchsorted(share, wanted).clamp(1, share.shape[1] - 1)
    low, high = share.gather(1, right - 1), share.gather(1, right)
    return (right - 1 + (wanted - low) / (high - low).clamp(min=1e-9)).squeeze(1)


def _thickness(foreground: Tensor) -> Tensor:
    """Twice the mean distance from the background along the skeleton, in pixels before enlarging."""
    return torch.tensor([_thickness_of_one(one) for one in foreground.numpy()], dtype=torch.float32)


def _thickness_of_one(foreground: NDArray[np.bool_]) -> float:
    rows, columns = foreground.any(axis=1).nonzero()[0], foreground.any(axis=0).nonzero()[0]
    if not len(rows):
        return 0.0
    # One pixel of background around the strokes is all that their distances depend on.
    box = (slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2))
    strokes = np.ascontiguousarray(foreground[box])  # scikit-image 0.22 takes no others
    skeleton, distance = skeletonize(strokes), distance_transform_edt(strokes)
    return 2 * float(distance[skeleton].mean()) / _SCALE
