"""A user's own images as a data set: one folder per class, files of any format and size; or Parquet files."""

from __future__ import annotations

import io
import os
import re
import unicodedata
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli import storage
from cvae_cli.data import tables
from cvae_cli.data.catalogue import NAMES
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.pairs import Pairing, find_counterparts
from cvae_cli.data.part_names import looks_like_part, part_of
from cvae_cli.data.profile import DatasetProfile, profile_images
from cvae_cli.data.tables import TableImage
from cvae_cli.errors import DataError, ImageError, did_you_mean
from cvae_cli.images.discover import discover
from cvae_cli.images.listings import is_passed_over
from cvae_cli.images.load import load_image, read_image
from cvae_cli.images.png import provenance_in
from cvae_cli.images.prepare import InputSpec

Stored = Path | TableImage
"""Where an image is: a file, or a row of a Parquet file."""

FEW_IMAGES = 20
"""Classes with fewer training images than this are warned about."""

_TEST_SHARE = 10
"""One file in this many is held out for testing."""
_EVEN = "zsz/"
"""Before a name, so that about a tenth of files that are numbered from 0 is held out, however few."""
_PROFILED_IMAGES = 300


@dataclass(frozen=True)
class ClassFolders:
    """Which files there are, before any is read.

    Attributes:
        folder: the data set.
        classes: the names of the class folders, in the order of the labels.
        parts: ``train``, ``test`` and, if there is one, ``val``; the files of each by class.
    """

    folder: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[tuple[Stored, ...], ...]]


@dataclass(frozen=True)
class DatasetSummary:
    """What a folder of classes holds, before a model is trained on it.

    Attributes:
        folder: the data set.
        profile: what its images are.
        counts: number of training images by class.
        validation: number of training images held out to choose the best weights.
        test: number of images to test on.
        left_out: files that cannot be used, with the reason.
        warnings: what is likely to go wrong, for the user to read.
        pairing: what the names of the training images say of pairs; ``None`` if they share none.
    """

    folder: Path
    profile: DatasetProfile
    counts: dict[str, int]
    validation: int
    test: int
    left_out: tuple[tuple[Stored, str], ...] = ()
    warnings: tuple[str, ...] = ()
    pairing: Pairing | None = None


def scan(folder: Path) -> ClassFolders:
    """Find the class folders and their files.

    ``FOLDER/train/CLASS/*``, with ``test`` and ``val`` if they exist (or as they are usually called:
    ``training``, ``testing``, ``valid``, ``validation``), or ``FOLDER/CLASS/*``. Without a test part,
    one file in ten is held out. Which ones depends on their names alone, so that training
    and evaluation agree, adding files moves no others, and files of one name in several classes stay
    together.

    Raises:
        DataError: not a folder, fewer than two classes, a class without images, or a class that is
            only in the test or the validation part.
    """
    if not storage.is_folder(folder):
        raise DataError(
            f"unknown data set {str(folder)!r}: neither one of {', '.join(NAMES)} nor a folder."
            f"{did_you_mean(str(folder), NAMES)}"
        )
    if found := tables.tables_in(folder):
        return _scan_tables(folder, found)
    found_parts = _find_parts(folder)
    has_parts = bool(found_parts)
    root = found_parts.get("train", folder)
    named = _class_folders(root)
    classes = tuple(named)
    if len(classes) < 2:
        what = f"only the class folder {classes[0]!r}" if classes else "no class folders"
        raise DataError(
            f"{root}: {what}; a model needs at least two classes, each a folder of images, such as "
            f"{root}/cat/*.jpg and {root}/dog/*.jpg."
        )
    parts: dict[str, tuple[tuple[Stored, ...], ...]]
    parts = {"train": tuple(_image_files(place) for place in named.values())}
    for name, files in zip(classes, parts["train"], strict=True):
        if not files:
            raise DataError(f"{root / name}: no images in this class folder; add some, or remove it.")
    for part in ("test", "val") if has_parts else ():
        if (place := found_parts.get(part)) is None:
            continue
        here = _class_folders(place)
        if unknown := [name for name in here if name not in classes]:
            raise DataError(f"{here[unknown[0]]}: a class that is not in {root}.")
        parts[part] = tuple(_image_files(here.get(name, place / name)) for name in classes)
    if "test" not in parts:
        parts["train"], parts["test"] = _hold_out_test(parts["train"], folder)
    return ClassFolders(folder, classes, parts)


