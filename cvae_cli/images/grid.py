"""Pictures made of tiles: one row for one image, or a sheet of many.

Light captions on a dark card, so that a picture looks the same on a light and on a dark page.
Captions are drawn once and kept: a run over a million images draws a few dozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

MIN_TILE = 64
_PADDING = 14
_GAP = 8
_GROUP_GAP = 24
"""Between the original and what was drawn from it."""
_CAPTION = 22
_NOTE = 18
_COLUMNS = 12
"""More tiles than this go on in further lines, all about equally long."""
_CARD, _TEXT, _NOTE_TEXT, _FRAME, _OWN_FRAME = 30, 236, 158, 74, 236
_FONT_SIZES = (15, 14, 13, 12, 11)
_NOTE_SIZES = (12, 11, 10, 9)
_SMALL = 10
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Layout:
    """The measures of a picture.

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
    """

    pixels: Pixels
    caption: str
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """What a judge says of a tile, to be read at a glance.

    Attributes:
        kind: ``sure`` and ``unsure``: it shows what it should; ``wrong``: something else.
        text: a word or a percentage beside the sign.
    """

    kind: Literal["sure", "unsure", "wrong"]
    text: str


def draw_row(
    layout: Layout,
    original: Original,
    tiles: Sequence[tuple[str, Pixels]],
    marks: Sequence[Mark] | None = None,
) -> Pixels:
    """The annotated grid of one image: the original, then every tile under its class name.

    Up to twelve tiles stand in one line.

    Args:
        layout: the measures.
        original: what the tiles were made from.
        tiles: class name and (C, H, W) uint8 at native size.
        marks: one under each tile; ``None`` for none.

    Returns:
        (height, width) or (height, width, 3) uint8.
    """
    side = layout.tile
    lines = max(1, -(-len(tiles) // _COLUMNS))
    columns = -(-len(tiles) // lines)
    width = 2 * _PADDING + side + (_GROUP_GAP - _GAP if tiles else 0) + columns * (side + _GAP)
    step = _CAPTION + side + _NOTE
    card = _card(2 * _PADDING + lines * step, width, layout.channels)
    x, top = _PADDING, _PADDING
    _paste(card, _caption(original.caption, side, bold=True), top, x)
    _place(card, scaled(original.pixels, side, layout.channels), top + _CAPTION, x, _OWN_FRAME)
    _paste(card, _caption(original.note, side, note=True), top + _CAPTION + side + 1, x)
    start = x + side + _GROUP_GAP
    for number, (name, tile) in enumerate(tiles):
        line, column = divmod(number, columns)
        x, top = start + column * (side + _GAP), _PADDING + line * step
        _paste(card, _caption(name, side), top, x)
        if marks is not None:
            _paste(card, _mark(marks[number], side), top + _CAPTION + side + 1, x)
        _place(card, scaled(tile.transpose(1, 2, 0), side, layout.channels), top + _CAPTION, x, _FRAME)
    return card[:, :, 0] if layout.channels == 1 else card


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
    """A contact sheet: a row an image, a column a class, class names above.

    Args:
        layout: the measures.
        columns: the class names.
        rows: at least one; either all have an original or none has.

    Returns:
        (height, width) or (height, width, 3) uint8.
    """
    side = layout.tile
    with_original = rows[0].original is not None
    start = _PADDING + (side + _GROUP_GAP if with_original else 0)
    width = start + len(columns) * (side + _GAP) - _GAP + _PADDING
    step = side + _GAP + (_NOTE if rows[0].marks is not None else 0)
    height = _PADDING + _CAPTION + len(rows) * step - _GAP + _PADDING
    card = _card(height, width, layout.channels)
    if with_original:
        _paste(card, _caption("original", side, bold=True), _PADDING, _PADDING)
    for column, name in enumerate(columns):
        _paste(card, _caption(name, side), _PADDING, start + column * (side + _GAP))
    y = _PADDING + _CAPTION
    for row in rows:
        if row.original is not None:
            _place(card, scaled(row.original.pixels, side, layout.channels), y, _PADDING, _OWN_FRAME)
        for column, tile in enumerate(row.tiles):
            frame = _OWN_FRAME if column == row.own else _FRAME
            pixels = scaled(tile.transpose(1, 2, 0), side, layout.channels)
            x = start + column * (side + _GAP)
            _place(card, pixels, y, x, frame)
            if row.marks is not None:
                _paste(card, _mark(row.marks[column], side), y + side + 1, x)
        y += step
    return card[:, :, 0] if layout.channels == 1 else card


def _card(height: int, width: int, channels: int) -> Pixels:
    return np.full((height, width, channels), _CARD, dtype=np.uint8)


def _paste(card: Pixels, pixels: Pixels, y: int, x: int) -> None:
    card[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels


def _place(card: Pixels, pixels: Pixels, y: int, x: int, frame: int) -> None:
    """Paste a tile with a frame of one pixel around it."""
    height, width = pixels.shape[:2]
    card[y - 1 : y + height + 1, x - 1 : x + width + 1] = frame
    _paste(card, pixels, y, x)


def scaled(pixels: Pixels, side: int, channels: int) -> Pixels:
    """(H, W, C) to (side, side, channels): whole multiples by nearest neighbour, else smoothly."""
    if pixels.shape[2] != channels:
        pixels = np.repeat(pixels[:, :, :1], channels, axis=2)
    height, width = pixels.shape[:2]
    if height == width and side % height == 0:
        factor = side // height
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    flat = pixels[:, :, 0] if channels == 1 else pixels
    resized = np.asarray(Image.fromarray(flat).resize((side, side), Image.Resampling.LANCZOS))
    return resized.reshape(side, side, channels)


@lru_cache(maxsize=4096)
def _caption(text: str, width: int, *, bold: bool = False, note: bool = False) -> Pixels:
    """Text centred in a strip: smaller, then on two lines, then cut short, until it fits.

    Returns:
        (strip height, width, 1) uint8.
    """
    height, ink = (_NOTE, _NOTE_TEXT) if note else (_CAPTION, _TEXT)
    strip = Image.new("L", (width, height), _CARD)
    text = " ".join(text.split())
    if not text:
        return np.asarray(strip)[:, :, None]
    draw = ImageDraw.Draw(strip)
    stroke = 0.3 if bold else 0
    for size in _NOTE_SIZES if note else _FONT_SIZES:
        if font(size).getlength(text) <= width:
            y = 5 if note else height - 7
            anchor = "mt" if note else "ms"
            draw.text((width / 2, y), text, ink, font(size), anchor, stroke_width=stroke)
            return np.asarray(strip)[:, :, None]
    small = font(_SMALL)
    lines = _two_lines(text, small, width)
    for line, y in zip(lines, (height - 14, height - 4), strict=False):
        draw.text((width / 2, y), line, ink, small, "ms")
    return np.asarray(strip)[:, :, None]


@lru_cache(maxsize=4096)
def _mark(mark: Mark, width: int) -> Pixels:
    """A tick, a question mark or a cross, and a few words: the worse, the brighter.

    Returns:
        (strip height, width, 1) uint8.
    """
    strip = Image.new("L", (width, _NOTE), _CARD)
    draw = ImageDraw.Draw(strip)
    ink = {"sure": _NOTE_TEXT, "unsure": _TEXT, "wrong": _CARD}[mark.kind]
    if mark.kind == "wrong":
        draw.rectangle((0, 2, width - 1, _NOTE - 2), _TEXT)
    sign, gap, text = 9, 5, " ".join(mark.text.split())
    room = width - sign - gap - 2
    size = next((size for size in _NOTE_SIZES if font(size).getlength(text) <= room), _NOTE_SIZES[-1])
    if font(size).getlength(text) > room:
        while text and font(size).getlength(text + _ELLIPSIS) > room:
            text = text[:-1]
        text += _ELLIPSIS
    x = max(1, round((room - font(size).getlength(text)) / 2))
    top, bottom = 5, 13
    if mark.kind == "sure":
        draw.line([(x, top + 4), (x + 3, bottom - 1), (x + sign - 1, top)], ink, 2)
    elif mark.kind == "wrong":
        draw.line([(x, top), (x + sign - 1, bottom)], ink, 2)
        draw.line([(x, bottom), (x + sign - 1, top)], ink, 2)
    else:
        draw.text((x + sign / 2, bottom + 1), "?", ink, font(14), "ms", stroke_width=0.4)
    draw.text((x + sign + gap, bottom + 1), text, ink, font(size), "ls")
    return np.asarray(strip)[:, :, None]


def _two_lines(text: str, small: ImageFont.FreeTypeFont, width: int) -> tuple[str, str]:
    """Break a text in two: between words if the first line takes any, else within."""
    fitting = next((end for end in range(len(text), 0, -1) if small.getlength(text[:end]) <= width), 1)
    at = max(text.rfind(mark, 1, fitting + 1) for mark in " _-") if fitting < len(text) else -1
    at = at if at > fitting // 3 else fitting
    rest = text[at:].lstrip(" ")
    if small.getlength(rest) > width:
        while rest and small.getlength(rest + _ELLIPSIS) > width:
            rest = rest[:-1]
        rest += _ELLIPSIS
    return text[:at].rstrip(" "), rest


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all captions, which comes with Pillow."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)  # Pillow's wheels all have FreeType
    return loaded
