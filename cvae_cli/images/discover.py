"""Which images there are: files, folders walked one by one, or a list of paths.

Nothing here holds more than one folder's listing, so that a tree of millions starts at once.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cvae_cli.errors import UserError

SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".pnm",
        ".pbm",
        ".pgm",
        ".ppm",
    ]
)
"""Suffixes, in lower case, of the files that a walk takes for images. What a file is decides
its content: a file named explicitly, or on stdin, is read whatever its name."""

JUNK = frozenset(["thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"])
"""Names, in lower case, that operating systems leave between images."""


@dataclass(frozen=True)
class Found:
    """One image to work on.

    Attributes:
        file: where it is.
        relative: the image as the manifest names it: its path below the source folder, or the
            path as it was named or listed.
        source: the argument it was found under.
        output: where its output goes below the output folder, without a suffix; never absolute,
            never with ``..``.
        problem: why it cannot be used, known before it is opened (a folder that cannot be
            listed); empty otherwise.
    """

    file: Path
    relative: str
    source: str
    output: PurePosixPath
    problem: str = ""


def check_sources(sources: Iterable[Path]) -> None:
    """Raise :class:`UserError` for the first source that is not there or cannot be listed."""
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: no such file or folder.")
        if source.is_dir() and not os.access(source, os.R_OK | os.X_OK):
            raise UserError(f"{source}: this folder cannot be read; check its permissions.")


def discover(sources: Iterable[Path], *, exclude: Path | None = None) -> Iterator[Found]:
    """Find the images of files and folders, sorted within each folder, files before folders.

    Folders are walked recursively. Hidden files and folders, junk of operating systems and
    files without an image's suffix are passed over; links to files are followed, links to
    folders are not, for they may run in circles. One folder is mirrored as it is; of several,
    each goes below its own name, so that their images cannot overwrite each other.

    Args:
        sources: files and folders that exist.
        exclude: a folder that is never entered: where the output goes.
    """
    unique = list({source.resolve(): source for source in sources}.values())
    folders = [source for source in unique if source.is_dir()]
    names = [source.name for source in unique if not source.is_dir()]
    barred = exclude.resolve() if exclude is not None else None
    siblings = _Siblings()
    taken: set[str] = set()
    for source in unique:
        if source.is_dir():
            prefix = PurePosixPath()
            if len(folders) > 1:
                prefix = _untaken(PurePosixPath(source.resolve().name or "root"), taken)
            if source.resolve() != barred:
                yield from _walk(source, prefix, PurePosixPath(), str(source), barred)
        else:
            alone = names.count(source.name) == 1
            place = PurePosixPath(source.name) if alone else safe_relative(source)
            place = place.with_name(siblings.output_name(source))
            yield Found(source, str(source), str(source), _untaken(place, taken))


def from_list(paths: Iterable[str]) -> Iterator[Found]:
    """Images of a list of paths, as ``find`` prints it; empty lines are passed over.

    The output mirrors each path as it is written: ``imgs/a/x.png`` becomes ``DIR/imgs/a/x.png``.
    """
    siblings = _Siblings()
    for line in paths:
        text = line.rstrip("\r\n")
        if text:
            file = Path(text)
            place = safe_relative(file).with_name(siblings.output_name(file))
            yield Found(file, text, "-", place)


def safe_relative(path: Path) -> PurePosixPath:
    """A path below whatever it is joined to: without root or drive, ``..`` written ``_up``."""
    parts = ["_up" if part == ".." else part for part in path.parts if part != path.anchor]
    return PurePosixPath(*parts) if parts else PurePosixPath("_")


def in_shard(found: Found, index: int, count: int) -> bool:
    """Whether an image belongs to the ``index``-th (from 0) of ``count`` shards.

    Decided by the image's path alone, so that files added or removed between two runs do not
    move the others to another shard.
    """
    name = os.fsencode(str(found.output))
    return zlib.crc32(name) % count == index


class _Siblings:
    """Names outputs of single files just as a walk through their folder would."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.shared: frozenset[str] = frozenset()

    def output_name(self, file: Path) -> str:
        if file.parent != self.folder:
            self.folder = file.parent
            try:
                names = [name for name in os.listdir(file.parent) if _is_image_name(name)]
            except OSError:
                names = []
            self.shared = _shared_stems(names)
        return file.name if _stem_key(file.name) in self.shared else file.stem or "_"


def _walk(
    folder: Path, place: PurePosixPath, below: PurePosixPath, source: str, barred: Path | None
) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            listing = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        reason = f"the folder cannot be listed: {error.strerror or error}"
        yield Found(folder, str(below), source, place / "_", reason)
        return
    files = [name for name, is_folder in listing if not is_folder and _is_image_name(name)]
    shared = _shared_stems(files)
    for name in files:
        path = folder / name
        if path.is_dir():  # a link to a folder
            continue
        stem = name if _stem_key(name) in shared else PurePosixPath(name).stem
        yield Found(path, str(below / name), source, place / stem)
    for name, is_folder in listing:
        if not is_folder or name.startswith(".") or name.casefold() in JUNK:
            continue
        child = folder / name
        if barred is None or child.resolve() != barred:
            yield from _walk(child, place / name, below / name, source, barred)


def _untaken(place: PurePosixPath, taken: set[str]) -> PurePosixPath:
    candidate, serial = place, 2
    while str(candidate).casefold() in taken:
        candidate = place.with_name(f"{place.name}-{serial}")
        serial += 1
    taken.add(str(candidate).casefold())
    return candidate


def _shared_stems(names: Iterable[str]) -> frozenset[str]:
    names = list(names)
    counts = Counter(_stem_key(name) for name in names)
    # Beside "x.png" and "x.jpg", whose outputs are "x.png.png" and "x.jpg.png", the output of
    # an "x.png.bmp" must not be "x.png.png" too.
    whole = {name.casefold() for name in names}
    return frozenset(stem for stem, count in counts.items() if count > 1 or stem in whole)


def _stem_key(name: str) -> str:
    # Without case: two outputs must not be one file on macOS or Windows either.
    return PurePosixPath(name).stem.casefold()


def _is_image_name(name: str) -> bool:
    lower = name.casefold()
    return not name.startswith(".") and lower not in JUNK and PurePosixPath(lower).suffix in SUFFIXES
