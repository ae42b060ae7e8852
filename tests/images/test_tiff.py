from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from helpers import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvae_cli.images import tiff
from cvae_cli.images.decode import decode

SHORT, LONG, ASCII = 3, 4, 2


def made(*entries: tuple[int, int, tuple[int, ...]], order: str = "<", following: int = 0) -> bytes:
    """A TIFF of one directory with these tags: number, type and values."""
    letters = {SHORT: "H", LONG: "I", ASCII: "B"}
    after = 8 + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, kind, numbers in entries:
        packed = struct.pack(f"{order}{len(numbers)}{letters[kind]}", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", after + len(values)), values + packed
        directory += struct.pack(order + "HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + directory + struct.pack(order + "I", following) + values


@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_numbers_are_read_and_the_rest_is_left_out(order: str) -> None:
    content = made(
        (256, LONG, (70_000,)), (258, SHORT, (8, 8, 8)), (270, ASCII, (104, 105, 0)), (277, SHORT, (3,)),
        order=order,
    )  # fmt: skip
    assert tiff.read_tags(content) == {256: (70_000,), 258: (8, 8, 8), 277: (3,)}


def test_a_broken_entry_does_not_hide_the_others() -> None:
    content = bytearray(made((258, SHORT, (16, 16, 16)), (277, SHORT, (3,))))
    struct.pack_into("<I", content, 8 + 2 + 8, 10_000_000)  # the first one points beyond the end
    assert tiff.read_tags(bytes(content)) == {277: (3,)}


def test_a_big_tiff_is_read_too() -> None:
    entry = struct.pack("<HHQ8s", 277, SHORT, 1, struct.pack("<H", 4))
    content = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16) + struct.pack("<Q", 1) + entry + struct.pack("<Q", 0)
    assert tiff.read_tags(content) == {277: (4,)}
    assert tiff.count_pages(content) == 1


def test_pages_are_counted_and_a_chain_in_a_circle_ends() -> None:
    image = Image.new("L", (4, 4))
    for count in (1, 3):
        content = encoded(image, "TIFF", save_all=True, append_images=[image] * (count - 1))
        assert tiff.count_pages(content) == count
    assert tiff.count_pages(made((277, SHORT, (1,)), following=8)) == 1
    assert tiff.count_pages(b"no TIFF at all") == 1


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_the_orientation_of_exif_data(prefix: bytes) -> None:
    for value in range(1, 9):
        assert tiff.orientation(prefix + made((tiff.ORIENTATION, SHORT, (value,)))) == value
    for odd in (made((tiff.ORIENTATION, SHORT, (9,))), made((tiff.ORIENTATION, SHORT, (0,))), b"", b"junk"):
        assert tiff.orientation(prefix + odd) == 1


def test_the_orientation_in_xmp() -> None:
    for value in range(1, 9):
        assert tiff.orientation_in_xmp(b'<x tiff:Orientation="%d"/>' % value) == value
        assert tiff.orientation_in_xmp(b"<tiff:Orientation>%d</tiff:Orientation>" % value) == value
    for odd in (b"", b"<x:xmpmeta", b'tiff:Orientation="9"', b"tiff:Orientation>66<"):
        assert tiff.orientation_in_xmp(odd) == 1


def test_what_pillow_would_misread_is_told() -> None:
    def tags(image: Image.Image) -> tiff.Tags:
        return tiff.read_tags(encoded(image, "TIFF"))

    rgb, deep = Image.new("RGB", (4, 4)), Image.fromarray(np.zeros((4, 4), np.uint16))
    for plain in (rgb, deep, Image.new("L", (4, 4)), Image.new("F", (4, 4))):
        assert tiff.unsupported_samples(tags(plain)) == ""
        assert not tiff.is_white_zero(tags(plain))
    planes = {258: (16, 16, 16), 277: (3,), 284: (2,)}
    assert tiff.unsupported_samples(planes) == "16-bit samples in separate planes"
    assert tiff.unsupported_samples({258: (8,), 339: (2,)}) == "signed 8-bit samples"
    grey_alpha = {258: (8, 8), 277: (2,), 284: (2,)}
    assert tiff.unsupported_samples(grey_alpha) == "grey and transparency in separate planes"
    assert tiff.is_white_zero({258: (16,), 262: (0,)})
    assert not tiff.is_white_zero({258: (8,), 262: (0,)})  # Pillow knows that one
    assert [tiff.is_unsigned({339: (kind,)}) for kind in (1, 2, 3)] == [True, False, False]
    assert tiff.describe_samples({258: (64,), 277: (2,), 339: (3,)}) == "2 float 64-bit samples per pixel"
    assert tiff.describe_samples({}) == "1 unsigned 1-bit sample per pixel"


@pytest.mark.parametrize("kind", ["i2", "i4", "f4", "u2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed_samples_of_either_byte_order_are_read_alike(kind: str, order: str) -> None:
    ramp = np.arange(64).reshape(8, 8)
    scaled = {"f4": ramp / 63, "u2": ramp * 1040}.get(kind, (ramp - 32) * 1000)
    values = scaled.astype(order + kind)
    bits, sample_format = values.itemsize * 8, {"i": 2, "u": 1, "f": 3}[kind[0]]
    for compression, data in ((1, values.tobytes()), (8, zlib.compress(values.tobytes()))):
        entries = (
            (256, SHORT, (8,)), (257, SHORT, (8,)), (258, SHORT, (bits,)), (259, SHORT, (compression,)),
            (262, SHORT, (1,)), (273, LONG, (200,)), (277, SHORT, (1,)), (278, SHORT, (8,)),
            (279, LONG, (len(data),)), (339, SHORT, (sample_format,)),
        )  # fmt: skip
        content = made(*entries, order=order).ljust(200, b"\0") + data
        pixels = decode(content).pixels[:, :, 0].astype(int)
        assert (np.diff(pixels.reshape(-1)) >= 0).all()
        assert pixels[-1, -1] - pixels[0, 0] > 240


def test_one_sample_in_a_plane_of_its_own_is_read() -> None:
    grey = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    plain = encoded(Image.fromarray(grey), "TIFF", tiffinfo={284: 1})
    at = plain.index(struct.pack("<HHI", 284, SHORT, 1)) + 8
    planar = plain[:at] + b"\2" + plain[at + 1 :]
    assert tiff.one_plane(planar) == plain
    assert np.array_equal(decode(planar).pixels, decode(plain).pixels)
    rgb = encoded(Image.new("RGB", (4, 4)), "TIFF", tiffinfo={284: 2})
    for other in (plain, rgb, b"II*\0", b"no TIFF at all"):
        assert tiff.one_plane(other) == other


def test_an_offset_that_no_file_reaches_is_no_error() -> None:
    content = b"II" + struct.pack("<HHHQ", 43, 8, 0, 2**63 + 5)
    assert tiff.read_tags(content) == {}
    assert tiff.count_pages(content) == 1


@settings(deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"])
)
def test_any_bytes_are_read_without_an_error(content: bytes, head: bytes) -> None:
    tags = tiff.read_tags(head + content)
    assert all(values for values in tags.values())
    assert tiff.orientation(head + content) in range(1, 9)
    assert tiff.count_pages(head + content) >= 1
