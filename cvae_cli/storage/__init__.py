"""The one room that reads and writes files, on this machine or in an object store.

Everything above works with bytes and locations: a :class:`~pathlib.Path`, or a :class:`RemotePath` that
:func:`locate` makes of a URL. What only this machine has, such as locks, is in :mod:`cvae_cli.storage.local`;
what goes through fsspec, which is imported only then, in :mod:`cvae_cli.storage.remote`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, overload

from cvae_cli.errors import OutputError
from cvae_cli.storage import lines, local, remote
from cvae_cli.storage.local import (
    NO_SUCH_NAME,
    chunks,
    clear_abandoned,
    discard,
    is_empty_folder,
    list_folder,
    open_to_read,
    remove_if_abandoned,
    rename,
    temporary_folder,
    temporary_name,
    to_bytes,
    unpack_gzip,
    write_new_file,
)
from cvae_cli.storage.location import Location, RemotePath, is_url, locate

__all__ = [
    "NO_SUCH_NAME",
    "LineStream",
    "Location",
    "RemotePath",
    "as_arrow",
    "chunks",
    "clear_abandoned",
    "discard",
    "exists",
    "file_names",
    "ignores_case",
    "is_empty_folder",
    "is_file",
    "is_folder",
    "is_same_file",
    "is_url",
    "list_folder",
    "local_only",
    "locate",
    "make_folder",
    "make_writable_folder",
    "open_copy",
    "open_lines",
    "open_to_read",
    "read_bytes",
    "read_head",
    "read_image_bytes",
    "read_text",
    "remove",
    "remove_folder",
    "remove_if_abandoned",
    "rename",
    "replace_file",
    "resolved",
    "scan",
    "shown",
    "size_of",
    "temporary_folder",
    "temporary_name",
    "to_bytes",
    "unpack_gzip",
    "version_of",
    "work_folder",
    "write_file",
    "write_new_file",
    "written",
]


def exists(place: Location) -> bool:
    """Whether there is a file or a folder; ``False`` too for a name that cannot be.

    Raises:
        UnreachableError: of a URL, that cannot be told; so :func:`is_file`, :func:`is_folder` and
            :func:`size_of`.
    """
    return remote.exists(place) if isinstance(place, RemotePath) else local.exists(place)


def is_file(place: Location) -> bool:
    """Whether there is a file; ``False`` too for a name that cannot be."""
    return remote.is_file(place) if isinstance(place, RemotePath) else local.is_file(place)


def is_folder(place: Location) -> bool:
    """Whether there is a folder; ``False`` too for a name that cannot be."""
    return remote.is_folder(place) if isinstance(place, RemotePath) else local.is_folder(place)


@overload
def resolved(place: Path) -> Path: ...


@overload
def resolved(place: Location) -> Location: ...


def resolved(place: Location) -> Location:
    """Where it really is, without links; what cannot be followed stays as it is."""
    return place if isinstance(place, RemotePath) else local.resolved(place)


def ignores_case(folder: Location) -> bool:
    """Whether names that differ in case alone are one name in a folder, which need not be there yet."""
    return not isinstance(folder, RemotePath) and local.ignores_case(folder)


def size_of(place: Location) -> int | None:
    """Size in bytes, or ``None`` if it cannot be had."""
    return remote.size_of(place) if isinstance(place, RemotePath) else local.size_of(place)


def version_of(file: Location) -> str | None:
    """What changes when the content of a file does: size and time, or ETag. ``None`` if there is no file."""
    return remote.version_of(file) if isinstance(file, RemotePath) else local.version_of(file)


def written(file: Location) -> float | None:
    """When a file was written, in seconds; ``None`` if there is none, or nothing in it."""
    return remote.written(file) if isinstance(file, RemotePath) else local.written(file)


def shown(text: str) -> str:
    """A path or URL for a message or a file: without its login."""
    return str(locate(text)) if is_url(text) else text


def is_same_file(a: Location, b: Location) -> bool:
    """Whether two locations lead to one file; ``False`` where one of them leads nowhere."""
    if isinstance(a, RemotePath) or isinstance(b, RemotePath):
        return a == b
    return local.is_same_file(a, b)


def scan(folder: RemotePath) -> list[remote.Entry]:
    """The entries of a folder of an object store, sorted by name. Raises OSError."""
    return remote.scan(folder)


def file_names(folder: Location, *, strict: bool = False) -> list[str]:
    """The names of the files in a folder, sorted; none of a folder that is not there.

    Nor of one that cannot be listed, unless it is ``strict``: then it raises OSError.
    """
    try:
        if isinstance(folder, RemotePath):
            return [entry.name for entry in remote.scan(folder) if not entry.is_folder]
        return [name for name, is_folder in local.list_folder(folder) if not is_folder]
    except FileNotFoundError:
        return []
    except OSError:
        if strict:
            raise
        return []


def read_bytes(file: Location) -> bytes:
    """The content of a file. Raises OSError."""
    return remote.read_bytes(file) if isinstance(file, RemotePath) else local.read_bytes(file)


def read_head(file: Location, size: int) -> bytes:
    """The first bytes of a file. Raises OSError."""
    return remote.read_head(file, size) if isinstance(file, RemotePath) else local.read_head(file, size)


def open_copy(file: Location) -> IO[bytes]:
    """A stream of a file's bytes in which one can go back; of a URL, from a copy. Raises OSError."""
    return remote.open_copy(file) if isinstance(file, RemotePath) else local.open_to_read(file)


