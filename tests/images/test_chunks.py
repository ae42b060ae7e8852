from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from helpers import encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvae_cli.images.chunks import read_png
from cvae_cli.images.decode import decode

UPRIGHT = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
PLAIN = encoded(UPRIGHT, "PNG")
SIDEWAYS = encoded(UPRIGHT.transpose(Image.Transpose.ROTATE_90), "PNG")
EXIF = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
"""An orientation of 6."""
DIGITS = b"\nexif\n %d\n%s\n" % (len(EXIF) + 6, (b"Exif\0\0" + EXIF).hex().encode())
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def chunk(kind: bytes, content: bytes, *, checksum: int = 0) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole) ^ checksum)


def with_chunk(content: bytes, added: bytes, *, last: bool = False) -> bytes:
    """The PNG with a chunk behind its header, or ahead of its end."""
    at = len(content) - 12 if last else 33
    return content[:at] + added + content[at:]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "added",
    [
        chunk(b"eXIf", EXIF),
        chunk(b"eXIf", b"Exif\0\0" + EXIF),
        chunk(b"tEXt", b"Raw profile type exif\0" + DIGITS),
        chunk(b"tEXt", b"Raw profile type APP1\0" + DIGITS),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(DIGITS)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ],
)
def test_the_orientation_is_found_wherever_it_is(added: bytes, last: bool) -> None:
    content = with_chunk(SIDEWAYS, added, last=last)
    assert read_png(content).orientation == 6
    decoded = decode(content)
    assert decoded.preprocessing.orientation == 6
    assert np.array_equal(decoded.pixels[:, :, 0], np.asarray(UPRIGHT))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "added",
    [
        *(chunk(kind, b"\0") for kind in (b"cHRM", b"pHYs", b"gAMA", b"tIME", b"bKGD", b"sBIT", b"acTL")),
        *(chunk(kind, b"") for kind in (b"sRGB", b"iCCP", b"eXIf", b"tRNS", b"fcTL", b"fdAT", b"cICP")),
        *(chunk(kind, b"a\0bc") for kind in (b"vpAg", b"tEXt", b"zTXt", b"iTXt")),
        chunk(b"eXIf", EXIF, checksum=1),
        chunk(b"tRNS", b"\0\x28", checksum=1),
        chunk(b"pHYs", bytes(9), checksum=1),
        chunk(b"zTXt", b"Raw profile type exif\0\0garbage"),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 12\nzzzz"),
        chunk(b"tEXt", b"Raw profile type exif\0"),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000), 9)),
    ],
)
def test_broken_chunks_that_drawing_does_not_need_are_passed_over(added: bytes, last: bool) -> None:
    content = with_chunk(PLAIN, added, last=last)
    assert read_png(content).content == PLAIN
    decoded = decode(content)
    assert np.array_equal(decoded.pixels[:, :, 0], np.asarray(UPRIGHT))
    assert decoded.preprocessing.orientation is None


def test_what_drawing_needs_is_kept() -> None:
    assert read_png(PLAIN).content is PLAIN
    palette = encoded(UPRIGHT.convert("P"), "PNG", transparency=3)
    assert read_png(palette).content == palette
    unknown = with_chunk(PLAIN, chunk(b"CgBI", bytes(4)))
    assert read_png(unknown).content == unknown


@pytest.mark.parametrize("default_image", [False, True])
def test_frames_of_an_animation_are_counted_and_its_first_picture_is_drawn(default_image: bool) -> None:
    more = [UPRIGHT.transpose(Image.Transpose.FLIP_LEFT_RIGHT), UPRIGHT.point(lambda value: 255 - value)]
    content = encoded(UPRIGHT, "PNG", save_all=True, append_images=more, default_image=default_image)
    decoded = decode(content)
    assert decoded.preprocessing.frames == 3
    assert np.array_equal(decoded.pixels[:, :, 0], np.asarray(UPRIGHT))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    for head in (PLAIN[:8], PLAIN[:33], PLAIN[:-12]):
        assert read_png(head + content).orientation in range(1, 9)
        assert read_png(with_chunk(PLAIN, chunk(b"tEXt", b"Raw profile type exif\0" + content))).frames == 1
