"""How outputs are named: each image's own name, mirrored below the output folder, never twice."""

from __future__ import annotations

import os
from collections import Counter
from functools import lru_cache
from pathlib import PurePosixPath

from cvae_cli.storage import Location


def safe_relative(path: Location) -> PurePosixPath:
    """A path that stays below whatever it is joined to: no root or drive, ``..`` written ``_up``."""
    parts = ["_up" if part == ".." else part for part in path.parts if part != path.anchor]
    return PurePosixPath(*parts) if parts else PurePosixPath("_")


def untaken(place: PurePosixPath, taken: set[str]) -> PurePosixPath:
    """A name that is not among those taken, whatever their case; it is numbered if need be, and added."""
    candidate, serial = place, 2
    while str(candidate).casefold() in taken:
        candidate = place.with_name(f"{place.name}-{serial}")
        serial += 1
    taken.add(str(candidate).casefold())
    return candidate


def ambiguous_stems(files: list[str], folders: list[str]) -> frozenset[str]:
    """The stems in a folder that do not name one output: their outputs keep the suffix of the source.

    Args:
        files: the names of its images.
        folders: the names of its sub-folders.
    """
    counts = Counter(stem_key(name) for name in files)
    # Beside "x.png" and "x.jpg", whose outputs are "x.png.png" and "x.jpg.png", the output of an
    # "x.png.bmp" must not be "x.png.png" too; and beside a folder "x.png" no output can be "x.png".
    whole = {name.casefold() for name in files}
    barred = {name.casefold() for name in folders}
    return frozenset(
        stem for stem, count in counts.items() if count > 1 or stem in whole or f"{stem}.png" in barred
    )


def stem_key(name: str) -> str:
    """A stem without case: two outputs must not be one file on macOS or Windows either."""
    return PurePosixPath(name).stem.casefold()


def output_stem(name: str, ambiguous: frozenset[str]) -> str:
    """What an image's output is called, without ``.png``."""
    return name if stem_key(name) in ambiguous else PurePosixPath(name).stem or "_"


@lru_cache(maxsize=32)
def class_folders(classes: tuple[str, ...]) -> tuple[str, ...]:
    """A folder name for each class; names that macOS or Windows would take for the same are numbered."""
    taken: set[str] = set()
    return tuple(str(untaken(PurePosixPath(_folder_name(name)), taken)) for name in classes)


def _folder_name(class_name: str) -> str:
    """A class name as the name of one folder, whatever characters it holds."""
    name = "".join("_" if char in '/\\:*?"<>|\0' or ord(char) < 32 else char for char in class_name)
    return f"_{name}" if name.strip(". ") == "" else name


def printable(path: str) -> str:
    """A path as text that can be encoded, even if the file's name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
