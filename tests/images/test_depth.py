from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import encoded
from PIL import Image

from cvae_cli.images import depth
from cvae_cli.images.decode import decode

NOISE = np.random.default_rng(0)


def stroke(height: int = 40, width: int = 30) -> np.ndarray:
    """Levels of 0 to 255: a soft stroke on black."""
    image = np.zeros((height, width), np.uint16)
    image[8:32, 12:18], image[8:32, 13:17], image[26:32, 12:24] = 128, 255, 255
    return image


def png16(samples: np.ndarray, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of 16-bit samples, (H, W, C), whose rows all have the filter ``Up``."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").view(np.uint8).reshape(height, 2 * width * channels)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    raw = b"".join(b"\2" + row.tobytes() for row in rows - above)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    chunks += [(b"tRNS", extra)] * bool(extra) + [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def colour_file(kind: str, samples: np.ndarray) -> bytes:
    """(H, W, C) 16-bit samples of grey in a file of 16-bit colour."""
    height, width, _ = samples.shape
    full = np.full((height, width, 1), 65535)
    rgb = np.repeat(samples, 3, axis=2)
    if kind == "PPM":
        return b"P6\n# a comment\n%d %d\n65535\n" % (width, height) + rgb.astype(">u2").tobytes()
    if kind == "TIFF":  # Pillow writes none; its 16-bit RGB is that of a PNG
        entries = [(256, width), (257, height), (259, 1), (262, 2), (273, 200), (277, 3), (278, height)]
        entries += [(279, rgb.size * 2)]
        packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        bits = struct.pack("<HHII", 258, 3, 3, 180)
        directory = struct.pack("<2sHIH", b"II", 42, 8, 9) + packed[:24] + bits + packed[24:] + bytes(4)
        head = directory.ljust(180, b"\0") + struct.pack("<3H", 16, 16, 16)
        return head.ljust(200, b"\0") + rgb.astype("<u2").tobytes()
    channels = {"grey+alpha": (samples, full), "RGB": (rgb,), "RGBA": (rgb, full)}[kind]
    return png16(np.concatenate(channels, axis=2), {"grey+alpha": 4, "RGB": 2, "RGBA": 6}[kind])


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("kind", ["grey+alpha", "RGB", "RGBA", "PPM", "TIFF"])
def test_colour_and_transparency_in_16_bits_are_scaled_by_the_bits_that_they_use(
    kind: str, bits: int
) -> None:
    levels = np.rint(stroke()[:, :, None] / 255 * (2**bits - 1)).astype(np.uint16)
    decoded = decode(colour_file(kind, levels))
    assert np.abs(decoded.pixels[:, :, 0].astype(int) - stroke()).max() <= 1
    assert decoded.preprocessing.bits == (bits if bits < 16 else None)


@pytest.mark.parametrize("kind", ["grey+alpha", "RGB", "RGBA", "PPM", "TIFF", "PNG", "float"])
@pytest.mark.parametrize(("pedestal", "steps"), [(1000, 1), (4000, 3), (30_000, 10), (65_000, 2)])
def test_strokes_on_a_pedestal_are_stretched(kind: str, pedestal: int, steps: int) -> None:
    for levels in (stroke(), 255 - stroke()):
        samples = pedestal + steps * levels
        if kind == "PNG":
            content = encoded(Image.fromarray(samples.astype(np.uint16)), "PNG")
        elif kind == "float":
            content = encoded(Image.fromarray((samples / 66_000).astype(np.float32)), "TIFF")
        else:
            content = colour_file(kind, samples[:, :, None])
        decoded = decode(content)
        assert np.abs(decoded.pixels[:, :, 0].astype(int) - levels).max() <= 1
        if kind != "float":
            assert decoded.preprocessing.stretched == (pedestal, pedestal + 255 * steps)


def test_the_lowest_four_bits_alone_are_a_picture_too() -> None:
    scaled = depth.scale(stroke() // 16)
    assert scaled.stretched == (0, 15)
    assert scaled.pixels.max() == 255


@pytest.mark.parametrize(
    "dark",
    [
        np.full((40, 40), 700),
        NOISE.normal(700, 3, (40, 40)),
        NOISE.integers(0, 12, (40, 40)),
        700 + 9 * NOISE.integers(0, 2, (40, 1)) * np.ones((1, 40)),
        700 + 60 * (np.arange(1600).reshape(40, 40) == 820),
        np.full((1, 1), 9),
    ],
    ids=["flat", "noise", "little noise", "banding", "a hot pixel", "one pixel"],
)
def test_dark_stays_dark_where_nothing_stands_out(dark: np.ndarray) -> None:
    scaled = depth.scale(dark.astype(np.uint16))
    assert scaled.stretched is None
    assert scaled.pixels.max() <= 4


def test_strokes_are_told_from_noise_in_spite_of_it() -> None:
    noisy = 1000 + stroke(200, 150) + NOISE.normal(0, 10, (200, 150))
    assert depth.scale(noisy.astype(np.uint16)).stretched is not None


def test_what_is_transparent_does_not_count() -> None:
    levels = (1000 + stroke())[:, :, None]
    alpha = np.full(levels.shape, 65535)
    alpha[:6] = levels[:6] = 0
    decoded = decode(png16(np.concatenate([levels, alpha], axis=2), 4))
    assert decoded.preprocessing.stretched == (1000, 1255)
    assert np.array_equal(decoded.pixels[6:, :, 0], stroke()[6:])


def test_transparency_in_as_few_bits_as_the_colours() -> None:
    levels = stroke()[:, :, None]
    decoded = decode(png16(np.concatenate([levels, np.full(levels.shape, 255)], axis=2), 4))
    assert np.array_equal(decoded.pixels[:, :, 0], stroke())


def test_a_transparent_colour_is_compared_in_all_its_bits() -> None:
    rgb = np.repeat(stroke()[:, :, None], 3, axis=2)
    decoded = decode(png16(rgb, 2, struct.pack(">3H", 0, 0, 0)))
    assert decoded.preprocessing.composited == "on black"
    assert np.array_equal(decoded.pixels[:, :, 0], stroke())


def test_only_pictures_in_16_bit_colour_are_read_twice() -> None:
    for image in (Image.new("RGB", (4, 4)), Image.new("RGBA", (4, 4)), Image.new("L", (4, 4))):
        for kind in ("PNG", "TIFF"):
            with Image.open(io.BytesIO(encoded(image, kind))) as opened:
                assert depth.deep_tile(opened) is None
    content = colour_file("RGB", 257 * stroke()[:, :, None])
    with Image.open(io.BytesIO(content)) as opened:
        tile = depth.deep_tile(opened)
        assert tile is not None
        opened.load()
        assert depth.both_bytes(content, opened, tile) is None  # its upper bytes are enough