def read_text(file: Location, *, errors: str = "strict") -> str:
    """The content of a text file in UTF-8, without a byte-order mark. Raises OSError, UnicodeDecodeError."""
    if isinstance(file, RemotePath):
        return remote.read_bytes(file).decode("utf-8-sig", errors)
    return local.read_text(file, errors=errors)


def read_image_bytes(
    file: Location, *, max_bytes: int, large_bytes: int, may_be_image: Callable[[bytes], bool]
) -> bytes:
    """The bytes of a regular file that is taken for an image.

    Args:
        file: where it is.
        max_bytes: size above which nothing is read.
        large_bytes: size above which the first four bytes are looked at before the rest is read.
        may_be_image: whether those four bytes can begin an image.

    Raises:
        ImageError: it vanished, may not be read, is not a regular file (a pipe or a device would
            block or never end), is empty, or is too large.
    """
    if isinstance(file, RemotePath):
        return remote.read_image_bytes(
            file, max_bytes=max_bytes, large_bytes=large_bytes, may_be_image=may_be_image
        )
    return local.read_image_bytes(
        file, max_bytes=max_bytes, large_bytes=large_bytes, may_be_image=may_be_image
    )


def write_file(file: Location, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if needed.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        replace_file(file, content)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error


def replace_file(file: Location, content: bytes) -> None:
    """As :func:`write_file`, but raises OSError."""
    if isinstance(file, RemotePath):
        remote.replace_file(file, content)
    else:
        local.replace_file(file, content)


def remove(file: Location) -> None:
    """Delete a file if it is there. Raises OSError."""
    if isinstance(file, RemotePath):
        remote.remove(file)
    else:
        local.remove(file)


def remove_folder(folder: Location) -> None:
    """Delete a folder of ours and what is in it, as far as that can be done."""
    if isinstance(folder, RemotePath):
        remote.remove_folder(folder)
    else:
        local.remove_folder(folder)


@contextmanager
def work_folder(parent: Location) -> Iterator[Location]:
    """A hidden folder within another one, for the files of a run; deleted afterwards. Raises OSError."""
    if not isinstance(parent, RemotePath):
        with local.work_folder(parent) as folder:
            yield folder
        return
    place = parent / f"{temporary_name()}-work"
    remote.make_folder(place)
    try:
        yield place
    finally:
        remote.remove_folder(place)


def as_arrow(files: Sequence[Location]) -> tuple[list[str], Any]:
    """Files as Arrow and Ray take them: paths, and the file system that they are in (``None``: this one)."""
    first = files[0]
    if isinstance(first, RemotePath):
        return remote.as_arrow([file for file in files if isinstance(file, RemotePath)])
    return [str(file) for file in files], None


def make_folder(folder: Location) -> None:
    """Make a folder and those above it, if needed; in an object store there are none. Raises OSError."""
    if isinstance(folder, RemotePath):
        remote.make_folder(folder)
    else:
        local.make_folder(folder)


def make_writable_folder(folder: Location) -> None:
    """Make a folder if needed, and on this machine try that a file can be written in it. Raises OSError."""
    if isinstance(folder, RemotePath):
        remote.make_folder(folder)
    else:
        local.make_writable_folder(folder)


class LineStream(Protocol):
    """A file of lines that appears under its name when it is closed."""

    def write(self, line: str) -> None:
        """Add a line, without its line break. Raises OSError."""

    def rewrite_first(self, line: str) -> None:
        """Replace the first line, which was at least as long, before closing. Raises OSError."""

    def close(self) -> None:
        """Give the file its name. Raises OSError."""


def open_lines(file: Location) -> LineStream:
    """Begin a file of lines. Raises OSError."""
    return lines.RemoteLines(file) if isinstance(file, RemotePath) else lines.LocalLines(file)


def local_only(place: Location, what: str) -> Path:
    """A location that has to be of this machine.

    Raises:
        OutputError: it is a URL.
    """
    if isinstance(place, RemotePath):
        raise OutputError(f"{place}: {what} has to be on this machine.")
    return place
