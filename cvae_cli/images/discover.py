"""Which images there are: files, folders walked one by one, or a list of paths.

At most one folder's listing is held at a time, so that a tree of millions starts at once.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath

from cvae_cli import storage
from cvae_cli.errors import UserError
from cvae_cli.images.listings import (
    SUFFIXES,
    UNSUPPORTED,
    Listing,
    SharedListings,
    is_passed_over,
    list_images,
    suffix_of,
)
from cvae_cli.images.naming import ambiguous_stems, output_stem, safe_relative, untaken
from cvae_cli.images.owners import OutputOwners
from cvae_cli.images.png import read_provenance
from cvae_cli.storage import Location, RemotePath


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
        passed_over: why it is not even tried, such as a suffix of unsupported pictures; empty otherwise.
        version: what changes when its content does, if the listing said so.
    """

    file: Location
    relative: str
    source: str
    output: PurePosixPath
    problem: str = ""
    passed_over: str = ""
    version: str = ""

    @property
    def folder_key(self) -> tuple[str, str]:
        """What :attr:`folders` depends on: the same for all images of a folder."""
        if isinstance(self.file, RemotePath):
            return self.source, self.relative.rpartition("/")[0]  # keys may have two slashes in a row
        return self.source, os.path.dirname(self.relative)  # noqa: PTH120 - a fifth of the time

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that the image is in, as far as the user named them, the topmost first.

        Below a source folder those within it, then that folder itself; of a file or a relative path of
        a list those written in it; of an absolute path the one that it is in.
        """
        written = PurePath(os.path.normpath(self.relative))  # 4/../7 is 7
        is_below = self.source not in ("-", self.relative)
        absolute = written.is_absolute() or (isinstance(self.file, RemotePath) and not is_below)
        inside = () if absolute else written.parts[:-1]
        own = storage.locate(self.source) if is_below else self.file.parent
        if isinstance(own, RemotePath):
            return tuple(dict.fromkeys(part for part in (*inside, own.name) if part not in ("", ".", "..")))
        # A link by its own name, and by that of what it leads to.
        named = (*inside, *(Path(spelt(own)).name for spelt in (os.path.normpath, os.path.realpath)))
        return tuple(dict.fromkeys(part for part in named if part not in ("", ".", "..")))


def check_sources(sources: Iterable[Location]) -> None:
    """Raise :class:`UserError` for the first source that does not exist or cannot be listed."""
    for source in sources:
        if isinstance(source, RemotePath):
            if not storage.exists(source):
                raise UserError(f"{source}: no such file or folder.")
            continue
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
    sources: tuple[Location, ...],
    listing: Iterable[str] | None = None,
    *,
    exclude: Location | None,
    shard: tuple[int, int] | None = None,
    listings: SharedListings | None = None,
) -> Iterator[ImageRef]:
    """The images of a run, in order; of a shard only its part.

    Args:
        sources: files and folders.
        listing: paths, one per item, instead of sources.
        exclude: where the output goes; ``None`` if there is none.
        shard: index from 1, and the number of shards.
        listings: of another walk through the same sources.

    Raises:
        UserError: there is no image at all, in any shard.
    """
    if listing is not None:
        images = from_list(listing, exclude=exclude)
    else:
        images = discover(sources, exclude=exclude, listings=listings)
    # Up to the first that is tried; usually that is the first.
    begun: list[ImageRef] = []
    for ref in images:
        begun.append(ref)
        if not ref.passed_over:
            break
    else:
        where = "the list on stdin" if listing is not None else ", ".join(map(str, sources))
        others = f" {len(begun)} files were passed over: {begun[0].passed_over}." if begun else ""
        apart = "" if exclude is None else f", apart from what cvae wrote below {exclude}"
        raise UserError(
            f"no image found in {where}. Looked for {' '.join(sorted(SUFFIXES))}, in all sub-folders that "
            f"are not hidden{apart}.{others}"
        )
    for ref in chain(begun, images):
        if shard is None or in_shard(ref, shard[0] - 1, shard[1]):
            yield ref


def discover(
    sources: Iterable[Location], *, exclude: Location | None = None, listings: SharedListings | None = None
) -> Iterator[ImageRef]:
    """Find the images of files and folders, sorted within each folder, files before folders.

    Folders are walked recursively. Hidden files and folders, junk of operating systems and
    files without an image's suffix are passed over. Links to files are followed; links to folders
    where they lead out of all sources, as links to class folders do: others would form loops or repeat
    images. One folder is mirrored as it is; a folder among several sources
    goes below its own name, so that no two images share an output. A source within another one is not
    walked twice.

    Args:
        sources: files and folders that exist.
        exclude: where the output goes: a folder that is never entered, or a file that is
            skipped.
        listings: of another walk through the same sources.
    """
    list_folder = list_images if listings is None else listings.list_images
    unique = _without_repeats(sources)
    names = Counter(source.name for source, is_folder in unique.items() if not is_folder)
    barred = storage.resolved(exclude) if exclude is not None else None
    siblings = _Siblings()
    taken: set[str] = set()
    folders = {storage.resolved(source) for source, is_folder in unique.items() if is_folder}
    linked: set[Path] = set()

    def is_walked_elsewhere(folder: Path) -> bool:
        """Whether what a link leads to is in a source or the target of an earlier link, or holds one."""
        real, others = storage.resolved(folder), folders | linked
        linked.add(real)
        return bool(others & {real, *real.parents}) or any(real in other.parents for other in others)

    for source, is_folder in unique.items():
        if is_folder:
            prefix = PurePosixPath()
            if len(unique) > 1:
                prefix = untaken(PurePosixPath(storage.resolved(source).name or "root"), taken)
            if storage.resolved(source) != barred:
                yield from _walk(source, prefix, barred, list_folder, is_walked_elsewhere)
        elif not _is_output(source, barred):
            alone = names[source.name] == 1
            place = PurePosixPath(source.name) if alone else safe_relative(source)
            place = place.with_name(siblings.output_name(source))
            yield ImageRef(source, str(source), str(source), untaken(place, taken))


def from_list(paths: Iterable[str], *, exclude: Location | None = None) -> Iterator[ImageRef]:
    """Images of a list of paths or URLs, as ``find`` prints it.

    Empty lines, repeated paths and what cvae itself wrote below ``exclude`` are skipped. The output
    mirrors each path as it is written: ``imgs/a/x.png`` becomes ``DIR/imgs/a/x.png``.
    """
    barred = storage.resolved(exclude) if exclude is not None else None
    siblings = _Siblings()
    fold_case = exclude is not None and storage.ignores_case(exclude)
    with closing(OutputOwners(fold_case=fold_case)) as owners:
        for text in paths:
            if storage.is_url(text):
                yield from _listed_url(text, owners, siblings, barred)
                continue
            file = Path(text)
            if not text or storage.is_folder(file):  # find prints folders too
                continue
            if "\0" in text:
                problem = "the path holds a NUL character; for a list of find -print0 add --null"
                yield ImageRef(file, text, "-", PurePosixPath("_"), problem)
                continue
            if _is_output(file, barred):
                continue
            if not owners.is_new(os.path.abspath(text)):  # noqa: PTH100 - links stay as they are
                continue
            place = safe_relative(file).with_name(siblings.output_name(file))
            owner = owners.claim(str(place), os.path.normpath(text))
            if owner != "repeated":
                problem = "another path of the list has the same output" if owner == "taken" else ""
                yield ImageRef(file, text, "-", place, problem)


def _listed_url(
    text: str, owners: OutputOwners, siblings: _Siblings, barred: Location | None
) -> Iterator[ImageRef]:
    """The image of a URL in a list."""
    try:
        file = storage.locate(text)
    except UserError as error:
        # The rest of it may hold a login.
        yield ImageRef(Path(), f"{text.partition('://')[0]}://", "-", PurePosixPath("_"), str(error))
        return
    name = str(file)  # without a login
    try:
        if text.endswith("/") or not owners.is_new(name) or _is_output(file, barred):
            return
        place = safe_relative(file).with_name(siblings.output_name(file))
    except UserError as error:
        yield ImageRef(file, name, "-", PurePosixPath("_"), str(error))
        return
    owner = owners.claim(str(place), name)
    if owner != "repeated":
        problem = "another path of the list has the same output" if owner == "taken" else ""
        yield ImageRef(file, name, "-", place, problem)


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

    def output_name(self, file: Location) -> str:
        return output_stem(file.name, self.ambiguous(file.parent))


def _ambiguous_of(folder: Location) -> frozenset[str]:
    try:
        found = list_images(folder)
        return ambiguous_stems(found.files, found.folders)
    except OSError:
        return frozenset()


def _without_repeats(sources: Iterable[Location]) -> dict[Location, bool]:
    """Sources without those that are named twice, or lie in another one and are found there.

    With each, whether it is a folder.
    """
    unique = {storage.resolved(source): source for source in sources}
    folders = {real for real, source in unique.items() if storage.is_folder(source)}

    def is_found_in(real: Location, folder: Location) -> bool:
        inside = real.relative_to(folder).parts  # type: ignore[arg-type]  # of one kind, as its parent
        hidden = any(is_passed_over(part) for part in inside)
        return not hidden and (real in folders or suffix_of(real.name) in SUFFIXES)

    return {
        source: real in folders
        for real, source in unique.items()
        if not any(parent in folders and is_found_in(real, parent) for parent in real.parents)
    }


def _walk(
    root: Location,
    prefix: PurePosixPath,
    barred: Location | None,
    list_folder: Callable[..., Listing],
    is_walked_elsewhere: Callable[[Path], bool],
) -> Iterator[ImageRef]:
    source = str(root)
    # An explicit stack: folders may be nested more deeply than Python's calls.
    waiting = [(root, prefix, PurePosixPath())]
    while waiting:
        folder, place, below = waiting.pop()
        try:
            files, folders, versions = list_folder(folder, root=root)
        except OSError as error:
            reason = f"the folder cannot be listed: {error.strerror or error}"
            yield ImageRef(folder, str(below), source, place / "_", reason)
            continue
        ambiguous = ambiguous_stems(files, folders)
        for name, version in zip(files, versions or [""] * len(files), strict=True):
            if (suffix := suffix_of(name)) in UNSUPPORTED:
                reason = f"{suffix} files are not read; convert them to PNG or JPEG"
                yield ImageRef(folder / name, str(below / name), source, place / name, passed_over=reason)
                continue
            stem = output_stem(name, ambiguous)
            if barred is None or barred.name != name or storage.resolved(folder / name) != barred:
                yield ImageRef(folder / name, str(below / name), source, place / stem, version=version)
        if isinstance(folder, RemotePath):
            if "" in folders:
                reason = "keys with two slashes in a row are not read: no output could be named after them"
                yield ImageRef(folder, f"{below}//", source, place / "_", reason)
            folders = [name for name in folders if name]
        else:
            here = folder
            folders = [
                name
                for name in folders
                if not ((here / name).is_symlink() and is_walked_elsewhere(here / name))
            ]
        for name in reversed(folders):
            if barred is None or storage.resolved(folder / name) != barred:
                waiting.append((folder / name, place / name, below / name))


def _is_output(path: Location, out: Location | None) -> bool:
    """Whether a file lies in the output folder and was written by cvae."""
    if out is None:
        return False
    real = storage.resolved(path)
    return (real == out or out in real.parents) and read_provenance(path) is not None
