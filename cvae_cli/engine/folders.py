"""A user's own images as a data set: a folder for every class, files of any format and size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.engine.datasets import NAMES, LabelledImages
from cvae_cli.engine.recipes import DEFAULT_SIZE, SIZES
from cvae_cli.errors import DataError, ImageError
from cvae_cli.images import decode, discover, prepare
from cvae_cli.outcomes import FolderFound

FEW = 20
"""Fewer training images of a class than this are warned about."""

_ONE_IN = 10
_SAMPLE = 300
_GLANCE_SIDE = 256
"""Pixels of the shorter side that tell what a photograph is."""
_GREY_WITHIN = 12
_FLAT_WITHIN = 40
_STROKES_FILL = 0.2


@dataclass(frozen=True)
class ClassFolders:
    """Which files there are, before any is read.

    Attributes:
        folder: the data set.
        classes: the names of the class folders, in the order of the labels.
        parts: ``train``, ``test`` and, where there is one, ``val``; of each the files by class.
    """

    folder: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[tuple[Path, ...], ...]]


@dataclass(frozen=True)
class Appearance:
    """What the images of a folder are.

    Attributes:
        image_size: the native size of a model of them, one of :data:`cvae_cli.engine.recipes.SIZES`.
        channels: 1 (grey) or 3 (RGB).
        kind: ``strokes``, thin and of one tone on an even ground; ``silhouettes``, things on one;
            ``photographs``, everything else.
        resized: whether images have another size than ``image_size``.
    """

    image_size: int
    channels: int
    kind: str
    resized: bool


def scan(folder: Path) -> ClassFolders:
    """Find the class folders and their files.

    ``FOLDER/train/CLASS/*``, with ``test`` and ``val`` where they are there, or ``FOLDER/CLASS/*``.
    Where there is no test part, one file in ten is held out: which ones is decided by their names
    alone, so that training and evaluation agree, and files that are added move no others.

    Raises:
        DataError: not a folder, fewer than two classes, a class without images, or a class that is
            only in the test or the validation part.
    """
    if not folder.is_dir():
        raise DataError(f"unknown data set {str(folder)!r}: neither one of {', '.join(NAMES)} nor a folder.")
    train = folder / "train"
    parted = train.is_dir() and bool(_folders(train))
    root = train if parted else folder
    classes = tuple(_folders(root))
    if len(classes) < 2:
        what = f"only the class folder {classes[0]!r}" if classes else "no class folders"
        raise DataError(
            f"{root}: {what}; a model needs two classes or more, each a folder of images, as "
            f"{root}/cat/*.jpg and {root}/dog/*.jpg."
        )
    parts = {"train": tuple(_files(root / name) for name in classes)}
    for name, files in zip(classes, parts["train"], strict=True):
        if not files:
            raise DataError(f"{root / name}: no images in this class folder; add some, or remove it.")
    for part in ("test", "val") if parted else ():
        if not (folder / part).is_dir():
            continue
        if unknown := [name for name in _folders(folder / part) if name not in classes]:
            raise DataError(f"{folder / part / unknown[0]}: a class that is not in {root}.")
        parts[part] = tuple(_files(folder / part / name) for name in classes)
    if "test" not in parts:
        held = [_hold_out(files, folder) for files in parts["train"]]
        parts["train"], parts["test"] = tuple(a for a, _ in held), tuple(b for _, b in held)
    return ClassFolders(folder, classes, parts)


def look(found: ClassFolders, *, image_size: int | None = None, channels: int | None = None) -> Appearance:
    """What the images are, from some of them of every class.

    Args:
        found: the files.
        image_size: one of :data:`cvae_cli.engine.recipes.SIZES`, if it is asked for.
        channels: 1 or 3, if it is asked for.

    Raises:
        DataError: none of them can be read.
    """
    each = max(1, _SAMPLE // len(found.classes))
    sample = [file for files in found.parts["train"] for file in sorted(files, key=_key)[:each]]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        glances = [glance for glance in pool.map(_glance, sample) if glance is not None]
    if not glances:
        raise DataError(f"{found.folder}: none of its images can be read.")
    sizes = {glance.size for glance in glances}
    size = image_size or next((size for size in SIZES if sizes == {(size, size)}), DEFAULT_SIZE)
    grey = float(np.mean([glance.grey for glance in glances])) > 0.95
    kind = "photographs"
    if channels != 3 and grey:
        figures = [glance.figure for glance in glances if glance.figure is not None]
        if len(figures) > 0.8 * len(glances):
            kind = "strokes" if float(np.median(figures)) < _STROKES_FILL else "silhouettes"
    return Appearance(size, channels or (1 if grey else 3), kind, sizes != {(size, size)})


def read(
    found: ClassFolders, part: str, target: prepare.Target
) -> tuple[LabelledImages, list[tuple[Path, str]]]:
    """Read a part of the data set as a model takes it.

    Args:
        found: the files.
        part: ``train``, ``test`` or ``val``.
        target: what the model takes.

    Returns:
        The images, and the files that were left out, with the reason.
    """
    jobs = [(file, label) for label, files in enumerate(found.parts[part]) for file in files]
    images = np.empty((len(jobs), target.channels, target.size, target.size), np.uint8)
    labels: list[int] = []
    left_out: list[tuple[Path, str]] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = pool.map(lambda job: _prepared(job[0], target), jobs)
        for (file, label), result in zip(jobs, made, strict=True):
            if isinstance(result, str):
                left_out.append((file, result))
            else:
                images[len(labels)] = result
                labels.append(label)
    kept = torch.from_numpy(images[: len(labels)])
    return LabelledImages(kept, torch.tensor(labels, dtype=torch.int64), found.classes), left_out


def check_counts(data: LabelledImages, folder: Path) -> None:
    """Raise :class:`DataError` if there are fewer than two training images of a class."""
    for name, count in zip(data.classes, _counts(data), strict=True):
        if count < 2:
            images = "no training image" if count == 0 else "a single training image"
            raise DataError(
                f"{folder}: class {name!r} has {images} that can be read; it needs two, and hundreds for a "
                "good model."
            )


def describe(
    folder: Path,
    seen: Appearance,
    training: LabelledImages,
    *,
    validation: int,
    test: int,
    left_out: list[tuple[Path, str]],
) -> FolderFound:
    """What is said of a data set before a model is trained on it."""
    counts = dict(zip(training.classes, _counts(training), strict=True))
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
    warning = f"few training images of {', '.join(few)}: what is drawn of them will be much alike."
    return FolderFound(
        folder=folder,
        counts=counts,
        validation=validation,
        test=test,
        image_size=seen.image_size,
        channels=seen.channels,
        kind=seen.kind,
        resized=seen.resized,
        left_out=tuple(left_out),
        warnings=(warning,) if few else (),
    )


def _counts(data: LabelledImages) -> list[int]:
    return torch.bincount(data.labels, minlength=len(data.classes)).tolist()


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, numbers by their value."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error}).") from error
    names = [name for name in names if name.casefold() not in discover.JUNK]
    return sorted(names, key=lambda name: (len(name) if name.isdecimal() else 0, name))


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(_all_files(folder)) if folder.is_dir() else ()


def _all_files(folder: Path) -> Iterator[Path]:
    for found in discover.discover([folder]):
        if found.problem:
            raise DataError(f"{found.file}: {found.problem}.")
        yield found.file


def _key(file: Path) -> int:
    return zlib.crc32(os.fsencode(file.name))


def _hold_out(files: tuple[Path, ...], folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    keys = {file: zlib.crc32(os.fsencode(file.relative_to(folder).as_posix())) for file in files}
    held = [file for file in files if keys[file] % _ONE_IN == 0]
    if not held or len(held) == len(files):
        held = sorted(files, key=keys.__getitem__)[: int(len(files) > 2)]
    return tuple(file for file in files if file not in set(held)), tuple(held)


@dataclass(frozen=True)
class _Glance:
    """What is kept of an image that was looked at: never its pixels, since photographs are large."""

    size: tuple[int, int]
    """Width and height."""
    grey: bool
    figure: float | None
    """See :func:`_on_even_ground`."""


def _glance(file: Path) -> _Glance | None:
    """``None`` if it cannot be read."""
    try:
        decoded = decode.decode(decode.read_bytes(file), enough=_GLANCE_SIDE)
    except ImageError:
        return None
    pixels, (width, height) = decoded.pixels, decoded.notes["size"]
    return _Glance((width, height), _is_grey(pixels), _on_even_ground(pixels))


def _prepared(file: Path, target: prepare.Target) -> Any:
    """(C, H, W) uint8, or why there is none."""
    try:
        decoded = decode.decode(decode.read_bytes(file), enough=target.enough)
        return prepare.prepare(decoded.pixels, target).native
    except ImageError as error:
        return str(error)


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether colours differ no more than the compression of a grey picture makes them."""
    if pixels.shape[2] == 1:
        return True
    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return bool(np.quantile(spread, 0.99) <= _GREY_WITHIN)


def _on_even_ground(pixels: NDArray[np.uint8]) -> float | None:
    """The share of the picture that stands out of an even ground; ``None`` where there is none."""
    grey = pixels.mean(axis=2)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = float(np.median(edge))
    # A thing may touch the border, and does where it was cut to its box.
    if float((np.abs(edge - ground) <= _FLAT_WITHIN).mean()) < 0.6 or 64 < ground < 160:
        return None
    difference = np.abs(grey - ground)
    peak = float(difference.max())
    return float((difference > 0.5 * peak).mean()) if peak > _FLAT_WITHIN else None
