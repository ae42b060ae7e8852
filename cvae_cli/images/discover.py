"""Which images there are: files, folders walked one by one, or a list of paths.

At most one folder's listing is held at a time, so that a tree of millions starts at once.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath

from cvae_cli.errors import UserError
from cvae_cli.images.naming import ambiguous_stems, output_stem, safe_relative, untaken
from cvae_cli.images.png import read_provenance

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
"""Suffixes, in lower case, of files that a walk takes for images. A file that is named explicitly, or on
stdin, is read whatever its suffix: its content decides what it is."""

JUNK = frozenset(["thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"])
"""Names, in lower case, that operating systems leave between images."""


@dataclass(frozen=True)
class ImageRef:
    """One image to work on, before it is read.

    Attributes:
        file: where it is.
        relative: how the manifest names it: its path below the source folder, or the path as it
            was given or listed.
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
    """Raise :class:`UserError` for the first source that does not exist or cannot be listed."""
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


def iter_images(
    sources: tuple[Path, ...],
    listing: Iterable[str] | None = None,
    *,
    exclude: Path,
    shard: tuple[int, int] | None = None,
) -> Iterator[ImageRef]:
    """The images of a run, in order; of a shard only its part.

    Args:
        sources: files and folders.
        listing: paths, one per item, instead of sources.
        exclude: where the output goes.
        shard: index from 1, and the number of shards.

    Raises:
        UserError: there is no image at all, in any shard.
    """
    if listing is not None:
        images = from_list(listing, exclude=exclude)
    else:
        images = discover(sources, exclude=exclude)
    first = next(images, None)
    if first is None:
        where = "the list on stdin" if listing is not None else ", ".join(map(str, sources))
        raise UserError(
            f"no image found in {where}. Looked for {' '.join(sorted(SUFFIXES))}, in all sub-folders that "
            "are not hidden."
        )
    for ref in chain([first], images):
        if shard is None or in_shard(ref, shard[0] - 1, shard[1]):
            yield ref


def discover(sources: Iterable[Path], *, exclude: Path | None = None) -> Iterator[ImageRef]:
    """Find the images of files and folders, sorted within each folder, files before folders.

    Folders are walked recursively. Hidden files and folders, junk of operating systems and
    files without an image's suffix are passed over; links to files are followed, links to
    folders are not, since they may form a loop. One folder is mirrored as it is; a folder
    among several sources goes below its own name, so that no two images share an output.

    Args:
        sources: files and folders that exist.
        exclude: where the output goes: a folder that is never entered, or a file that is
            skipped.
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
                prefix = untaken(PurePosixPath(source.resolve().name or "root"), taken)
            if source.resolve() != barred:
                yield from _walk(source, prefix, str(source), barred)
        elif not _is_output(source, barred):
            alone = names.count(source.name) == 1
            place = PurePosixPath(source.name) if alone else safe_relative(source)
            place = place.with_name(siblings.output_name(source))
            yield ImageRef(source, str(source), str(source), untaken(place, taken))


def from_list(paths: Iterable[str], *, exclude: Path | None = None) -> Iterator[ImageRef]:
    """Images of a list of paths, as ``find`` prints it.

    Empty lines, repeated paths and what cvae itself wrote below ``exclude`` are skipped. The output
    mirrors each path as it is written: ``imgs/a/x.png`` becomes ``DIR/imgs/a/x.png``.
    """
    barred = exclude.resolve() if exclude is not None else None
    siblings = _Siblings()
    # Hashes, not names: a list of millions must not fill the memory.
    outputs: dict[int, int] = {}
    for line in paths:
        text = line.rstrip("\r\n")
        if not text:
            continue
        file = Path(text)
        if "\0" in text:
            problem = "the path holds a NUL character; the list takes one path per line (find -print)"
            yield ImageRef(file, text, "-", PurePosixPath("_"), problem)
            continue
        if _is_output(file, barred):
            continue
        place = safe_relative(file).with_name(siblings.output_name(file))
        this, output = hash(text), hash(str(place).casefold())
        owner = outputs.get(output)
        if owner is None:
            outputs[output] = this
            yield ImageRef(file, text, "-", place)
        elif owner != this:
            yield ImageRef(file, text, "-", place, "another path of the list has the same output")


def in_shard(ref: ImageRef, index: int, count: int) -> bool:
    """Whether an image belongs to the ``index``-th (from 0) of ``count`` shards.

    Decided by the image's path alone, so that files added or removed between two runs do not
    move the others to another shard.
    """
    return zlib.crc32(os.fsencode(ref.relative)) % count == index


class _Siblings:
    """Names outputs of single files just as a walk through their folder would."""

    def __init__(self) -> None:
        # Of several folders, since a list may be in any order.
        self.ambiguous = lru_cache(maxsize=64)(_ambiguous_of)

    def output_name(self, file: Path) -> str:
        return output_stem(file.name, self.ambiguous(file.parent))


def _ambiguous_of(folder: Path) -> frozenset[str]:
    try:
        return ambiguous_stems(*_listing(folder))
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


def _walk(root: Path, prefix: PurePosixPath, source: str, barred: Path | None) -> Iterator[ImageRef]:
    # An explicit stack: folders may be nested more deeply than Python's calls.
    waiting = [(root, prefix, PurePosixPath())]
    while waiting:
        folder, place, below = waiting.pop()
        try:
            files, folders = _listing(folder)
        except OSError as error:
            reason = f"the folder cannot be listed: {error.strerror or error}"
            yield ImageRef(folder, str(below), source, place / "_", reason)
            continue
        ambiguous = ambiguous_stems(files, folders)
        for name in files:
            stem = output_stem(name, ambiguous)
            if barred is None or barred.name != name or (folder / name).resolve() != barred:
                yield ImageRef(folder / name, str(below / name), source, place / stem)
        for name in reversed(folders):
            if barred is None or (folder / name).resolve() != barred:
                waiting.append((folder / name, place / name, below / name))


def _is_output(path: Path, out: Path | None) -> bool:
    """Whether a file lies in the output folder and was written by cvae."""
    if out is None:
        return False
    real = path.resolve()
    return (real == out or out in real.parents) and read_provenance(path) is not None


def _is_image_name(name: str) -> bool:
    return not _is_passed_over(name) and PurePosixPath(name.casefold()).suffix in SUFFIXES


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.casefold() in JUNK
