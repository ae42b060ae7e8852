"""Finding strokes on paper: which side of the background they are on, and where they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae_cli.errors import ImageError

Pixels = NDArray[np.uint8]

_COPY_SIDE = 256
"""Shorter side in pixels of the copy that strokes are found on: a box need not be exact."""
_COPY_PIXELS = 2_000_000
"""Most pixels of that copy, each of which takes some fifty bytes while strokes are found."""
_INK_SHARE = 0.35
"""Ink is what differs from the background by this share of the largest difference."""


def border_level(pixels: Pixels) -> NDArray[np.float64]:
    """The background: the median of the outermost pixels, per channel."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.median(edge, axis=0), dtype=np.float64)


def is_dark_on_light(pixels: Pixels) -> bool:
    """Whether strokes are darker than their background, on (H, W, C) uint8."""
    background = float(border_level(pixels).mean())
    # Strokes lie on one side of the background: whichever side reaches further.
    above, below = float(pixels.max()) - background, background - float(pixels.min())
    return below > above


def whiten(pixels: Pixels) -> tuple[Pixels, float | None]:
    """Bring grey paper to white and its strokes to black, before inversion.

    Returns:
        The pixels, and the factor by which their contrast grew; ``None`` where nothing was changed,
        because the border is pure white and there is pure black, or because nothing stands out.
    """
    paper, darkest = float(border_level(pixels).mean()), float(pixels.min())
    if paper - darkest < 16.0 or (paper >= 255.0 and darkest <= 0.0):
        return pixels, None
    factor = round(255.0 / (paper - darkest), 2)
    # A tenth of the way to the strokes is still paper: its grain must not become ghosts.
    paper -= 0.1 * (paper - darkest) if paper < 255.0 else 0.0
    stretched = (pixels.astype(np.float64) - darkest) * (255.0 / (paper - darkest))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8), factor


@dataclass(frozen=True)
class Ink:
    """Where the strokes of an image are, in its pixels.

    Attributes:
        top, bottom, left, right: the box around them.
        centre_y, centre_x: their centre of mass.
        background: (h, w) float64, the background of a small copy of the image.
    """

    top: int
    bottom: int
    left: int
    right: int
    centre_y: float
    centre_x: float
    background: NDArray[np.float64]


def find_ink(pixels: Pixels, *, dark: bool) -> Ink:
    """Find the strokes of an image.

    Args:
        pixels: (H, W, 1) uint8.
        dark: whether they are darker than the background.

    Raises:
        ImageError: nothing stands out from the background.
    """
    height, width, _ = pixels.shape
    factor = max(1, round(min(height, width) / _COPY_SIDE), math.isqrt(height * width // _COPY_PIXELS))
    small = np.asarray(
        Image.fromarray(pixels[:, :, 0]).reduce(factor) if factor > 1 else pixels[:, :, 0]
    ).astype(np.float64)
    background = _local_background(small)
    ink = np.clip(background - small if dark else small - background, 0.0, None)
    # Not the maximum, which may be a speck, and not a quantile either: a small digit on a large page
    # covers few pixels of this copy.
    speck = max(1, min(8, ink.size // 100))
    peak = float(np.partition(ink, -speck, axis=None)[-speck])
    if peak < 16.0:
        raise ImageError("blank: nothing stands out from the background")
    mask = ink >= _INK_SHARE * peak
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    weight = np.where(mask, ink, 0.0)
    total = weight.sum()
    return Ink(
        top=int(rows[0]) * factor,
        bottom=min(height, (int(rows[-1]) + 1) * factor),
        left=int(columns[0]) * factor,
        right=min(width, (int(columns[-1]) + 1) * factor),
        centre_y=(float((weight.sum(axis=1) * np.arange(len(weight))).sum() / total) + 0.5) * factor,
        centre_x=(float((weight.sum(axis=0) * np.arange(weight.shape[1])).sum() / total) + 0.5) * factor,
        background=background,
    )


def _local_background(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A plane fitted to the border: paper is rarely lit evenly from one side to the other."""
    height, width = values.shape
    band = max(1, min(height, width) // 16)
    edge = np.zeros(values.shape, dtype=bool)
    edge[:band], edge[-band:], edge[:, :band], edge[:, -band:] = True, True, True, True
    level = np.median(values[edge])
    # Strokes that touch the border are not background.
    near = edge & (np.abs(values - level) <= max(24.0, 1.5 * float(np.std(values[edge]))))
    y, x = np.nonzero(near)
    if len(y) < 12:
        return np.full(values.shape, level)
    terms = np.stack([np.ones(len(y)), y, x])  # (3, P)
    # The normal equations, with the least norm where all of the border lies on one line.
    plane, *_ = np.linalg.lstsq(terms @ terms.T, terms @ values[near], rcond=None)
    fitted = plane[0] + plane[1] * np.arange(height)[:, None] + plane[2] * np.arange(width)
    return np.clip(fitted, 0.0, 255.0)
