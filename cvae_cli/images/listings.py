"""What a folder holds: its images and its sub-folders, sorted."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cvae_cli import storage
from cvae_cli.storage import Location, RemotePath

SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
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

UNSUPPORTED = frozenset(
    [
        *(
            ".heic",
            ".heif",
            ".hif",
            ".avif",
            ".svg",
            ".svgz",
            ".tga",
            ".dcm",
            ".pdf",
            ".psd",
            ".jxl",
            ".jp2",
            ".j2k",
            ".exr",
            ".hdr",
            ".ico",
        ),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".eps", ".ai", ".xcf"),
    ]
)
"""Suffixes, in lower case, of pictures that are not read; a run says how many it passed over."""

JUNK = frozenset(["thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"])
"""Names, in lower case, that operating systems leave between images."""


_SHARED_CHARACTERS = 64_000_000
"""Most characters of names that wait for the other of two walks."""


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        files: the names of its images, sorted.
        folders: the names of its sub-folders, sorted.
        versions: of an object store: what changes when an image does, for each of ``files``. Empty for a
            folder of this machine, where asking for it later costs little.
    """

    files: list[str]
    folders: list[str]
    versions: list[str]


def list_images(folder: Location, *, root: Location | None = None) -> Listing:
    """The images and sub-folders of a folder.

    Args:
        folder: which one.
        root: the source, if links to folders that lead out of it count as sub-folders.

    Raises:
        OSError: it cannot be listed.
    """
    if isinstance(folder, RemotePath):
        return _list_remote(folder)
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_passed_over(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() and storage.is_folder(Path(entry.path)):
                if isinstance(root, Path) and _leads_out(Path(entry.path), root):
                    folders.append(entry.name)
            elif suffix_of(entry.name) in SUFFIXES or suffix_of(entry.name) in UNSUPPORTED:
                files.append(entry.name)
    return Listing(files, folders, [])


def _list_remote(folder: RemotePath) -> Listing:
    entries = [entry for entry in storage.scan(folder) if not is_passed_over(entry.name)]
    images = [
        entry
        for entry in entries
        if not entry.is_folder and (suffix_of(entry.name) in SUFFIXES or suffix_of(entry.name) in UNSUPPORTED)
    ]
    return Listing(
        [entry.name for entry in images],
        [entry.name for entry in entries if entry.is_folder],
        [entry.version for entry in images],
    )


def suffix_of(name: str) -> str:
    """The suffix of a name, in lower case."""
    return PurePosixPath(name.casefold()).suffix


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or junk."""
    return name.startswith(".") or name.casefold() in JUNK


def _leads_out(link: Path, root: Path) -> bool:
    """Whether a link leads to a folder that neither lies in a source nor holds it."""
    target, root = storage.resolved(link), storage.resolved(root)
    return target != root and root not in target.parents and target not in root.parents


@dataclass
class SharedListings:
    """Lets two walks through the same tree, one of them to count, list each folder once.

    The first to come lists it, the second takes what the first found. Where they are so far apart that
    much would have to be kept, the second lists the folder again.
    """

    _kept: dict[Location, tuple[str, ...]] = field(default_factory=dict)
    _characters: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def list_images(self, folder: Location, *, root: Location | None = None) -> Listing:
        """As :func:`list_images`."""
        with self._lock:  # held while listing: the other walk waits rather than asking the disk too
            if (kept := self._kept.pop(folder, None)) is not None:
                self._characters -= sum(map(len, kept))
                return Listing(*(names.split("\0")[1:] for names in kept))
            found = list_images(folder, root=root)
            # As one string of each, which takes a third of the memory of a list; no name holds a NUL.
            kept = tuple("".join(f"\0{name}" for name in names) for names in found)
            if self._characters + sum(map(len, kept)) <= _SHARED_CHARACTERS:
                self._kept[folder] = kept
                self._characters += sum(map(len, kept))
            return found
