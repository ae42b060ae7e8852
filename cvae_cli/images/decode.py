"""An image file to a uint8 array, by its content; every way it can be bad is a short reason."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cvae_cli.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""What is tried, and nothing else: Pillow's rarer decoders are the less tested ones."""

MAX_PIXELS = 64_000_000
MAX_BYTES = 1_000_000_000
_LARGE_BYTES = 64_000_000
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM", b"P")
"""Of the formats. (A bitmap without its file header, ``DIB``, has none, and is never that large.)"""
# Once for the process, since filters cannot be changed safely while threads decode: what Pillow
# finds odd about a file is of no use to anyone, but a decompression bomb is an error.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, C) uint8, C = 1 (grey) or 3 (RGB), upright.
        notes: what decoding had to do, for the manifest: ``size`` (width, height), ``mode``,
            and where they apply ``frames``, ``orientation``, ``reduced``, ``composited``, ``scaled_from``.
    """

    pixels: NDArray[np.uint8]
    notes: dict[str, Any] = field(default_factory=dict)


def read_bytes(file: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: it vanished, may not be read, is not a regular file (a pipe or a device
            would block or never end), is empty, or is larger than 1 GB.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer must not wait for one.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except PermissionError:
        raise ImageError("permission denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ImageError("not a regular file")
        if info.st_size > MAX_BYTES:
            raise ImageError(f"file of {info.st_size / 1e9:.1f} GB is over the limit of 1 GB")
        if info.st_size > _LARGE_BYTES:
            # Before a gigabyte is read that is no picture at all.
            if not os.read(descriptor, 4).startswith(_BEGINNINGS):
                raise ImageError("not an image, or its header is damaged")
            os.lseek(descriptor, 0, os.SEEK_SET)
        # One read for all of it and one that finds the end, since a file may grow meanwhile.
        parts = [os.read(descriptor, info.st_size + 1)]
        while sum(map(len, parts)) <= MAX_BYTES and (part := os.read(descriptor, 1 << 20)):
            parts.append(part)
        # Where all came at once this is no copy.
        content = parts[0] if len(parts) == 1 else b"".join(parts)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if not content:
        raise ImageError("empty file")
    return content


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS, enough: int | None = None) -> Decoded:
    """Decode the bytes of an image file.

    EXIF orientation is applied; transparency is composited on black or white, whichever stands
    out from the picture; deeper than 8 bits is scaled, not clipped; of several frames the first
    is taken.

    Args:
        content: PNG, JPEG, WebP, BMP, GIF, TIFF or PNM, told by its content.
        max_pixels: width times height above which nothing is decoded.
        enough: shorter side in pixels that will do. A JPEG of at least twice that is decoded at a
            half, a quarter or an eighth of its size, which the format does in less time and
            memory; ``notes["reduced"]`` says by how much.

    Raises:
        ImageError: not an image of these formats, truncated, damaged, or too large.
    """
    notes: dict[str, Any] = {}
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{width}x{height} pixels are over the limit of {max_pixels / 1e6:g} million"
                )
            notes["size"], notes["mode"] = [width, height], image.mode
            if (frames := getattr(image, "n_frames", 1)) > 1:
                notes["frames"] = frames
                image.seek(0)
            if (orientation := image.getexif().get(0x0112, 1)) in range(2, 9):
                notes["orientation"] = orientation
            if enough and image.format in ("JPEG", "MPO"):
                image.draft(None, (enough, enough))
                if image.width < width:
                    notes["reduced"] = round(width / image.width)
            image.load()
            upright = ImageOps.exif_transpose(image) if "orientation" in notes else image
            pixels = _to_array(upright, notes)
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
    return Decoded(pixels, notes)


def _to_array(image: Image.Image, notes: dict[str, Any]) -> NDArray[np.uint8]:
    mode = image.mode
    if mode.startswith(("I", "F")):
        # Ahead of transparency: converting these to RGBA would clip them.
        return _scale_deep(np.asarray(image), notes)[:, :, None]
    if mode in _TRANSPARENT_MODES or "transparency" in image.info:
        # Converting to the mode that it has would copy the whole of it.
        rgb = _composite(image if mode == "RGBA" else image.convert("RGBA"), notes)
    elif mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    else:
        rgb = np.asarray(image if mode == "RGB" else image.convert("RGB"))
    if _is_grey(rgb):
        return np.ascontiguousarray(rgb[:, :, :1])
    return rgb


def _composite(image: Image.Image, notes: dict[str, Any]) -> NDArray[np.uint8]:
    """Put a transparent picture, RGBA, on black or on white: on what it can be seen against."""
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("RGB"))
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
    notes["composited"] = "on black" if light else "on white"
    composited = np.empty((height, width, 3), np.uint8)
    for top, bottom in bounds:
        strip = image.crop((0, top, width, bottom))
        background = Image.new("RGB", strip.size, (0, 0, 0) if light else (255, 255, 255))
        background.paste(strip.convert("RGB"), mask=strip.getchannel("A"))
        composited[top:bottom] = np.asarray(background)
    return composited


def _scale_deep(values: NDArray[Any], notes: dict[str, Any]) -> NDArray[np.uint8]:
    """More than 8 bits to 8: 16-bit integers by their full range, others by their own."""
    notes["scaled_from"] = str(values.dtype.newbyteorder("="))
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
