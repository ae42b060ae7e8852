"""Images as Python code has them: paths, Pillow's images, arrays."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cvae_cli import storage
from cvae_cli.errors import ImageError
from cvae_cli.images.load import load_image
from cvae_cli.images.prepare import Fit, InputSpec, Invert, LoadedImage, prepare
from cvae_cli.storage import RemotePath

Picture: TypeAlias = Image.Image
"""An image of Pillow's."""

_TIFF_MODES = ("I", "F", "I;16", "I;16B")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_PATHS = (str, os.PathLike, RemotePath)


def is_many(images: Any) -> bool:
    """Whether this is several images: a list or another iterable, or an array of four dimensions."""
    if isinstance(images, (*_PATHS, bytes, Image.Image)):
        return False
    if hasattr(images, "__array__"):
        return bool(np.asarray(images).ndim == 4)
    return True


def load_anything(source: Any, spec: InputSpec, *, invert: Invert = "auto", fit: Fit = "auto") -> LoadedImage:
    """Bring an image to what a model takes.

    Args:
        source: a path or URL; the bytes of a file; an image of Pillow's; or uint8, (H, W), (H, W, 1 or 3) or
            (1 or 3, H, W), as an array or whatever becomes one, such as a tensor on the CPU.
        spec: what the model takes.
        invert: as :func:`cvae_cli.images.prepare.prepare`.
        fit: as there.

    Raises:
        ImageError: it cannot be read, decoded or prepared, or is no image.
    """
    if isinstance(source, (bytes, Image.Image)):
        content = source if isinstance(source, bytes) else _as_file(source)
        return load_image(content, spec, invert=invert, fit=fit)
    if isinstance(source, _PATHS):
        file = source if isinstance(source, RemotePath) else storage.locate(os.fspath(source))
        try:
            return load_image(file, spec, invert=invert, fit=fit)
        except ImageError as error:
            raise ImageError(f"{file}: {error}") from error
    return prepare(_pixels(np.asarray(source)), spec, invert=invert, fit=fit)


def _as_file(image: Image.Image) -> bytes:
    """As a file would hold it, so that transparency and deep samples are treated as they are in files."""
    with suppress(Exception):  # damaged EXIF says nothing, as in a file
        image = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    if image.mode.startswith(("I", "F")):
        if image.mode not in _TIFF_MODES:
            image = image.convert("I")
        image.save(buffer, "TIFF")
        return buffer.getvalue()
    as_png = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA", **{mode: mode for mode in _PNG_MODES}}
    if (mode := as_png.get(image.mode, "RGB")) != image.mode:
        image = image.convert(mode)
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 1 or 3) uint8."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise ImageError(
            f"an array of {array.dtype} and the shape {array.shape} is no image; it has to be uint8, (H, W), "
            "(H, W, 1 or 3) or (1 or 3, H, W)"
        )
    return np.ascontiguousarray(array)


def to_pillow(pixels: NDArray[np.uint8]) -> Image.Image:
    """An image of (H, W), (H, W, 1 or 3) or, as models draw them, (1 or 3, H, W) uint8."""
    array = _pixels(pixels)
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
