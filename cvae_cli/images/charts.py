"""Charts of an evaluation: a heat map, sheets of image pairs, scatter plots.

In the style of the grids, and drawn with Pillow, since these few do not justify a plotting library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cvae_cli.images.captions import font
from cvae_cli.images.grid import Layout, Pixels, scaled

_CARD = (30, 30, 30)
_TEXT = (236, 236, 236)
_FAINT = (158, 158, 158)
_RULE = (74, 74, 74)
_POINT = np.array((110, 190, 255), np.float32)
_COLD, _WARM = np.array((36, 62, 92), np.float32), np.array((255, 176, 60), np.float32)
_MARGIN = 24
_CELL = 62
_PLOT = 320
_MAX_ERROR = 0.1
"""Share of tiles not recognised as their target from which a cell has its full colour."""


def heat_map(classes: Sequence[str], shares: NDArray[np.float64], *, title: str) -> Pixels:
    """Shares of hits by source (rows) and target (columns), each written in its cell.

    A cell is dark blue at 100% and orange from 90% downwards; the diagonal is the
    reconstruction.

    Args:
        classes: K names.
        shares: (K, K) in [0, 1]; nan where there is nothing to count.
        title: stands above it.

    Returns:
        (height, width, 3) uint8.
    """
    count = len(classes)
    label = 90 if max(len(name) for name in classes) > 2 else 44
    left, top = _MARGIN + label, _MARGIN + 54
    image = Image.new("RGB", (left + count * _CELL + _MARGIN, top + count * _CELL + _MARGIN), _CARD)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN - 6), title, _TEXT, font(15))
    draw.text((_MARGIN, top - 20), "from / to", _FAINT, font(11))
    for i, name in enumerate(classes):
        centre = i * _CELL + _CELL / 2
        draw.text((left + centre, top - 10), _short(name, _CELL - 4), _TEXT, font(13), "ms")
        draw.text((left - 10, top + centre), _short(name, label - 12), _TEXT, font(13), "rm")
    for row in range(count):
        for column in range(count):
            x, y = left + column * _CELL, top + row * _CELL
            share = float(shares[row, column])
            known = not np.isnan(share)
            heat = min(1.0, (1 - share) / _MAX_ERROR) if known else 0.0
            colour = _COLD + (_WARM - _COLD) * heat**0.5
            fill = tuple(int(value) for value in colour) if known else _CARD
            edge = _TEXT if row == column else _CARD
            draw.rectangle((x + 1, y + 1, x + _CELL - 2, y + _CELL - 2), fill, edge)
            text = f"{100 * share:.1f}" if known else "-"
            ink = (20, 20, 20) if heat**0.5 > 0.6 else _TEXT
            draw.text((x + _CELL / 2, y + _CELL / 2), text, ink, font(14), "mm")
    return np.asarray(image)


@dataclass(frozen=True)
class Pair:
    """An image and a tile drawn from it.

    Attributes:
        original: (C, H, W) uint8.
        tile: (C, H, W) uint8.
        caption: above the two.
        note: below them.
    """

    original: Pixels
    tile: Pixels
    caption: str
    note: str = ""


def pair_sheet(layout: Layout, pairs: Sequence[Pair], *, title: str, columns: int = 10) -> Pixels:
    """Originals with their tiles beside them, ``columns`` pairs per row.

    Returns:
        (height, width, 3) uint8.
    """
    side, gap, above, below = layout.tile, 4, 24, 18
    across, down = 2 * side + gap + 20, above + side + below + 6
    rows = -(-len(pairs) // columns)
    size = (2 * _MARGIN + min(columns, len(pairs)) * across - 20, 2 * _MARGIN + 26 + rows * down)
    image = Image.new("RGB", size, _CARD)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN - 6), title, _TEXT, font(15))
    for number, pair in enumerate(pairs):
        x = _MARGIN + number % columns * across
        y = _MARGIN + 26 + number // columns * down
        middle = x + side + gap / 2
        draw.text((middle, y + above - 6), _short(pair.caption, across), _TEXT, font(13), "ms")
        for pixels, place in ((pair.original, x), (pair.tile, x + side + gap)):
            draw.rectangle((place - 1, y + above - 1, place + side, y + above + side), None, _RULE)
            shown = scaled(pixels.transpose(1, 2, 0), side, 3)
            image.paste(Image.fromarray(shown), (place, y + above))
        draw.text((middle, y + above + side + 4), _short(pair.note, across), _FAINT, font(11), "mt")
    return np.asarray(image)


@dataclass(frozen=True)
class Cloud:
    """Points of one panel of a scatter plot.

    Attributes:
        title: above the panel.
        x: (N,).
        y: (N,).
    """

    title: str
    x: NDArray[np.float32]
    y: NDArray[np.float32]


def scatter(clouds: Sequence[Cloud], *, across: str, up: str) -> Pixels:
    """Panels side by side, each with the same scale on both axes and the line where they agree.

    Args:
        clouds: one per panel.
        across: what x is.
        up: what y is.

    Returns:
        (height, width, 3) uint8.
    """
    step = _PLOT + 70
    image = Image.new("RGB", (_MARGIN + len(clouds) * step, _PLOT + 120), _CARD)
    draw = ImageDraw.Draw(image)
    for number, cloud in enumerate(clouds):
        left, top = _MARGIN + 36 + number * step, 50
        both = np.concatenate([cloud.x, cloud.y])
        both = both[np.isfinite(both)]
        low, high = np.quantile(both, (0.002, 0.998)) if len(both) else (0.0, 1.0)
        room = max(1e-6, 0.06 * (high - low))
        low, high = float(low - room), float(high + room)
        places = [(values - low) / (high - low) * _PLOT for values in (cloud.x, cloud.y)]
        density, _, _ = np.histogram2d(places[1], places[0], bins=_PLOT // 2, range=[[0, _PLOT], [0, _PLOT]])
        opacity = 1 - np.exp(-density[::-1] * max(0.15, 40 / max(1, len(cloud.x)) ** 0.5))
        background = np.full((*density.shape, 3), _CARD, np.float32)
        panel = background + (_POINT - background) * opacity[:, :, None]
        image.paste(
            Image.fromarray(panel.astype(np.uint8)).resize((_PLOT, _PLOT), Image.Resampling.NEAREST),
            (left, top),
        )
        draw.line((left, top + _PLOT, left + _PLOT, top), _RULE)
        draw.rectangle((left - 1, top - 1, left + _PLOT, top + _PLOT), None, _RULE)
        draw.text((left, top - 12), cloud.title, _TEXT, font(14), "ls")
        draw.text((left + _PLOT / 2, top + _PLOT + 26), across, _FAINT, font(12), "mt")
        for value, at in ((low, 0), (high, _PLOT)):
            text = f"{value:.1f}"
            draw.text((left + at, top + _PLOT + 6), text, _FAINT, font(11), "mt")
            draw.text((left - 6, top + _PLOT - at), text, _FAINT, font(11), "rm")
        side = Image.new("RGB", (_PLOT, 16), _CARD)
        ImageDraw.Draw(side).text((_PLOT / 2, 2), up, _FAINT, font(12), "mt")
        image.paste(side.rotate(90, expand=True), (left - 30, top))
        for value, at in ((low, 0), (high, _PLOT)):
            draw.text((left - 6, top + _PLOT - at), f"{value:.1f}", _FAINT, font(11), "rm")
    return np.asarray(image)


def _short(text: str, width: float) -> str:
    """Text that fits into a width at the size of a caption."""
    while text and font(13).getlength(text) > width:
        text = text[:-2] + "\N{HORIZONTAL ELLIPSIS}" if len(text) > 2 else ""
    return text
