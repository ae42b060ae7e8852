"""Finding strokes on paper: which side of the background they are on, and where they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae_cli.errors import ImageError

Pixels = NDArray[np.uint8]

_COPY_SIDE = 256
"""Shorter side in pixels of the copy that strokes are found on: a box need not be exact."""
_COPY_PIXELS = 2_000_000
"""Most pixels of that copy, each of which takes some fifty bytes while strokes are found."""
INK_SHARE = 0.35
"""Ink is what differs from the background by this share of the largest difference."""
MIN_CONTRAST = 16.0
_MAX_COVER, _MAX_BORDER = 0.4, 0.15
"""More ink than this, as a share of the picture or of its border, is hardly strokes alone."""
_WIDEST, _WIDEST_OF_ALL = 1 / 6, 1 / 4
"""Width of a stroke, as a share of the shorter side, up to which it is told from a shadow, or from what is
dark like itself."""
_SHADE = 0.85
"""A shadow is fainter than strokes by this factor at least."""
_SPECK_SHARE = 0.04
_SMALL = 0.1
"""Strokes whose box fills a smaller share of the picture are warned about."""
_LINE_LENGTH, _LINE_THICKNESS = 0.9, 0.06
"""What reaches from edge to edge and is no thicker than this, as shares of the side, is a printed line."""


def border_level(pixels: Pixels) -> NDArray[np.float64]:
    """The background: the median of the outermost pixels, per channel."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    # As np.median, which takes more than twice as long for the border of a small image.
    below, above = (len(edge) - 1) // 2, len(edge) // 2
    edge.partition((below, above), axis=0)
    return (edge[below].astype(np.float64) + edge[above]) / 2


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
        shaded: whether there are shadows in it, in which strokes differ less from it than elsewhere.
        warnings: what makes it doubtful that these are the strokes.
    """

    top: int
    bottom: int
    left: int
    right: int
    centre_y: float
    centre_x: float
    background: NDArray[np.float64]
    shaded: bool = False
    warnings: tuple[str, ...] = ()


def find_ink(pixels: Pixels, *, dark: bool) -> Ink:
    """Find the strokes of an image.

    Args:
        pixels: (H, W, 1) uint8.
        dark: whether they are darker than the background.

    Raises:
        ImageError: nothing stands out from the background.
    """
    height, width, _ = pixels.shape
    small, factor = small_copy(pixels)
    background = _plane(small)
    ink, mask = _ink_on(small, background, dark)
    shaded = False
    if _is_doubtful(mask) or _touched(mask):
        # A shadow, or light from one side: the background is not one plane. Strokes rarely reach the border.
        # What is wider than a stroke is paper, if it is fainter; failing that, what is wider still is.
        for widest, in_shade in ((_WIDEST, True), (_WIDEST_OF_ALL, False)):
            nearby = _closed(small, dark, widest)
            other_ink, other_mask = _ink_on(small, nearby, dark, shaded=dark and in_shade)
            depth = nearby.max() - small if dark else small - nearby.min()
            found = (
                _is_shade(depth, mask & ~other_mask, other_mask)
                if in_shade
                else _is_doubtful(mask) and other_mask.any()
            )
            if found and not _is_doubtful(other_mask):
                background, ink, shaded = nearby, other_ink, dark and in_shade
                mask = _without_specks(other_mask) if in_shade else other_mask
                break
    if not mask.any():
        raise ImageError("blank: nothing stands out from the background")
    warnings = []
    if _is_doubtful(mask):
        warnings.append(f"uneven background: {mask.mean():.0%} of the picture stands out from it")
    else:
        mask = _without_lines(mask)
    top, bottom, left, right = box_of(mask)
    if (share := (bottom - top) * (right - left) / mask.size) < _SMALL:
        warnings.append(f"the strokes fill only {share:.1%} of the picture")
    weight = np.where(mask, ink, 0.0)
    total = weight.sum()
    return Ink(
        top=top * factor,
        bottom=min(height, bottom * factor),
        left=left * factor,
        right=min(width, right * factor),
        centre_y=(float((weight.sum(axis=1) * np.arange(len(weight))).sum() / total) + 0.5) * factor,
        centre_x=(float((weight.sum(axis=0) * np.arange(weight.shape[1])).sum() / total) + 0.5) * factor,
        background=background,
        shaded=shaded,
        warnings=tuple(warnings),
    )


def small_copy(pixels: Pixels) -> tuple[NDArray[np.float64], int]:
    """(h, w) float64, and how many times smaller that is."""
    height, width, _ = pixels.shape
    factor = max(1, round(min(height, width) / _COPY_SIDE), math.isqrt(height * width // _COPY_PIXELS))
    grey = pixels[:, :, 0]
    small = np.asarray(Image.fromarray(grey).reduce(factor) if factor > 1 else grey)
    return small.astype(np.float64), factor


def _ink_on(
    small: NDArray[np.float64], background: NDArray[np.float64], dark: bool, *, shaded: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How far each pixel stands out from a background, and which of them are ink."""
    ink = np.clip(background - small if dark else small - background, 0.0, None)
    if shaded:
        ink = ink * gain(background)
    peak = peak_of(ink)
    return ink, ink >= (INK_SHARE * peak if peak >= MIN_CONTRAST else np.inf)