def _scan_tables(folder: Path, files: list[Path]) -> ClassFolders:
    if others := _folder_names(folder):
        raise DataError(
            f"{folder}: the folder {others[0]} stands beside Parquet files; name a folder that holds either "
            "class folders or Parquet files."
        )
    parts_of = {file: part_of(re.split(r"[-_.]", file.name)[0]) or "train" for file in files}
    if "train" not in parts_of.values():
        raise DataError(f"{folder}: none of its Parquet files is to train on; name one train-….parquet.")
    by_part: dict[str, dict[str, list[Stored]]] = {part: {} for part in dict.fromkeys(parts_of.values())}
    for file in files:
        for image, name in tables.images_in(file):
            by_part[parts_of[file]].setdefault(name, []).append(image)
    known = tables.classes_of(files[0]) or ()
    training = by_part["train"]
    classes = tuple(name for name in known if name in training)
    classes += tuple(sorted(training.keys() - set(classes), key=_by_value))
    if len(classes) < 2:
        raise DataError(
            f"{folder}: its Parquet files hold {len(classes)} classes; a model needs two or more."
        )
    for part, named in by_part.items():
        if unknown := sorted(named.keys() - set(classes)):
            raise DataError(f"{folder}: the class {unknown[0]} is only among the {part} images.")
    parts = {part: tuple(tuple(named.get(name, ())) for name in classes) for part, named in by_part.items()}
    if "test" not in parts:
        parts["train"], parts["test"] = _hold_out_test(parts["train"], folder)
    return ClassFolders(folder, classes, parts)


def profile_folder(
    found: ClassFolders, *, image_size: int | None = None, channels: int | None = None
) -> DatasetProfile:
    """What the images are, from a sample of every class.

    Args:
        found: the files.
        image_size: one of :data:`cvae_cli.data.catalogue.SIZES`, if the user asked for it.
        channels: 1 or 3, if the user asked for it.

    Raises:
        DataError: none of them can be read.
    """
    per_class = max(1, _PROFILED_IMAGES // len(found.classes))
    sample = [file for files in found.parts["train"] for file in sorted(files, key=_name_hash)[:per_class]]
    if found.parts["train"] and isinstance(sample[0], TableImage):
        sample = sorted(sample)  # type: ignore[type-var]
    profile = profile_images(sample, image_size=image_size, channels=channels)
    if profile is None:
        raise DataError(f"{found.folder}: none of its images can be read.")
    return profile


def read(found: ClassFolders, part: str, spec: InputSpec) -> tuple[LabelledImages, list[tuple[Stored, str]]]:
    """Read a part of the data set as a model takes it.

    Args:
        found: the files.
        part: ``train``, ``test`` or ``val``.
        spec: what the model takes.

    Returns:
        The images, and the files that were left out, with the reason.
    """
    jobs = [(file, label) for label, files in enumerate(found.parts[part]) for file in files]
    if jobs and isinstance(jobs[0][0], TableImage):
        jobs.sort(key=lambda job: job[0])  # by row, or each class would read the whole files
    images = np.empty((len(jobs), spec.channels, spec.image_size, spec.image_size), np.uint8)
    labels: list[int] = []
    names: list[str] = []
    left_out: list[tuple[Stored, str]] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        loaded = pool.map(lambda job: _load(job[0], spec), jobs)
        for (file, label), result in zip(jobs, loaded, strict=True):
            if isinstance(result, str):
                left_out.append((file, result))
            else:
                images[len(labels)] = result
                labels.append(label)
                names.append(file.stem)
    tables.forget()
    usable, y = torch.from_numpy(images[: len(labels)]), torch.tensor(labels, dtype=torch.int64)
    counterparts = find_counterparts(names, y, len(found.classes))
    return LabelledImages(usable, y, found.classes, counterparts), left_out


def check_counts(data: LabelledImages, folder: Path) -> None:
    """Raise :class:`DataError` if a class has fewer than two training images."""
    for name, count in zip(data.classes, _counts(data), strict=True):
        if count < 2:
            images = "no training image" if count == 0 else "a single training image"
            raise DataError(
                f"{folder}: class {name!r} has {images} that can be read; it needs two, and hundreds for a "
                "good model."
            )


def summarise(
    folder: Path,
    profile: DatasetProfile,
    training: LabelledImages,
    *,
    validation: int,
    test: int,
    left_out: list[tuple[Stored, str]],
    pairing: Pairing | None = None,
) -> DatasetSummary:
    """What is said of a data set before a model is trained on it."""
    counts = dict(zip(training.classes, _counts(training), strict=True))
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW_IMAGES]
    warning = f"few training images of {', '.join(few)}: tiles of them will look much alike."
    return DatasetSummary(
        folder=folder,
        profile=profile,
        counts=counts,
        validation=validation,
        test=test,
        left_out=tuple(left_out),
        warnings=(warning,) if few else (),
        pairing=pairing,
    )


