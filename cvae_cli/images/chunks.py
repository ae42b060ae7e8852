"""What there is in a PNG besides its pixels: which chunks drawing needs, and which way up it is.

PNG, third edition (W3C 2025), sections 4.7 and 11.3. Pillow reads all chunks, and fails on the whole when
one is broken or large that drawing does not need.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from cvae_cli.images import tiff

_NEEDED = frozenset([b"IHDR", b"PLTE", b"IDAT", b"IEND"])
_TRANSPARENCY_BYTES: dict[int, Callable[[int], bool]] = {
    0: lambda length: length == 2,
    2: lambda length: length == 6,
    3: lambda length: 1 <= length <= 256,
}
"""How long a ``tRNS`` chunk has to be, by the type of colour."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTED, _ANIMATED = frozenset([b"eXIf", *_TEXTS]), frozenset([b"acTL", b"fcTL"])
_RAW_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
"""Keywords under which EXIF data are kept as hexadecimal digits, by ImageMagick and ExifTool."""
_XMP = b"XML:com.adobe.xmp"
_MAX_UNPACKED = 1_000_000
"""Bytes of a compressed text that are looked at: orientation is near the beginning."""


@dataclass(frozen=True)
class Png:
    """A PNG without what its pixels do not depend on.

    Attributes:
        content: the file with no other chunks than drawing needs.
        orientation: 1 to 8, from its EXIF data or XMP, wherever in the file they are.
        frames: how many pictures it says it holds.
    """

    content: bytes
    orientation: int = 1
    frames: int = 1


def read_png(content: bytes) -> Png:
    """Tell the chunks of a PNG that are needed from the others, which are neither unpacked nor kept."""
    kept, start, at = [content[:8]], 8, 8
    others: dict[bytes, list[bytes]] = {}
    before_pixels = True
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        after = at + 12 + length
        if kind == b"IDAT":
            before_pixels = False
        # Of chunks that are not needed to read the others the first letter is a small one.
        elif kind not in _NEEDED and kind[0] & 0x20 and kind.isalpha():
            if kind != b"tRNS" or not _is_whole(content, at, after) or not _fits(content, length):
                kept.append(content[start:at])
                start = after
            wanted = kind in _ORIENTED or (before_pixels and kind in _ANIMATED)
            if wanted and _is_whole(content, at, after):
                others.setdefault(kind, []).append(content[at + 8 : after - 4])
        at = after
    if start == 8:
        return Png(content)
    return Png(b"".join([*kept, content[start:]]), _orientation(others), _count_frames(others))


def _is_whole(content: bytes, at: int, after: int) -> bool:
    """Whether a chunk is all there and has its checksum."""
    if after > len(content):
        return False
    return zlib.crc32(content[at + 4 : after - 4]) == int.from_bytes(content[after - 4 : after], "big")


def _fits(content: bytes, length: int) -> bool:
    """Whether a ``tRNS`` chunk of this length can belong to the picture."""
    return len(content) > 25 and _TRANSPARENCY_BYTES.get(content[25], lambda _: False)(length)


def _count_frames(others: dict[bytes, list[bytes]]) -> int:
    """As the animation says, and one more where the picture of the PNG itself is no part of it."""
    control = others.get(b"acTL", [b""])[0]
    if len(control) != 8:
        return 1
    (frames,) = struct.unpack_from(">I", control)
    return int(frames) + (b"fcTL" not in others) if 0 < frames < 2**31 else 1


def _orientation(others: dict[bytes, list[bytes]]) -> int:
    """The first orientation that is not the usual one."""
    for exif in others.get(b"eXIf", []):
        if (value := tiff.orientation(exif)) != 1:
            return value
    for kind in _TEXTS:
        for chunk in others.get(kind, []):
            keyword, _, rest = chunk.partition(b"\0")
            if keyword in _RAW_PROFILES:
                value = tiff.orientation(_digits(_text(kind, rest)))
            elif keyword == _XMP:
                value = tiff.orientation_in_xmp(_text(kind, rest))
            else:
                continue
            if value != 1:
                return value
    return 1


def _text(kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk, from what follows its keyword."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    if not packed:
        return rest[:_MAX_UNPACKED]
    try:
        return zlib.decompressobj().decompress(rest, _MAX_UNPACKED)
    except zlib.error:
        return b""


def _digits(profile: bytes) -> bytes:
    """The bytes of a raw profile: a line with its name, one with its length, then pairs of digits."""
    lines = profile.split(b"\n", 3)
    found = re.match(rb"(?:[0-9a-fA-F]{2})*", b"".join(lines[-1].split())) if len(lines) == 4 else None
    return bytes.fromhex(found[0].decode("ascii")) if found else b""
