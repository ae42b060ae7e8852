"""Finding the sheet in a picture that shows more: a desk, a scanner's border, a transparent ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli.images.ink import INK_SHARE, MIN_CONTRAST, Pixels, border_level, box_of, peak_of, small_copy

_AREA, _EDGE = 0.25, 0.95
_SMALLEST_SIDE = 16
_CONVEX, _RECTANGLE = 0.95, 0.95
"""Share of what lies around a shape, or of the narrowest rectangle around it, from which it is like that."""
_CLEAR = 0.995
"""Share of what lies along the edge of a sheet that has its colour."""
_FEWEST_INK, _MOST_INK = 0.002, 0.4
"""Share of a sheet that is covered by what is on it."""
_THIN, _THINNEST = 0.55, 0.45
"""Share of their box that strokes fill; the hole in a thick 0 or the holes in an 8 fill more."""
_LITTLE_INK = 0.25
_STROKES = 0.35
"""Share of its box below which a shape is strokes, without a closer look."""

WARNING = "the strokes may be a sheet of paper with something on it"


@dataclass(frozen=True)
class Sheet:
    """A sheet in a picture.

    Attributes:
        box: left, top, right and bottom of the part that is cut out, in pixels.
        is_certain: whether it can hardly be a stroke.
        left, right: for each row of the box, where the sheet begins and ends, counted from its left;
            ``None`` where the box is all sheet.
        level: the colour of the sheet.
    """

    box: tuple[int, int, int, int]
    is_certain: bool = True
    left: NDArray[np.float64] | None = None
    right: NDArray[np.float64] | None = None
    level: int = 0

    def cut_from(self, pixels: Pixels) -> Pixels:
        """The sheet alone, (H, W, 1), gone on with where its box is more than that."""
        left, top, right, bottom = self.box
        cut = pixels[top:bottom, left:right]
        if self.left is None or self.right is None:
            return cut
        x = np.arange(cut.shape[1])
        inside = (x >= self.left[:, None]) & (x <= self.right[:, None])
        return np.where(inside[:, :, None], cut, np.uint8(self.level))


def find_sheet(pixels: Pixels) -> Sheet | None:
    """The sheet in a picture that shows something around it, such as the black border of a scanner.

    Args:
        pixels: (H, W, 1) uint8.

    Returns:
        ``None`` where the picture is the sheet.
    """
    small, factor = small_copy(pixels)
    level = float(border_level(small.astype(np.uint8)[:, :, None]).mean())
    difference = np.abs(small - level)
    peak = peak_of(difference)
    if peak < MIN_CONTRAST:
        return None
    mask = difference >= INK_SHARE * peak
    top, bottom, left, right = box_of(mask)
    inside = mask[top:bottom, left:right]
    height, width = inside.shape
    if min(height, width) < _SMALLEST_SIDE or inside.size == mask.size:
        return None
    if np.count_nonzero(inside) < _STROKES * inside.size:
        return None
    # Its edges are straight, and something on it is not of its colour.
    edges = (inside[1], inside[-2], inside[:, 1], inside[:, -2])
    is_straight = min(float(edge.mean()) for edge in edges) >= _EDGE
    if inside.size < _AREA * mask.size or not is_straight or inside.all():
        return _tilted(small, mask, factor, peak)
    if inside[height // 4 : -(height // 4), width // 4 : -(width // 4)].mean() < 0.5:
        return None  # of the colour around it: the outline of a box
    inset = 2 + min(height, width) // 100
    box = left + inset, top + inset, right - inset, bottom - inset
    return Sheet((box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor))


def _tilted(small: NDArray[np.float64], mask: NDArray[np.bool_], factor: int, peak: float) -> Sheet | None:
    """A sheet of another shape than the picture, or a small one: convex, with strokes on it.

    Args:
        small: (h, w), the copy that it is looked for on.
        mask: (h, w), what differs from what is around.
        factor: how many times smaller the copy is.
        peak: how much that differs.
    """
    top, bottom, *_ = box_of(mask)
    rows = mask[top:bottom]
    first = rows.argmax(axis=1)
    last = rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    filled = float((last - first + 1).sum())
    if not rows.any(axis=1).all() or rows.sum() < (1.0 - _MOST_INK) * filled:
        return None  # strokes, nearly always
    y = np.arange(len(rows))
    first_corners, last_corners = _envelope(first, 1), _envelope(last, -1)
    left, right = (
        np.interp(y, corners, ends[corners])
        for corners, ends in ((first_corners, first), (last_corners, last))
    )
    area = float((right - left + 1).sum())
    if filled < _CONVEX * area:
        return None
    inset = 2 + min(len(rows), int(right.max() - left.min())) // 50
    x = np.arange(rows.shape[1])
    shapes = [_shrunk(x, left, right, inset * times) for times in (1, 2)]
    values = small[top:bottom]
    ring = values[shapes[0] & ~shapes[1]]
    if not ring.size or not shapes[1].any():
        return None
    level = float(np.median(ring))
    ink = shapes[0] & (np.abs(values - level) >= INK_SHARE * peak)
    share = float(ink.sum()) / area
    if (
        float((np.abs(ring - level) < INK_SHARE * peak).mean()) < _CLEAR
        or not _FEWEST_INK <= share <= _MOST_INK
    ):
        return None
    ink_top, ink_bottom, ink_left, ink_right = box_of(ink)
    thin = float(ink.sum()) / ((ink_bottom - ink_top) * (ink_right - ink_left))
    corners = [(float(first[at]), float(at)) for at in first_corners]
    corners += [(float(last[at]) + 1, float(at)) for at in last_corners]
    is_rectangle = area >= _RECTANGLE * _narrowest_rectangle(np.array(corners))
    if thin > _THIN and not is_rectangle:
        return None
    is_certain = thin <= _THIN if is_rectangle else thin <= _THINNEST and share <= _LITTLE_INK
    return _to_full_size(left, right, top, inset, factor, level, is_certain)


def _to_full_size(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    top: int,
    inset: int,
    factor: int,
    level: float,
    is_certain: bool,
) -> Sheet:
    """The sheet in the pixels of the picture, without its edge."""
    start = int(left.min())
    box = (
        start * factor,
        (top + inset) * factor,
        (int(right.max()) + 1) * factor,
        (top + len(left) - inset) * factor,
    )
    y = (np.arange(box[3] - box[1]) + 0.5) / factor - 0.5 + inset
    at = np.arange(len(left))
    first, last = (np.interp(y, at, ends) for ends in (left + inset, right - inset))
    return Sheet(box, is_certain, (first - start) * factor, (last + 1 - start) * factor - 1, round(level))


def _shrunk(
    x: NDArray[Any], left: NDArray[np.float64], right: NDArray[np.float64], by: int
) -> NDArray[np.bool_]:
    """(h, w): what lies between these ends of rows, without a margin."""
    inside = (x >= left[:, None] + by) & (x <= right[:, None] - by)
    inside[:by] = inside[-by:] = False
    return inside


def _envelope(ends: NDArray[np.int64], sign: int) -> list[int]:
    """At which rows the convex hull has corners, on the side of the smallest (1) or largest (-1) ends."""
    values = (sign * ends).tolist()
    corners: list[int] = []
    for row, value in enumerate(values):
        while len(corners) > 1:
            one, two = corners[-2:]
            if (values[two] - values[one]) * (row - one) < (value - values[one]) * (two - one):
                break
            corners.pop()
        corners.append(row)
    return corners


def _narrowest_rectangle(corners: NDArray[np.float64]) -> float:
    """The area of the smallest rectangle, at any angle, around these points (P, 2)."""
    angles = np.linspace(0.0, np.pi / 2, 90, endpoint=False)
    across = np.stack([np.cos(angles), np.sin(angles)])  # (2, A)
    along = np.stack([-np.sin(angles), np.cos(angles)])
    return float((np.ptp(corners @ across, axis=0) * np.ptp(corners @ along, axis=0)).min())
