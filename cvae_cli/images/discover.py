"""Which images there are: files, folders walked one by one, or a list of paths.

Nothing here holds more than one folder's listing, so that a tree of millions starts at once.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from cvae_cli.errors import UserError
from cvae_cli.images.save import read_provenance

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
        try:
            mode = source.stat().st_mode
        except FileNotFoundError:
            raise UserError(f"{source}: no such file or folder.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{source}: this source cannot be used: {reason}.") from error
        if stat.S_ISDIR(mode) and not os.access(source, os.R_OK | os.X_OK):
            raise UserError(f"{source}: this folder cannot be read; check its permissions.")


def discover(sources: Iterable[Path], *, exclude: Path | None = None) -> Iterator[Found]:
    """Find the images of files and folders, sorted within each folder, files before folders.

    Folders are walked recursively. Hidden files and folders, junk of operating systems and
    files without an image's suffix are passed over; links to files are followed, links to
    folders are not, for they may run in circles. One folder is mirrored as it is; a folder
    among several sources goes below its own name, so that no two images share an output.

    Args:
        sources: files and folders that exist.
        exclude: where the output goes: a folder that is never entered, or a file that is
            passed over.
    """
    unique = list({source.resolve(): source for source in sources}.values())
    names = [source.name for source in unique if not source.is_dir()]
    barred = exclude.resolve() if exclude is not None else None
    siblings = _Siblings()
    taken: set[str] = set()
    for source in unique:
        if source.is_dir():
            prefix = PurePosixPath()
            if len(unique) > 1:
                prefix = _untaken(PurePosixPath(source.resolve().name or "root"), taken)
            if source.resolve() != barred:
                yield from _walk(source, prefix, str(source), barred)
        elif not _is_output(source, barred):
            alone = names.count(source.name) == 1
            place = PurePosixPath(source.name) if alone else safe_relative(source)
            place = place.with_name(siblings.output_name(source))
            yield Found(source, str(source), str(source), _untaken(place, taken))


def from_list(paths: Iterable[str], *, exclude: Path | None = None) -> Iterator[Found]:
    """Images of a list of paths, as ``find`` prints it.

    Empty lines, paths named before and what cvae itself wrote below ``exclude`` are passed over. The output
    mirrors each path as it is written: ``imgs/a/x.png`` becomes ``DIR/imgs/a/x.png``.
    """
    barred = exclude.resolve() if exclude is not None else None
    siblings = _Siblings()
    # Numbers, not names: a list of millions must not fill the memory.
    outputs: dict[int, int] = {}
    for line in paths:
        text = line.rstrip("\r\n")
        if not text:
            continue
        file = Path(text)
        if "\0" in text:
            problem = "the path holds a NUL character; the list takes one path a line (find -print)"
            yield Found(file, text, "-", PurePosixPath("_"), problem)
            continue
        if _is_output(file, barred):
            continue
        place = safe_relative(file).with_name(siblings.output_name(file))
        this, output = hash(text), hash(str(place).casefold())
        owner = outputs.get(output)
        if owner is None:
            outputs[output] = this
            yield Found(file, text, "-", place)
        elif owner != this:
            yield Found(file, text, "-", place, "another path of the list has the same output")


def safe_relative(path: Path) -> PurePosixPath:
    """A path below whatever it is joined to: without root or drive, ``..`` written ``_up``."""
    parts = ["_up" if part == ".." else part for part in path.parts if part != path.anchor]
    return PurePosixPath(*parts) if parts else PurePosixPath("_")


def in_shard(found: Found, index: int, count: int) -> bool:
    """Whether an image belongs to the ``index``-th (from 0) of ``count`` shards.

    Decided by the image's path alone, so that files added or removed between two runs do not
    move the others to another shard.
    """
    return zlib.crc32(os.fsencode(found.relative)) % count == index


class _Siblings:
    """Names outputs of single files just as a walk through their folder would."""

    def __init__(self) -> None:
        # Of some folders at once: a list may be in any order.
        self.ambiguous = lru_cache(maxsize=64)(_ambiguous_of)

    def output_name(self, file: Path) -> str:
        return file.name if _stem_key(file.name) in self.ambiguous(file.parent) else file.stem or "_"


def _ambiguous_of(folder: Path) -> frozenset[str]:
    try:
        return _ambiguous_stems(*_listing(folder))
    except OSError:
        return frozenset()


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """The names of a folder's images and of its sub-folders, sorted; links to folders are neither."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry) for entry in entries)
    folders = [name for name, is_folder, _ in found if is_folder and not _is_passed_over(name)]
    others = [entry for _, is_folder, entry in found if not is_folder and _is_image_name(entry.name)]
    files = [entry.name for entry in others if not entry.is_dir()]
    return files, folders


def _walk(root: Path, prefix: PurePosixPath, source: str, barred: Path | None) -> Iterator[Found]:
    # A stack of our own: folders may be nested more deeply than calls may.
    waiting = [(root, prefix, PurePosixPath())]
    while waiting:
        folder, place, below = waiting.pop()
        try:
            files, folders = _listing(folder)
        except OSError as error:
            reason = f"the folder cannot be listed: {error.strerror or error}"
            yield Found(folder, str(below), source, place / "_", reason)
            continue
        ambiguous = _ambiguous_stems(files, folders)
        for name in files:
            stem = name if _stem_key(name) in ambiguous else PurePosixPath(name).stem
            if barred is None or barred.name != name or (folder / name).resolve() != barred:
                yield Found(folder / name, str(below / name), source, place / stem)
        for name in reversed(folders):
            if barred is None or (folder / name).resolve() != barred:
                waiting.append((folder / name, place / name, below / name))


def _is_output(path: Path, out: Path | None) -> bool:
    """Whether a file lies in the output folder and was written by cvae."""
    if out is None:
        return False
    real = path.resolve()
    return (real == out or out in real.parents) and read_provenance(path) is not None


def _untaken(place: PurePosixPath, taken: set[str]) -> PurePosixPath:
    candidate, serial = place, 2
    while str(candidate).casefold() in taken:
        candidate = place.with_name(f"{place.name}-{serial}")
        serial += 1
    taken.add(str(candidate).casefold())
    return candidate


def _ambiguous_stems(files: list[str], folders: list[str]) -> frozenset[str]:
    """The stems that do not name one output: the suffix of the source is kept with them."""
    counts = Counter(_stem_key(name) for name in files)
    # Beside "x.png" and "x.jpg", whose outputs are "x.png.png" and "x.jpg.png", the output of an
    # "x.png.bmp" must not be "x.png.png" too; and beside a folder "x.png" no output can be "x.png".
    whole = {name.casefold() for name in files}
    barred = {name.casefold() for name in folders}
    return frozenset(
        stem for stem, count in counts.items() if count > 1 or stem in whole or f"{stem}.png" in barred
    )


def _stem_key(name: str) -> str:
    # Without case: two outputs must not be one file on macOS or Windows either.
    return PurePosixPath(name).stem.casefold()


def _is_image_name(name: str) -> bool:
    return not _is_passed_over(name) and PurePosixPath(name.casefold()).suffix in SUFFIXES


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.casefold() in JUNK
