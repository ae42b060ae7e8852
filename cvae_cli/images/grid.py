"""Pictures made of tiles: one row for one image, or a sheet of many.

Light captions on a dark background, so that a picture looks the same on a light and a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae_cli.images.captions import (
    CAPTION_HEIGHT,
    CARD,
    NOTE_HEIGHT,
    TEXT,
    Mark,
    caption_strip,
    mark_strip,
)

Pixels = NDArray[np.uint8]

MIN_TILE = 64
_PADDING = 14
_GAP = 8
_GROUP_GAP = 24
"""Between the original and its tiles."""
_COLUMNS = 12
"""Most tiles in a line; more go on in further lines of about equal length."""
_FRAME, _OWN_FRAME = 74, TEXT


@dataclass(frozen=True)
class Layout:
    """The dimensions of a picture.

    Attributes:
        native: side of a tile as the model draws it.
        channels: 1 or 3, of the picture.
    """

    native: int
    channels: int

    @property
    def tile(self) -> int:
        """Side of a tile in the picture: a whole multiple of native, at least 64 pixels."""
        return self.native * -(-MIN_TILE // self.native)


@dataclass(frozen=True)
class Original:
    """The image that a row starts with.

    Attributes:
        pixels: (H, W, C) uint8, square, of any size.
        caption: its label.
        note: where the label came from, in a word or two; may be empty.
        warned: whether something is doubtful about it, which is marked.
    """

    pixels: Pixels
    caption: str
    note: str = ""
    warned: bool = False


class Box(NamedTuple):
    """A tile's place in a picture, in pixels; it is square."""

    left: int
    top: int
    side: int


