from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import encoded
from PIL import Image, UnidentifiedImageError

from cvae_cli.errors import ImageError
from cvae_cli.images import decode


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
    for stored in (grey, grey.convert("RGB"), grey.convert("1"), grey.convert("LA")):
        pixels = decode.decode(encoded(stored, "PNG")).pixels
        assert np.array_equal(pixels, np.asarray(stored.convert("L"))[:, :, None])


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        pixels = decode.decode(encoded(Image.fromarray(ramp), kind)).pixels[:, :, 0]
        assert np.abs(pixels.reshape(-1).astype(int) - np.arange(256)).max() <= 1


def test_sixteen_bits_with_a_transparent_colour_are_scaled_too() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = decode.decode(encoded(Image.fromarray(ramp), "PNG", transparency=65535)).pixels[:, :, 0]
    assert np.abs(pixels.reshape(-1)[:255].astype(int) - np.arange(255)).max() <= 1


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
    with pytest.raises(ImageError, match="unsupported: a PostScript file"):
        decode.decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_what_pillow_cannot_read_is_named() -> None:
    with pytest.raises(ImageError, match="HEIC image; convert it"):
        decode.decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    content = bytearray(encoded(Image.new("F", (4, 4)), "TIFF"))
    content[content.index(struct.pack("<HHI", 258, 3, 1)) + 8] = 24  # bits in a sample
    with pytest.raises(ImageError, match="TIFF of 1 float 24-bit sample per pixel; convert it to PNG"):
        decode.decode(bytes(content))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
def test_texts_of_a_png_are_never_unpacked(rgb: Image.Image, kind: bytes) -> None:
    whole = encoded(rgb, "PNG")
    bomb = chunk(kind, b"Comment\0\0" + zlib.compress(bytes(5_000_000), 9))
    for content in (whole[:33] + bomb + whole[33:], whole[:33] + chunk(kind, b"\xff" * 50) + whole[33:]):
        assert np.array_equal(decode.decode(content).pixels, np.asarray(rgb))


def test_a_jpeg_that_lacks_only_its_end_is_whole(rgb: Image.Image) -> None:
    content = encoded(rgb, "JPEG")
    decoded = decode.decode(content[:-2])
    assert decoded.preprocessing.missing_end
    assert np.array_equal(decoded.pixels, decode.decode(content).pixels)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(ImageError, match="cut off"):
        decode.decode(encoded(noise, "JPEG")[:-400])


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_files_are_scaled_by_the_bits_that_they_use(bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        decoded = decode.decode(encoded(Image.fromarray(ramp), kind))
        assert np.abs(decoded.pixels.reshape(-1).astype(int) - np.arange(256)).max() <= 1
        assert decoded.preprocessing.bits == (None if bits == 16 else bits)


def test_a_transparent_sheet_goes_on_beyond_its_border() -> None:
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[5:35, 5:35] = (180, 170, 160, 255)
    rgba[15:25, 19:21] = (10, 10, 10, 255)
    decoded = decode.decode(encoded(Image.fromarray(rgba), "PNG"))
    assert decoded.preprocessing.composited == "on its border colour"
    assert tuple(decoded.pixels[0, 0]) == (180, 170, 160)
    assert tuple(decoded.pixels[20, 20]) == (10, 10, 10)


def test_exif_data_that_cannot_be_read_does_not_matter(rgb: Image.Image) -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0junk"):
        decoded = decode.decode(encoded(rgb, "PNG", exif=exif))
        assert decoded.preprocessing.orientation is None
        assert np.array_equal(decoded.pixels, np.asarray(rgb))


def test_grey_with_premultiplied_alpha_is_read() -> None:
    picture = Image.new("LA", (8, 8), (0, 0))
    picture.paste((200, 255), (2, 2, 6, 6))
    content = bytearray(encoded(picture, "TIFF"))
    place = content.index(struct.pack("<HHI", 338, 3, 1))  # ExtraSamples: unassociated, until now
    assert content[place + 8] == 2
    content[place + 8] = 1
    try:
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.mode == "La"
    except UnidentifiedImageError:
        # Older versions of Pillow do not know it.
        with pytest.raises(ImageError):
            decode.decode(bytes(content))
        return
    decoded = decode.decode(bytes(content))
    assert decoded.pixels[4, 4, 0] == 200
    assert decoded.preprocessing.composited is not None


def test_what_cannot_be_converted_fails_alone(monkeypatch: pytest.MonkeyPatch, rgb: Image.Image) -> None:
    def convert(*_: object) -> None:
        raise ValueError("conversion from odd to RGB not supported")

    monkeypatch.setattr(decode, "_is_grey", convert)
    with pytest.raises(ImageError, match="conversion from odd"):
        decode.decode(encoded(rgb, "PNG"))


def test_a_transparent_grey_is_transparent_in_16_bits_too() -> None:
    drawn = np.full((20, 20), 7, np.uint8)
    drawn[5:15, 8:12] = 0
    files = []
    for array, key in ((drawn, 7), (drawn.astype(np.uint16) * 257, 7 * 257)):
        files.append(encoded(Image.fromarray(array), "PNG", transparency=key))
    pixels = [decode.decode(file) for file in files]
    assert [one.preprocessing.composited for one in pixels] == ["on white"] * 2
    assert all(one.pixels[0, 0, 0] == 255 for one in pixels)
    assert all(one.pixels[10, 10, 0] == 0 for one in pixels)