def _counts(data: LabelledImages) -> list[int]:
    return torch.bincount(data.labels, minlength=len(data.classes)).tolist()


def _find_parts(folder: Path) -> dict[str, Path]:
    """The parts of a data set by what they are for; empty where its folders are classes.

    Folders are parts where one of them is named as a training part and holds folders itself: a class
    that happens to be called ``train`` holds images, or stands beside classes.

    Raises:
        DataError: folders that look like parts, of which none is to train on, two are for the same, or none
            holds classes.
    """
    names = _folder_names(folder)
    parts: dict[str, Path] = {}
    others = []
    for name in names:
        part = part_of(name)
        if part is None or not _folder_names(folder / name):
            others.append(name)
        elif part in parts:
            raise DataError(
                f"{folder}: both {parts[part].name} and {name} are {part} images; keep one of them."
            )
        else:
            parts[part] = folder / name
    if names and all(map(looks_like_part, names)) and len(names) > 1 and "train" not in parts:
        raise DataError(
            f"{folder}: {', '.join(names)} look like parts of a data set, but none is a folder train (or "
            "training) of class folders, so there is nothing to train on."
        )
    if len(parts) > 1 and others:
        raise DataError(
            f"{folder}: {others[0]} stands beside {' and '.join(place.name for place in parts.values())}, "
            "which look like parts of the data set; move it, or name the folder that holds the classes."
        )
    return {} if others else parts


def _composed(name: str) -> str:
    """A name in one of the spellings that Unicode has for it."""
    return unicodedata.normalize("NFC", name)


def _class_folders(folder: Path) -> dict[str, Path]:
    """The class folders in a folder, by the name of the class.

    Raises:
        DataError: two of them are called the same.
    """
    found: dict[str, Path] = {}
    for name in _folder_names(folder):
        if (other := found.setdefault(_composed(name), folder / name)) != folder / name:
            raise DataError(
                f"{folder}: two class folders are called {name}, in two spellings of Unicode that look the "
                f"same ({other.name!a} and {name!a}); merge them."
            )
    return found


def _folder_names(folder: Path) -> list[str]:
    """Names of the folders in a folder, numbers by their value."""
    try:
        names = [name for name, is_folder in storage.list_folder(folder) if is_folder]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error}).") from error
    names = [name for name in names if not is_passed_over(name)]
    return sorted(names, key=_by_value)


def _by_value(name: str) -> tuple[int, str]:
    return len(name) if name.isdecimal() else 0, name


def _image_files(folder: Path) -> tuple[Path, ...]:
    if not storage.is_folder(folder):
        return ()
    refs = tuple(ref for ref in discover([folder]) if not ref.passed_over)
    for ref in refs:
        if ref.problem:
            raise DataError(f"{ref.file}: {ref.problem}.")
    return tuple(ref.file for ref in refs if isinstance(ref.file, Path))


def _name_hash(file: Stored) -> int:
    return zlib.crc32(os.fsencode(file.name))


def _hold_out_test(
    by_class: tuple[tuple[Stored, ...], ...], folder: Path
) -> tuple[tuple[tuple[Stored, ...], ...], tuple[tuple[Stored, ...], ...]]:
    """Divide the files of each class into those to train on and those to test on."""
    stems = Counter(stem for files in by_class for stem in {file.stem for file in files})
    shared = sum(stems[file.stem] > 1 for files in by_class for file in files)
    # Files that may be pairs stay together: what is tested must not have been seen under another label.
    by_name = shared >= sum(map(len, by_class)) / 2

    def number(file: Stored) -> int:
        if by_name or isinstance(file, TableImage):
            return zlib.crc32(os.fsencode(_EVEN + file.stem))
        return zlib.crc32(os.fsencode(file.relative_to(folder).as_posix()))

    training, test = [], []
    for files in by_class:
        held = {file for file in files if number(file) % _TEST_SHARE == 0}
        if not held or len(held) == len(files):
            held = set(sorted(files, key=number)[: int(len(files) > 2)])
        training.append(tuple(file for file in files if file not in held))
        test.append(tuple(file for file in files if file in held))
    return tuple(training), tuple(test)


def _load(file: Stored, spec: InputSpec) -> NDArray[np.uint8] | str:
    """(C, H, W) uint8, or why the file cannot be used."""
    try:
        content = file.read() if isinstance(file, TableImage) else read_image(file)
        provenance = provenance_in(io.BytesIO(content))
        if provenance is not None and "target" not in provenance:
            return "a grid or sheet that cvae drew"
        return load_image(content, spec).native
    except ImageError as error:
        return str(error)