def gain(background: NDArray[Any]) -> NDArray[Any]:
    """What makes strokes in the shade as strong as those in the light: ink takes a share of the light."""
    return background.max() / np.maximum(background, MIN_CONTRAST)  # type: ignore[no-any-return]


def peak_of(values: NDArray[np.float64]) -> float:
    """The largest value that is not a speck.

    No quantile either: a small digit on a large page covers few pixels of the copy.
    """
    speck = max(1, min(8, values.size // 100))
    return float(np.partition(values, -speck, axis=None)[-speck])


def _is_doubtful(mask: NDArray[np.bool_]) -> bool:
    return bool(mask.mean() > _MAX_COVER or _touched(mask) > _MAX_BORDER)


def _is_shade(depth: NDArray[np.float64], left_out: NDArray[np.bool_], kept: NDArray[np.bool_]) -> bool:
    """Whether what is no stroke after all is fainter than the strokes, and not the inside of thick ones."""
    if not kept.any() or not left_out.any():
        return False
    return bool(np.median(depth[left_out]) < _SHADE * np.median(depth[kept]))


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out what is small and on its own, such as the tip of a shadow that nothing else fits into."""
    kept = mask.copy()
    for axis in (0, 1):
        counts = kept.sum(axis=1 - axis)
        for start, stop in _runs(counts > 0):
            if counts[start:stop].sum() < _SPECK_SHARE * counts.sum():
                (kept if axis == 0 else kept.T)[start:stop] = False
    return kept


def _touched(mask: NDArray[np.bool_]) -> float:
    """The share of the border that is set."""
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _without_lines(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out printed lines, as of ruled paper, which reach from edge to edge; if anything is left."""
    height, width = mask.shape
    kept = mask.copy()
    down, across = mask.mean(axis=0) >= _LINE_LENGTH, mask.mean(axis=1) >= _LINE_LENGTH
    for full, length in ((down, width), (across, height)):
        for start, stop in _runs(full):
            if stop - start <= max(1, _LINE_THICKNESS * length):
                # One more on either side: the soft edge of the line.
                begin, end = max(0, start - 1), stop + 1
                if full is down:
                    kept[:, begin:end] = False
                else:
                    kept[begin:end] = False
    return kept if kept.any() else mask


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of each run of set flags."""
    steps = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist()
    return list(zip(starts, stops, strict=True))


def _closed(small: NDArray[np.float64], dark: bool, widest: float) -> NDArray[np.float64]:
    """The background without what is thin on it: a morphological closing (dark strokes) or opening.

    On the copy itself, since a coarser one would leave the edges of shadows standing.
    """
    reach = max(2, round(min(small.shape) * widest / 2))
    values = np.pad(small if dark else -small, reach, mode="symmetric")
    grown = -_lowest_near(-values, reach)
    closed = _lowest_near(grown, reach)[reach:-reach, reach:-reach]
    return closed if dark else -closed


def _lowest_near(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """The lowest value within an octagon that reaches so many pixels up, down and to the sides."""
    slanted = round(0.29 * reach)
    steps = (
        ((0, 1), reach - 2 * slanted),
        ((1, 0), reach - 2 * slanted),
        ((1, 1), slanted),
        ((1, -1), slanted),
    )
    for (down, across), far in steps:
        # Along a line, twice as far with each step and the rest of the way at last.
        flipped = values[:, ::across] if across else values
        padded = np.pad(flipped, ((far * down,) * 2, (far * abs(across),) * 2), constant_values=np.inf)
        covered, window = 1, 2 * far + 1
        while covered < window:
            step = min(covered, window - covered)
            y, x = step * down, step * abs(across)
            height, width = padded.shape
            padded = np.minimum(padded[: height - y, : width - x], padded[y:, x:])
            covered += step
        values = padded[:, ::across] if across else padded
    return values


def _plane(values: NDArray[np.float64]) -> NDArray[np.float64]:
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
