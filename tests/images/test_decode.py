from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images import decode


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def rgb() -> Image.Image:
    y, x = np.mgrid[0:20, 0:30]
    return Image.fromarray(np.stack([x * 8, y * 12, x + y], axis=2).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_formats_by_content(rgb: Image.Image, kind: str) -> None:
    decoded = decode.decode(encoded(rgb, kind))
    assert decoded.pixels.shape == (20, 30, 3)
    assert decoded.preprocessing.size == (30, 20)
    tolerance = {"JPEG": 40, "WEBP": 40, "GIF": 40}.get(kind, 0)
    difference = np.abs(decoded.pixels.astype(int) - np.asarray(rgb).astype(int))
    assert difference.mean() <= tolerance / 4
    if not tolerance:
        assert difference.max() == 0


def test_grey_stays_one_channel(rgb: Image.Image) -> None:
    grey = rgb.convert("L")
    assert decode.decode(encoded(grey, "PNG")).pixels.shape == (20, 30, 1)
    assert decode.decode(encoded(grey.convert("RGB"), "PNG")).pixels.shape == (20, 30, 1)
    assert decode.decode(encoded(grey.convert("1"), "PNG")).pixels.shape == (20, 30, 1)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        pixels = decode.decode(encoded(Image.fromarray(ramp), kind)).pixels[:, :, 0]
        assert np.abs(pixels.reshape(-1).astype(int) - np.arange(256)).max() <= 1


def test_sixteen_bits_with_a_transparent_colour_are_scaled_too() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = decode.decode(encoded(Image.fromarray(ramp), "PNG", transparency=65535)).pixels[:, :, 0]
    assert np.abs(pixels.reshape(-1).astype(int) - np.arange(256)).max() <= 1


def test_dark_sixteen_bits_stay_dark() -> None:
    pixels = decode.decode(encoded(Image.fromarray(np.full((8, 8), 300, np.uint16)), "PNG")).pixels
    assert pixels.max() == 1


@pytest.mark.parametrize("top", [1.0, 255.0, 1234.5])
def test_float_tiff(top: float) -> None:
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    ramp[0, 1] = np.nan
    pixels = decode.decode(encoded(Image.fromarray(ramp), "TIFF")).pixels
    assert pixels.min() == 0
    assert pixels.max() == 255


@pytest.mark.parametrize(("ink", "background"), [(255, 0), (0, 255)])
def test_transparency_is_put_on_what_it_stands_out_from(ink: int, background: int) -> None:
    rgba = np.zeros((10, 10, 4), np.uint8)
    rgba[3:7, 3:7] = (ink, ink, ink, 255)
    decoded = decode.decode(encoded(Image.fromarray(rgba), "PNG"))
    assert decoded.pixels[0, 0, 0] == background
    assert decoded.pixels[5, 5, 0] == ink
    assert decoded.preprocessing.composited == ("on black" if background == 0 else "on white")


def test_palette_with_transparency() -> None:
    image = Image.new("P", (6, 6), 0)
    image.putpalette([255, 255, 255, 10, 20, 30])
    image.putpixel((2, 2), 1)
    decoded = decode.decode(encoded(image, "PNG", transparency=0))
    assert tuple(decoded.pixels[2, 2]) == (10, 20, 30)
    assert tuple(decoded.pixels[0, 0]) == (255, 255, 255)


def test_cmyk() -> None:
    decoded = decode.decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert decoded.pixels[0, 0, 0] > 200
    assert decoded.pixels[0, 0, 1] < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode.decode(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(decoded.pixels[:, :, 0], np.asarray(upright))


@pytest.mark.parametrize(("side", "factor"), [(63, 1), (64, 2), (255, 4), (256, 8), (1000, 8)])
def test_large_jpegs_are_decoded_at_a_share_of_their_size(side: int, factor: int) -> None:
    ramp = Image.fromarray(np.linspace(0, 255, side * 2 * side).reshape(2 * side, side).astype(np.uint8))
    content = encoded(ramp, "JPEG", quality=95)
    decoded = decode.decode(content, sufficient_side=32)
    assert (decoded.preprocessing.reduced or 1) == factor
    assert decoded.preprocessing.size == (side, 2 * side)
    assert decoded.pixels.shape[1] >= 32
    small = ramp.resize((decoded.pixels.shape[1], decoded.pixels.shape[0]), Image.Resampling.BOX)
    assert np.abs(decoded.pixels[:, :, 0].astype(int) - np.asarray(small)).max() <= 6
    assert decode.decode(content).pixels.shape == (2 * side, side, 1)


def test_first_frame_of_several(rgb: Image.Image) -> None:
    content = encoded(rgb, "TIFF", save_all=True, append_images=[Image.new("RGB", rgb.size)])
    decoded = decode.decode(content)
    assert decoded.preprocessing.frames == 2
    assert np.array_equal(decoded.pixels, np.asarray(rgb))


def test_too_many_pixels_are_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageError, match="pixel"):
        decode.decode(bomb)
    with pytest.raises(ImageError, match=r"limit of 0\.0001 million"):
        decode.decode(encoded(Image.new("L", (11, 10)), "PNG"), max_pixels=100)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated(rgb: Image.Image, kind: str) -> None:
    content = encoded(rgb.resize((200, 200)), kind)
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        decode.decode(content[: len(content) // 2])


def test_not_an_image() -> None:
    with pytest.raises(ImageError, match="not an image"):
        decode.decode(b"just text, named .png")
    # PostScript is a program; Pillow would start one to read it.
    with pytest.raises(ImageError, match="not an image"):
        decode.decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
