"""Captions above tiles and marks below them, as strips of pixels.

Every strip is drawn once and kept: a run over a million images draws a few dozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

CAPTION_HEIGHT = 22
NOTE_HEIGHT = 18
CARD, TEXT, NOTE_TEXT = 30, 236, 158
"""Grey levels of the background, of captions and of notes."""
_FONT_SIZES = (15, 14, 13, 12, 11)
_NOTE_SIZES = (12, 11, 10, 9)
_SMALL = 10
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_NO_CHARACTER = "\U0010ffff"
_WIDE = str(resources.files("cvae_cli.fonts") / "DejaVuSans.ttf")
"""DejaVu Sans, which comes with cvae: Latin, Greek, Cyrillic and more."""
_SYSTEM_FONTS = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSansCJKjp-Regular.otf",
        "SourceHanSans-Regular.ttc",
        "wqy-microhei.ttc",
    ),
    *("wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "ipag.ttf", "unifont.ttf"),
    *("NotoSans-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "FreeSans.ttf"),
    *("Hiragino Sans GB.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
    *("msyh.ttc", "msgothic.ttc", "malgun.ttf", "simsun.ttc", "Nirmala.ttf", "segoeui.ttf"),
)
"""Fonts of usual systems with the scripts that DejaVu Sans lacks."""


@dataclass(frozen=True)
class Mark:
    """The judge's verdict on a tile, to be taken in at a glance.

    Attributes:
        kind: ``sure`` or ``unsure`` where the tile shows its target; ``odd`` where it does, but is not
            drawn as real images are; ``wrong`` where it shows something else; ``doubtful`` below an
            original with a warning.
        text: a word or a percentage beside the symbol.
    """

    kind: Literal["sure", "unsure", "odd", "wrong", "doubtful"]
    text: str


@lru_cache(maxsize=4096)
def caption_strip(text: str, width: int, *, bold: bool = False, note: bool = False) -> Pixels:
    """Text centred in a strip: smaller, then on two lines, then cut short, until it fits.

    Returns:
        (strip height, width, 1) uint8.
    """
    height, ink = (NOTE_HEIGHT, NOTE_TEXT) if note else (CAPTION_HEIGHT, TEXT)
    strip = Image.new("L", (width, height), CARD)
    text = " ".join(text.split())
    if not text:
        return np.asarray(strip)[:, :, None]
    draw = ImageDraw.Draw(strip)
    stroke = 0.3 if bold else 0
    for size in _NOTE_SIZES if note else _FONT_SIZES:
        if _font_for(text, size).getlength(text) <= width:
            y = 5 if note else height - 7
            anchor = "mt" if note else "ms"
            draw.text((width / 2, y), text, ink, _font_for(text, size), anchor, stroke_width=stroke)
            return np.asarray(strip)[:, :, None]
    small = _font_for(text, _SMALL)
    lines = _two_lines(text, small, width)
    for line, y in zip(lines, (height - 14, height - 4), strict=False):
        draw.text((width / 2, y), line, ink, small, "ms")
    return np.asarray(strip)[:, :, None]


@lru_cache(maxsize=4096)
def mark_strip(mark: Mark, width: int) -> Pixels:
    """A tick, a question mark, a zigzag or a cross, and a few words: the worse, the brighter.

    Returns:
        (strip height, width, 1) uint8.
    """
    strip = Image.new("L", (width, NOTE_HEIGHT), CARD)
    draw = ImageDraw.Draw(strip)
    ink = {"sure": NOTE_TEXT, "unsure": TEXT, "odd": TEXT, "wrong": CARD, "doubtful": CARD}[mark.kind]
    if mark.kind in ("wrong", "doubtful"):
        draw.rectangle((0, 2, width - 1, NOTE_HEIGHT - 2), TEXT)
    elif mark.kind == "odd":
        draw.rectangle((0, 2, width - 1, NOTE_HEIGHT - 2), outline=TEXT)
    sign, gap, text = 9, 5, " ".join(mark.text.split())
    room = width - sign - gap - 2
    size = next(
        (size for size in _NOTE_SIZES if _font_for(text, size).getlength(text) <= room), _NOTE_SIZES[-1]
    )
    if _font_for(text, size).getlength(text) > room:
        while text and _font_for(text, size).getlength(text + _ELLIPSIS) > room:
            text = text[:-1]
        text += _ELLIPSIS
    x = max(1, round((room - _font_for(text, size).getlength(text)) / 2))
    top, bottom = 5, 13
    if mark.kind == "sure":
        draw.line([(x, top + 4), (x + 3, bottom - 1), (x + sign - 1, top)], ink, 2)
    elif mark.kind == "odd":
        draw.line([(x, bottom - 1), (x + 2, top), (x + 6, bottom - 1), (x + sign - 1, top)], ink, 2)
    elif mark.kind == "wrong":
        draw.line([(x, top), (x + sign - 1, bottom)], ink, 2)
        draw.line([(x, bottom), (x + sign - 1, top)], ink, 2)
    else:
        symbol = "!" if mark.kind == "doubtful" else "?"
        draw.text((x + sign / 2, bottom + 1), symbol, ink, font(14), "ms", stroke_width=0.4)
    draw.text((x + sign + gap, bottom + 1), text, ink, _font_for(text, size), "ls")
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


@lru_cache(maxsize=64)
def font(size: int, file: str = "") -> ImageFont.FreeTypeFont:
    """A font for captions.

    Args:
        size: in pixels.
        file: of the font. By default that in Pillow, which shows ASCII only.
    """
    if file:
        return ImageFont.truetype(file, size)
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)  # Pillow's wheels all have FreeType
    return loaded


def unshown(text: str) -> str:
    """The characters of a text that captions cannot show; instead of them there is a box."""
    return _missing(text, _font_for(text, _SMALL))


def _missing(text: str, used: ImageFont.FreeTypeFont) -> str:
    """The characters of a text that a font lacks."""
    box = bytes(used.getmask(_NO_CHARACTER))
    return "".join(
        char for char in dict.fromkeys(text) if not char.isascii() and bytes(used.getmask(char)) == box
    )


@lru_cache(maxsize=1024)
def _file_for(text: str) -> str:
    """The font that shows most of a text: that of cvae, or where it lacks something one of the system's."""
    best, fewest = _WIDE, len(_missing(text, font(_SMALL, _WIDE)))
    for name in _SYSTEM_FONTS if fewest else ():
        try:  # Pillow looks where the system keeps its fonts
            found = ImageFont.truetype(name, _SMALL)
        except OSError:
            continue
        if (count := len(_missing(text, found))) < fewest:
            best, fewest = name, count
    return best


def _font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    return font(size) if text.isascii() else font(size, _file_for(text))
