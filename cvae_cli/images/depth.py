"""Samples of more than 8 bits to 8, as a person would see them.

Often fewer bits are used than there are, or all values lie close together far from zero, as behind a
camera's offset. What can be seen when such a picture is stretched decides.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_DEPTHS = (8, 10, 12, 14, 16)
_STANDS_OUT = 1 / 16
"""Contrast, as a share of the range, from which something can be seen in a picture."""
_FAINT = 1 / 8
"""Contrast, as a share of the range, below which a picture is stretched to what it fills."""
_FEWEST_LEVELS = 8
"""Steps between the darkest and the brightest sample from which a picture is stretched to those two."""
_LOW_BYTES = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBX", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
}
"""What Pillow takes samples for of which it keeps the upper byte, and what makes it keep the lower one."""


@dataclass(frozen=True)
class Scaled:
    """Samples in 8 bits.

    Attributes:
        pixels: uint8, of the shape of the samples.
        bits: how many bits are used of 16, if the samples were scaled by fewer.
        stretched: the lowest and the highest sample, if they were scaled to just those.
    """

    pixels: NDArray[np.uint8]
    bits: int | None = None
    stretched: tuple[float, float] | None = None


def scale(values: NDArray[Any], opaque: NDArray[np.bool_] | None = None) -> Scaled:
    """More than 8 bits to 8: integers by the depth that they use, others by their own range.

    Samples too close together to be told apart that way are stretched to the range that they fill, if
    they are a picture and not noise.

    Args:
        values: (H, W) or (H, W, C).
        opaque: (H, W), which of them can be seen, and there are some.
    """
    if opaque is not None:
        values = np.where(opaque[:, :, None], values, values[opaque].mean(axis=0).astype(values.dtype))
    parts = (_finite(values[rows]) for rows in strips(*values.shape[:2]))
    extremes = [(part.min(), part.max()) for part in parts]
    least, most = float(min(a for a, _ in extremes)), float(max(b for _, b in extremes))
    low, high, bits = least, most, None
    whole = values.dtype.kind in "iu"
    if whole and least >= 0 and most <= 65535:  # 32-bit "I" is how 16-bit files are often held
        used = next(depth for depth in _DEPTHS if most < 2**depth)
        if used < 16 and most - least >= _STANDS_OUT * 2**used:
            bits = used
        low, high = 0.0, float(2 ** (bits or 16) - 1)
    elif not whole and least >= 0.0 and most <= 255.0:
        low, high = 0.0, 1.0 if most <= 1.0 else 255.0
    stretched = None
    # A dark picture in which nothing stands out stays dark.
    if most - least < _FAINT * (high - low) and _is_picture(values, least, most):
        low, high, stretched = least, most, (int(least), int(most)) if whole else (least, most)
    scaled = np.zeros(values.shape, np.uint8)
    if high > low:
        for rows in strips(*values.shape[:2]):
            part = (_finite(values[rows]) - low) * (255.0 / (high - low))
            scaled[rows] = np.clip(np.rint(part), 0, 255).astype(np.uint8)
    return Scaled(scaled, bits, stretched)


def _is_picture(values: NDArray[Any], least: float, most: float) -> bool:
    """Whether neighbours are alike, as in a picture, and not independent of each other, as in noise.

    By the ratio of von Neumann (1941): the mean square of the steps between neighbours over twice the
    variance is 1 in noise, in rows or columns that differ, and where a single pixel is bright.
    """
    height, width = values.shape[:2]
    fewest = _FEWEST_LEVELS if values.dtype.kind in "iu" else 1e-6 * max(abs(least), abs(most))
    if most - least < fewest or min(height, width) < 2:
        return False
    sums = sum(_finite(values[rows]).sum(axis=(0, 1)) for rows in strips(height, width))
    mean = sums / (height * width)
    squares = across = down = 0.0
    for rows in strips(height, width):
        part = _finite(values[rows]) - mean
        squares += float((part**2).sum())
        across += float((np.diff(part, axis=1) ** 2).sum())
        down += float((np.diff(part, axis=0) ** 2).sum())
    steps = max(across / (width - 1) * width, down / (height - 1) * height)
    return steps < (0.75 - 3.0 / (height * width) ** 0.5) * 2.0 * squares


def deep_tile(image: ImageFile.ImageFile) -> ImageFile._Tile | None:
    """What says where the samples of an open picture are, if it is one in 16-bit colour.

    Pillow keeps the upper 8 bits of those.
    """
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return None
    tile = image.tile[0]
    rawmode = _rawmode(tile)
    is_deep = rawmode in _LOW_BYTES or rawmode == "LA;16B" or _largest_of_ppm(tile) > 255
    return tile if is_deep else None


def both_bytes(
    content: bytes, image: ImageFile.ImageFile, tile: ImageFile._Tile
) -> tuple[Image.Image, Image.Image] | None:
    """The upper and the lower bytes of a picture in 16-bit colour, where the upper ones are not enough.

    Args:
        content: the file.
        image: the picture in it, loaded.
        tile: its :func:`deep_tile`.

    Raises:
        Exception: what Pillow raises.
    """
    extremes: Any = image.getextrema()[:3]
    low, high = min(band[0] for band in extremes), max(band[1] for band in extremes)
    if high >= 64 and high - low >= 256 * _FAINT:
        return None
    if _largest_of_ppm(tile):
        width, height = image.size
        samples = np.frombuffer(content, ">u2", width * height * 3, tile.offset).reshape(height, width, 3)
        samples = np.minimum(np.rint(samples * (65535.0 / _largest_of_ppm(tile))), 65535).astype(np.uint16)
        upper, lower = (samples >> 8).astype(np.uint8), samples.astype(np.uint8)
        return Image.fromarray(upper), Image.fromarray(lower)
    if _rawmode(tile) == "LA;16B":
        # A pixel takes as many bytes as one of 8-bit RGBA: with that in its header both are read.
        header = content[12:24] + b"\x08\x06" + content[26:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    with Image.open(io.BytesIO(content), formats=[image.format or ""]) as again:
        again.tile = [_with_low_bytes(tile) for tile in again.tile]
        again.load()
        if _rawmode(tile) != "LA;16B":
            return image, again
        _, grey, _, alpha = again.split()
        return image, Image.merge("RGBA", (grey, grey, grey, alpha))


def scale_colour(upper: Image.Image, lower: Image.Image) -> tuple[Image.Image, Scaled]:
    """As :func:`scale`, for 16-bit RGB or RGBA in two pictures of bytes.

    Returns:
        The picture in 8 bits, and how its colours were scaled.
    """
    samples = np.asarray(upper).astype(np.uint16) << 8
    samples |= np.asarray(lower)
    colours = samples[:, :, :3]
    key = upper.info.get("transparency")
    if upper.mode == "RGBA":
        alpha = samples[:, :, 3]
        # Where 8 bits were put into 16, those of transparency may have been as well.
        depth = next(depth for depth in _DEPTHS if int(alpha.max()) < 2**depth)
        alpha = np.rint(alpha * (255.0 / (2**depth - 1))).astype(np.uint8)
    elif isinstance(key, tuple):
        alpha = np.where((colours == key).all(axis=2), 0, 255).astype(np.uint8)
    else:
        scaled = scale(colours)
        return Image.fromarray(scaled.pixels), scaled
    opaque = alpha > 127
    scaled = scale(colours, opaque if opaque.any() else None)
    return Image.fromarray(np.dstack([scaled.pixels, alpha])), scaled


def _rawmode(tile: ImageFile._Tile) -> Any:
    return tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args


def _largest_of_ppm(tile: ImageFile._Tile) -> int:
    """The largest value of a sample in a PPM whose samples have to be scaled; 0 for others."""
    scaled = tile.codec_name == "ppm" and isinstance(tile.args, tuple)
    return int(tile.args[-1]) if scaled and tile.args else 0


def _with_low_bytes(tile: ImageFile._Tile) -> ImageFile._Tile:
    rawmode = _LOW_BYTES.get(_rawmode(tile))
    if rawmode is None:
        return tile
    return tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # some NaNs are said to be invalid when they are cast
        return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of an image, about a million pixels at a time."""
    step = max(1, 1_000_000 // width)
    return (slice(start, start + step) for start in range(0, height, step))
