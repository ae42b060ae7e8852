"""What the images of a folder are: their size, whether they are grey, and what they show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvae_cli.data.catalogue import DEFAULT_SIZE, LARGEST_UNASKED, SIZES
from cvae_cli.data.tables import TableImage
from cvae_cli.errors import ImageError
from cvae_cli.images.decode import decode
from cvae_cli.images.load import read_image
from cvae_cli.model.spec import ImageKind

_SIDE = 256
"""Shorter side in pixels that is enough to tell what a photograph shows."""
_GREY_TOLERANCE = 12
_BACKGROUND_TOLERANCE = 40
_STROKES_COVER = 0.2


@dataclass(frozen=True)
class DatasetProfile:
    """What the images of a folder are.

    Attributes:
        image_size: the native size of a model of them, one of ``SIZES``.
        channels: 1 (grey) or 3 (RGB).
        kind: what they show.
        resized: whether images have another size than ``image_size``.
    """

    image_size: int
    channels: int
    kind: ImageKind
    resized: bool


def profile_images(
    files: Sequence[Path | TableImage], *, image_size: int | None = None, channels: int | None = None
) -> DatasetProfile | None:
    """What images are.

    Args:
        files: a sample of them.
        image_size: one of ``SIZES``, if the user asked for it.
        channels: 1 or 3, if the user asked for it.

    Returns:
        ``None`` if none of them can be read.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        samples = [sample for sample in pool.map(_sample, files) if sample is not None]
    if not samples:
        return None
    sizes = {sample.size for sample in samples}
    as_they_are = (size for size in SIZES if sizes == {(size, size)} and size <= LARGEST_UNASKED)
    size = image_size or next(as_they_are, DEFAULT_SIZE)
    grey = float(np.mean([sample.grey for sample in samples])) > 0.95
    kind = ImageKind.PHOTOGRAPHS
    if channels != 3 and grey:
        covers = [sample.foreground for sample in samples if sample.foreground is not None]
        if len(covers) > 0.8 * len(samples):
            strokes = float(np.median(covers)) < _STROKES_COVER
            kind = ImageKind.STROKES if strokes else ImageKind.SILHOUETTES
    return DatasetProfile(size, channels or (1 if grey else 3), kind, sizes != {(size, size)})


@dataclass(frozen=True)
class _Sample:
    """What is kept of an image that was looked at; never its pixels, since photographs are large."""

    size: tuple[int, int]
    """Width and height."""
    grey: bool
    foreground: float | None
    """See :func:`_foreground_share`."""


def _sample(file: Path | TableImage) -> _Sample | None:
    """``None`` if the image cannot be read."""
    try:
        content = file.read() if isinstance(file, TableImage) else read_image(file)
        decoded = decode(content, sufficient_side=_SIDE)
    except ImageError:
        return None
    size = decoded.preprocessing.size
    assert size is not None
    return _Sample(size, _is_grey(decoded.pixels), _foreground_share(decoded.pixels))


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether colours differ by no more than what compression does to a grey picture."""
    if pixels.shape[2] == 1:
        return True
    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return bool(np.quantile(spread, 0.99) <= _GREY_TOLERANCE)


def _foreground_share(pixels: NDArray[np.uint8]) -> float | None:
    """Share of the picture that stands out from an even background; ``None`` if that is not even."""
    grey = pixels.mean(axis=2)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = float(np.median(edge))
    # An object may touch the border, and does where the picture was cropped to its box.
    even = float((np.abs(edge - background) <= _BACKGROUND_TOLERANCE).mean()) >= 0.6
    if not even or 64 < background < 160:
        return None
    difference = np.abs(grey - background)
    peak = float(difference.max())
    return float((difference > 0.5 * peak).mean()) if peak > _BACKGROUND_TOLERANCE else None
