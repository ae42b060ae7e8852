"""The bytes of an image file to a uint8 array; every way they can be bad is a short reason."""

from __future__ import annotations

import ctypes
import io
import logging
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from cvae_cli.errors import ImageError
from cvae_cli.images import depth, tiff
from cvae_cli.images.chunks import Png, read_png
from cvae_cli.images.jpeg import data_without_end
from cvae_cli.images.preprocessing import Preprocessing
from cvae_cli.images.recognise import name_of_other

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""The formats that are tried. Pillow's other decoders are less well tested."""

MAX_PIXELS = 64_000_000

# Set once for the process, since filters cannot be changed safely while threads decode. What Pillow
# finds odd about a file is of no use to a user, but a decompression bomb is an error.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())
# libtiff writes to the process's stderr itself; what it says there the raised error says too. It is found
# through Pillow's own library, except where it is built into that.
with suppress(AttributeError, OSError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_SHEET_SHARE = 0.92
"""Share of its bounding box from which the opaque part of a picture is a sheet, not a drawing."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of an EXIF orientation upright."""
_UNSUPPORTED_WORDS = ("unsupported", "not supported", "unknown", "cannot handle", "not implemented")


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, C) uint8, C = 1 (grey) or 3 (RGB), upright.
        preprocessing: what decoding had to do.
    """

    pixels: NDArray[np.uint8]
    preprocessing: Preprocessing


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS, sufficient_side: int | None = None) -> Decoded:
    """Decode the bytes of an image file.

    EXIF orientation is applied where it can be read; transparency is filled with the colour of the
    border where the opaque part is a sheet, else with black or white, whichever the picture stands out
    from; samples deeper than 8 bits are scaled, not clipped; of several frames the first one is used.
    Broken metadata does not matter: the pixels count.

    Args:
        content: PNG, JPEG, WebP, BMP, GIF, TIFF or PNM, recognised by its content.
        max_pixels: width times height above which nothing is decoded.
        sufficient_side: length of the shorter side, in pixels, that is enough. A JPEG of at least
            twice that is decoded at a half, a quarter or an eighth of its size, which the format
            does in less time and memory.

    Raises:
        ImageError: not an image of these formats, truncated, damaged, or too large.
    """
    png = None
    if content.startswith(b"\x89PNG"):
        png = read_png(content)
        content = png.content
    elif content.startswith((b"II", b"MM")):
        content = tiff.one_plane(content)
    elif content.startswith(b"\xff\xd8") and (data := data_without_end(content)) is not None:
        return _decode_without_end(data, max_pixels, sufficient_side)
    return _decode(content, max_pixels, sufficient_side, png)


def _decode(content: bytes, max_pixels: int, sufficient_side: int | None, png: Png | None = None) -> Decoded:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"too large: {width}x{height} pixels are over the limit of {max_pixels / 1e6:g} million"
                )
            tags = tiff.read_tags(content) if image.format == "TIFF" else {}
            if tags:
                tiff.correct_byte_order(image)
            if reason := tiff.unsupported_samples(tags):
                raise ImageError(f"unsupported: TIFF of {reason}; convert it to PNG first")
            done = Preprocessing(size=(width, height), mode=image.mode)
            if (frames := png.frames if png else _count_frames(image, content)) > 1:
                done = replace(done, frames=frames)
            if (turn := png.orientation if png else _orientation(image, tags)) != 1:
                done = replace(done, orientation=turn)
            if sufficient_side and image.format in ("JPEG", "MPO"):
                image.draft(None, (sufficient_side, sufficient_side))
                if image.width < width:
                    done = replace(done, reduced=round(width / image.width))
            deep, both = depth.deep_tile(image), None
            image.load()
            if deep and (both := depth.both_bytes(content, image, deep)):
                both = _upright(both[0], turn), _upright(both[1], turn)
            upright = both[0] if both else _upright(image, turn)
            # What an error below is about is no longer the file.
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_unidentified(content)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too large: too many pixels (decompression bomb)") from None
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
        raise ImageError(_reason(error)) from error
    try:
        return _to_array(upright, done, tags, both[1] if both else None)
    except MemoryError:
        raise ImageError("too large for the memory of this machine") from None
    except ValueError as error:  # a mode that Pillow reads and cannot convert
        raise ImageError(_reason(error)) from error


def _decode_without_end(content: bytes, max_pixels: int, sufficient_side: int | None) -> Decoded:
    """A JPEG whose end marker is missing, if nothing else is.

    What is missing is filled up in two different ways: only if the pixels do not depend on it were
    they all there.

    Raises:
        ImageError: pixels are missing too.
    """
    whole = content.rstrip(b"\xff")
    fills = (bytes(4096), b"\x55\xaa" * 2048)
    first, second = (_decode(whole + fill + b"\xff\xd9", max_pixels, sufficient_side) for fill in fills)
    if not np.array_equal(first.pixels, second.pixels):
        raise ImageError(_CUT_OFF)
    return replace(first, preprocessing=replace(first.preprocessing, missing_end=True))


def _count_frames(image: Image.Image, content: bytes) -> int:
    """How many pictures a file holds; 1 if that cannot be told."""
    if image.format == "TIFF":
        return tiff.count_pages(content)  # Pillow would walk all pages, one seek each
    try:
        frames = int(getattr(image, "n_frames", 1))
        if frames > 1:
            image.seek(0)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, KeyError, IndexError, TypeError):
        return 1
    return frames


def _orientation(image: Image.Image, tags: tiff.Tags) -> int:
    """The EXIF orientation, 1 to 8."""
    if image.format == "TIFF":
        value = tags.get(tiff.ORIENTATION, (1,))[0]
        return value if value in _TURNS else 1
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    value = tiff.orientation(exif) if isinstance(exif, bytes) else 1
    return tiff.orientation_in_xmp(xmp) if value == 1 and isinstance(xmp, bytes) else value


def _upright(image: Image.Image, turn: int) -> Image.Image:
    if image.format == "TIFF":
        # Newer versions of Pillow have turned it already, and then say nothing of an orientation.
        return ImageOps.exif_transpose(image)
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _to_array(image: Image.Image, done: Preprocessing, tags: tiff.Tags, lower: Image.Image | None) -> Decoded:
    """The pixels of a picture; of one in 16-bit colour, with its lower bytes where they are needed."""
    if lower is not None:
        image, deep = depth.scale_colour(image, lower)
        done = replace(done, bits=deep.bits, stretched=deep.stretched)
    mode = image.mode
    if mode.startswith(("I", "F")):
        # Ahead of transparency: converting these to RGBA would clip them.
        values = np.asarray(image)
        if mode == "I" and tags and tiff.is_unsigned(tags):
            values = values.view(np.uint32)
        done = replace(done, scaled_from=str(values.dtype.newbyteorder("=")))
        deep = depth.scale(values)
        pixels = 255 - deep.pixels if tiff.is_white_zero(tags) else deep.pixels
        if isinstance(key := image.info.get("transparency"), int):
            alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
            rgb, background = _composite(Image.merge("LA", (Image.fromarray(pixels), alpha)).convert("RGBA"))
            pixels, done = rgb[:, :, 0], replace(done, composited=background)
        return Decoded(pixels[:, :, None], replace(done, bits=deep.bits, stretched=deep.stretched))
    if mode in _TRANSPARENT_MODES or "transparency" in image.info:
        # Converting to the mode that it already has would copy the whole image.
        image = image.convert("LA") if mode == "La" else image  # which Pillow converts to nothing else
        rgb, background = _composite(image if mode == "RGBA" else image.convert("RGBA"))
        done = replace(done, composited=background)
    elif mode in ("1", "L"):
        return Decoded(np.asarray(image.convert("L"))[:, :, None], done)
    else:
        rgb = np.asarray(image if mode == "RGB" else image.convert("RGB"))
    return Decoded(np.ascontiguousarray(rgb[:, :, :1]) if _is_grey(rgb) else rgb, done)


def _composite(image: Image.Image) -> tuple[NDArray[np.uint8], str | None]:
    """Fill the transparent part of an RGBA picture.

    Where the opaque part is a sheet it goes on as at its border. Where it is a drawing it is put on
    black or on white, whichever it can be seen against.

    Returns:
        (H, W, 3) uint8 and what it was put on; ``None`` where it is opaque.
    """
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("RGB")), None
    # A strip at a time: the largest image that is allowed must not take a gigabyte.
    width, height = image.size
    bounds = [(rows.start, min(rows.stop, height)) for rows in depth.strips(height, width)]
    fill, name = _border_colour(image), "on its border colour"
    if fill is None:
        opaque = lit = 0
        for top, bottom in bounds:
            strip = image.crop((0, top, width, bottom))
            alpha = np.asarray(strip.getchannel("A")).astype(np.int64)
            opaque += int(alpha.sum())
            lit += int(np.vdot(np.asarray(strip.convert("RGB").convert("L")).astype(np.int64), alpha))
        light = opaque > 0 and lit / opaque > 127.5
        fill, name = ((0, 0, 0), "on black") if light else ((255, 255, 255), "on white")
    composited = np.empty((height, width, 3), np.uint8)
    for top, bottom in bounds:
        strip = image.crop((0, top, width, bottom))
        background = Image.new("RGB", strip.size, fill)
        background.paste(strip.convert("RGB"), mask=strip.getchannel("A"))
        composited[top:bottom] = np.asarray(background)
    return composited, name


def _border_colour(image: Image.Image) -> tuple[int, int, int] | None:
    """The colour at the border of the opaque part, if that is a sheet; else ``None``."""
    alpha = image.getchannel("A").point(lambda value: 255 * (value > 127))
    box = alpha.getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    opaque = alpha.histogram()[255]
    if opaque < _SHEET_SHARE * (right - left) * (bottom - top) or min(right - left, bottom - top) < 8:
        return None
    edges = (
        (left, top, right, top + 1),
        (left, bottom - 1, right, bottom),
        (left, top, left + 1, bottom),
        (right - 1, top, right, bottom),
    )
    pixels = np.concatenate([np.asarray(image.crop(edge)).reshape(-1, 4) for edge in edges])
    pixels = pixels[pixels[:, 3] > 127]
    if not len(pixels):
        return None
    red, green, blue = (int(value) for value in np.median(pixels[:, :3], axis=0))
    return red, green, blue


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    first = rgb[:, :, 0]
    return bool((first == rgb[:, :, 1]).all() and (first == rgb[:, :, 2]).all())


_CUT_OFF = "damaged: the file is cut off"


def _unidentified(content: bytes) -> str:
    """Why Pillow makes nothing of a file."""
    if other := name_of_other(content):
        return other
    if tags := tiff.read_tags(content):
        return f"unsupported: TIFF of {tiff.describe_samples(tags)}; convert it to PNG first"
    return "not an image, or its header is damaged"


def _reason(error: BaseException) -> str:
    """What is wrong with a file, from what Pillow says of it."""
    text = str(error).strip().splitlines()
    said = (text[0] if text else type(error).__name__)[:120]
    low = said.lower()
    if "truncated" in low or "unexpected end" in low or "not enough image data" in low:
        return _CUT_OFF
    if any(word in low for word in _UNSUPPORTED_WORDS):
        return f"unsupported: {said}; convert it to PNG or JPEG first"
    if "decoder error" in low or "broken data stream" in low:
        return "damaged: its picture data cannot be decoded"
    if not isinstance(error, (OSError, SyntaxError)):  # words about values, for programmers
        return "damaged: its header or its data cannot be read"
    return f"damaged: {said}"
