"""The bytes of an image file to a uint8 array; every way they can be bad is a short reason."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cvae_cli.errors import ImageError
from cvae_cli.images.preprocessing import Preprocessing

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""The formats that are tried. Pillow's other decoders are less well tested."""

MAX_PIXELS = 64_000_000

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM", b"P")
"""What files of the formats begin with. (A bitmap without its file header, ``DIB``, has no signature,
and is never large.)"""
# Set once for the process, since filters cannot be changed safely while threads decode. What Pillow
# finds odd about a file is of no use to a user, but a decompression bomb is an error.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, C) uint8, C = 1 (grey) or 3 (RGB), upright.
        preprocessing: what decoding had to do.
    """

    pixels: NDArray[np.uint8]
    preprocessing: Preprocessing


def may_be_image(head: bytes) -> bool:
    """Whether these first bytes can be those of a supported image format."""
    return head.startswith(_SIGNATURES)


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS, sufficient_side: int | None = None) -> Decoded:
    """Decode the bytes of an image file.

    EXIF orientation is applied; transparency is composited on black or white, whichever the picture
    stands out from; samples deeper than 8 bits are scaled, not clipped; of several frames the first
    one is used.

    Args:
        content: PNG, JPEG, WebP, BMP, GIF, TIFF or PNM, recognised by its content.
        max_pixels: width times height above which nothing is decoded.
        sufficient_side: length of the shorter side, in pixels, that is enough. A JPEG of at least
            twice that is decoded at a half, a quarter or an eighth of its size, which the format
            does in less time and memory.

    Raises:
        ImageError: not an image of these formats, truncated, damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{width}x{height} pixels are over the limit of {max_pixels / 1e6:g} million"
                )
            done = Preprocessing(size=(width, height), mode=image.mode)
            if (frames := getattr(image, "n_frames", 1)) > 1:
                done = replace(done, frames=frames)
                image.seek(0)
            if (orientation := image.getexif().get(0x0112, 1)) in range(2, 9):
                done = replace(done, orientation=orientation)
            if sufficient_side and image.format in ("JPEG", "MPO"):
                image.draft(None, (sufficient_side, sufficient_side))
                if image.width < width:
                    done = replace(done, reduced=round(width / image.width))
            image.load()
            upright = ImageOps.exif_transpose(image) if done.orientation else image
            return _to_array(upright, done)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image, or its header is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too many pixels (decompression bomb)") from None
    except MemoryError:
        raise ImageError("too large for the memory of this machine") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        ZeroDivisionError,
        OverflowError,
        RuntimeError,
    ) as error:
        # What Pillow's decoders raise on damaged files is not limited to OSError.
        raise ImageError(f"damaged image: {_reason(error)}") from error


def _to_array(image: Image.Image, done: Preprocessing) -> Decoded:
    mode = image.mode
    if mode.startswith(("I", "F")):
        # Ahead of transparency: converting these to RGBA would clip them.
        values = np.asarray(image)
        done = replace(done, scaled_from=str(values.dtype.newbyteorder("=")))
        return Decoded(_scale_deep(values)[:, :, None], done)
    if mode in _TRANSPARENT_MODES or "transparency" in image.info:
        # Converting to the mode that it already has would copy the whole image.
        rgb, background = _composite(image if mode == "RGBA" else image.convert("RGBA"))
        done = replace(done, composited=background)
    elif mode in ("1", "L"):
        return Decoded(np.asarray(image.convert("L"))[:, :, None], done)
    else:
        rgb = np.asarray(image if mode == "RGB" else image.convert("RGB"))
    return Decoded(np.ascontiguousarray(rgb[:, :, :1]) if _is_grey(rgb) else rgb, done)


def _composite(image: Image.Image) -> tuple[NDArray[np.uint8], str | None]:
    """Put an RGBA picture on black or on white, whichever it can be seen against.

    Returns:
        (H, W, 3) uint8 and which it was put on; ``None`` where it is opaque.
    """
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("RGB")), None
    # A strip at a time: the largest image that is allowed must not take a gigabyte.
    width, height = image.size
    bounds = [(rows.start, min(rows.stop, height)) for rows in _strips(height, width)]
    opaque = lit = 0
    for top, bottom in bounds:
        strip = image.crop((0, top, width, bottom))
        alpha = np.asarray(strip.getchannel("A")).astype(np.int64)
        opaque += int(alpha.sum())
        lit += int(np.vdot(np.asarray(strip.convert("RGB").convert("L")).astype(np.int64), alpha))
    light = opaque > 0 and lit / opaque > 127.5
    composited = np.empty((height, width, 3), np.uint8)
    for top, bottom in bounds:
        strip = image.crop((0, top, width, bottom))
        background = Image.new("RGB", strip.size, (0, 0, 0) if light else (255, 255, 255))
        background.paste(strip.convert("RGB"), mask=strip.getchannel("A"))
        composited[top:bottom] = np.asarray(background)
    return composited, "on black" if light else "on white"


def _scale_deep(values: NDArray[Any]) -> NDArray[np.uint8]:
    """More than 8 bits to 8: 16-bit integers by their full range, others by their own."""
    extremes = [
        (part.min(), part.max()) for part in (_finite(values[rows]) for rows in _strips(*values.shape[:2]))
    ]
    low, high = float(min(a for a, _ in extremes)), float(max(b for _, b in extremes))
    if values.dtype.kind in "iu":
        if low >= 0 and high <= 65535:  # 32-bit "I" is how 16-bit files are often held
            low, high = 0.0, 65535.0 if high > 255 or values.dtype.itemsize == 2 else 255.0
    elif low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    elif low >= 0.0 and high <= 255.0:
        low, high = 0.0, 255.0
    span = high - low
    scaled = np.zeros(values.shape, np.uint8)
    if span > 0:
        for rows in _strips(*values.shape[:2]):
            part = (_finite(values[rows]) - low) * (255.0 / span)
            scaled[rows] = np.clip(np.rint(part), 0, 255).astype(np.uint8)
    return scaled


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows of an image, about a million pixels at a time."""
    step = max(1, 1_000_000 // width)
    return (slice(start, start + step) for start in range(0, height, step))


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    first = rgb[:, :, 0]
    return bool((first == rgb[:, :, 1]).all() and (first == rgb[:, :, 2]).all())


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:120]