def boxes_of_row(layout: Layout, count: int) -> tuple[tuple[int, int], tuple[Box, ...]]:
    """Where :func:`draw_row` puts things.

    Args:
        layout: the dimensions.
        count: number of tiles.

    Returns:
        Width and height of the picture; the box of the original, then those of the tiles.
    """
    side = layout.tile
    lines = max(1, -(-count // _COLUMNS))
    columns = -(-count // lines)
    width = 2 * _PADDING + side + (_GROUP_GAP - _GAP if count else 0) + columns * (side + _GAP)
    step = CAPTION_HEIGHT + side + NOTE_HEIGHT
    start = _PADDING + side + _GROUP_GAP
    places = (divmod(number, columns) for number in range(count))
    tiles = (
        Box(start + column * (side + _GAP), _PADDING + line * step + CAPTION_HEIGHT, side)
        for line, column in places
    )
    original = Box(_PADDING, _PADDING + CAPTION_HEIGHT, side)
    return (width, 2 * _PADDING + lines * step), (original, *tiles)


def draw_row(
    layout: Layout,
    original: Original,
    tiles: Sequence[tuple[str, Pixels]],
    marks: Sequence[Mark] | None = None,
) -> Pixels:
    """The annotated grid of one image: the original, then every tile under its class name.

    Up to twelve tiles stand in one line.

    Args:
        layout: the dimensions.
        original: what the tiles were made from.
        tiles: class name and (C, H, W) uint8 at native size.
        marks: one under each tile; ``None`` for none.

    Returns:
        (height, width) or (height, width, 3) uint8.
    """
    side = layout.tile
    _, (own, *boxes) = boxes_of_row(layout, len(tiles))
    names = tuple(name for name, _ in tiles)
    # Those of hundreds of classes are too large to keep.
    card = _background(layout, names).copy() if len(tiles) <= _COLUMNS else _make_background(layout, names)
    _paste(card, caption_strip(original.caption, side, bold=True), own.top - CAPTION_HEIGHT, own.left)
    _place(card, scaled(original.pixels, side, layout.channels), own.top, own.left, _OWN_FRAME)
    note = caption_strip(original.note, side, note=True)
    if original.warned:
        note = mark_strip(Mark("doubtful", original.note), side)
    _paste(card, note, own.top + side + 1, own.left)
    for mark, box in zip(marks or (), boxes, strict=marks is not None):
        _paste(card, mark_strip(mark, side), box.top + side + 1, box.left)
    # All tiles of a line at once: for small ones the calls cost more than the copying.
    for top in sorted({box.top for box in boxes}):
        line = [number for number, box in enumerate(boxes) if box.top == top]
        left, step = boxes[line[0]].left, side + _GAP
        pixels = _enlarged([tiles[number][1] for number in line], layout)
        places = card[top : top + side, left : left + len(line) * step]
        places.reshape(side, len(line), step, -1)[:, :, :side] = pixels.swapaxes(0, 1)
    return card[:, :, 0] if layout.channels == 1 else card


def _make_background(layout: Layout, names: tuple[str, ...]) -> Pixels:
    """The part of a grid that depends on the layout and the names alone: captions and frames of the tiles."""
    side = layout.tile
    (width, height), (_, *boxes) = boxes_of_row(layout, len(names))
    card = _card(height, width, layout.channels)
    for name, box in zip(names, boxes, strict=True):
        _paste(card, caption_strip(name, side), box.top - CAPTION_HEIGHT, box.left)
        _frame(card, box, _FRAME)
    return card


_background = lru_cache(maxsize=16)(_make_background)


@dataclass(frozen=True)
class SheetRow:
    """One row of a contact sheet.

    Attributes:
        tiles: a (C, H, W) uint8 tile for each column.
        original: what they were made from; ``None`` for samples from the prior.
        own: the column of the original's own class, which is marked; ``None`` if there is none.
        marks: one under each tile; all rows have them or none.
    """

    tiles: Sequence[Pixels]
    original: Original | None = None
    own: int | None = None
    marks: Sequence[Mark] | None = None


def draw_sheet(layout: Layout, columns: Sequence[str], rows: Sequence[SheetRow]) -> Pixels:
    """A contact sheet: one row per image, one column per class, class names above.

    Args:
        layout: the dimensions.
        columns: the class names.
        rows: at least one; either all have an original or none has.

    Returns:
        (height, width) or (height, width, 3) uint8.
    """
    side = layout.tile
    with_original = rows[0].original is not None
    start = _PADDING + (side + _GROUP_GAP if with_original else 0)
    width = start + len(columns) * (side + _GAP) - _GAP + _PADDING
    step = side + _GAP + (NOTE_HEIGHT if rows[0].marks is not None else 0)
    height = _PADDING + CAPTION_HEIGHT + len(rows) * step - _GAP + _PADDING
    card = _card(height, width, layout.channels)
    if with_original:
        _paste(card, caption_strip("original", side, bold=True), _PADDING, _PADDING)
    for column, name in enumerate(columns):
        _paste(card, caption_strip(name, side), _PADDING, start + column * (side + _GAP))
    y = _PADDING + CAPTION_HEIGHT
    for row in rows:
        if row.original is not None:
            _place(card, scaled(row.original.pixels, side, layout.channels), y, _PADDING, _OWN_FRAME)
        for column, tile in enumerate(row.tiles):
            frame = _OWN_FRAME if column == row.own else _FRAME
            pixels = scaled(tile.transpose(1, 2, 0), side, layout.channels)
            x = start + column * (side + _GAP)
            _place(card, pixels, y, x, frame)
            if row.marks is not None:
                _paste(card, mark_strip(row.marks[column], side), y + side + 1, x)
        y += step
    return card[:, :, 0] if layout.channels == 1 else card


def _card(height: int, width: int, channels: int) -> Pixels:
    return np.full((height, width, channels), CARD, dtype=np.uint8)


def _paste(card: Pixels, pixels: Pixels, y: int, x: int) -> None:
    card[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels


def _place(card: Pixels, pixels: Pixels, y: int, x: int, frame: int) -> None:
    """Paste a tile with a frame of one pixel around it."""
    _frame(card, Box(x, y, pixels.shape[0]), frame)
    _paste(card, pixels, y, x)


def _frame(card: Pixels, box: Box, level: int) -> None:
    """Fill a box, and one pixel around it."""
    left, top, side = box
    card[top - 1 : top + side + 1, left - 1 : left + side + 1] = level


def _enlarged(tiles: Sequence[Pixels], layout: Layout) -> Pixels:
    """N tiles (C, H, W) to (N, side, side, channels)."""
    if any(tile.shape != (layout.channels, layout.native, layout.native) for tile in tiles):
        side, channels = layout.tile, layout.channels
        return np.stack([scaled(tile.transpose(1, 2, 0), side, channels) for tile in tiles])
    factor = layout.tile // layout.native
    pixels = np.stack(tiles).transpose(0, 2, 3, 1)
    # Widened first, then rows are repeated: whole rows are copied faster.
    return pixels if factor == 1 else pixels.repeat(factor, axis=2).repeat(factor, axis=1)


def scaled(pixels: Pixels, side: int, channels: int) -> Pixels:
    """(H, W, C) to (side, side, channels): whole multiples by nearest neighbour, else smoothly."""
    if pixels.shape[2] != channels:
        pixels = np.repeat(pixels[:, :, :1], channels, axis=2)
    height, width = pixels.shape[:2]
    if height == width and side % height == 0:
        factor = side // height
        return pixels.repeat(factor, axis=1).repeat(factor, axis=0)
    flat = pixels[:, :, 0] if channels == 1 else pixels
    resized = np.asarray(Image.fromarray(flat).resize((side, side), Image.Resampling.LANCZOS))
    return resized.reshape(side, side, channels)
