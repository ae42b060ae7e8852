"""Files of this machine.

Every file is written whole or not at all: to a temporary name beside it, then renamed.
"""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import re
import secrets
import select
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cvae_cli.errors import ImageError, ListStopped

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

NO_SUCH_NAME = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})
"""Errors of a file system that cannot have a name; another name may be fine."""

_BINARY = getattr(os, "O_BINARY", 0)
_ATTEMPTS = 3
_CHUNK, _PATIENCE_SECONDS = 1 << 16, 0.5
_PROCESS = secrets.token_hex(8)
_SERIAL = itertools.count()
_TEMPORARY = re.compile(r"\.cvae-[0-9a-f-]+\.part(-work)?")
_ABANDONED_SECONDS = 24 * 3600
"""Age of a temporary file without a lock from which nobody is writing it, where there are no locks."""


# Looking


def resolved(path: Path) -> Path:
    """An absolute path without links; what cannot be followed, a loop or too long a name, stays as it is."""
    return Path(os.path.realpath(path))


def ignores_case(folder: Path) -> bool:
    """Whether names that differ in case alone are one name in a folder, which need not be there yet."""
    if sys.platform in ("win32", "darwin"):
        return True
    here = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay
    while not is_folder(here) and here != here.parent:
        here = here.parent
    with suppress(OSError), os.scandir(here) as entries:
        inside = next((here / entry.name for entry in entries if entry.name.swapcase() != entry.name), here)
        return is_same_file(inside, inside.with_name(inside.name.swapcase()))
    return False


def exists(path: Path) -> bool:
    """Whether there is a file or a folder; ``False`` too for a name that cannot be."""
    return os.path.exists(path)  # noqa: PTH110 - unlike Path it answers False for such names


def is_file(path: Path) -> bool:
    """Whether there is a file; ``False`` too for a name that cannot be."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder; ``False`` too for a name that cannot be."""
    return os.path.isdir(path)  # noqa: PTH112


def is_empty_folder(path: Path) -> bool:
    """Whether this is a folder with nothing in it."""
    return is_folder(path) and not os.listdir(path)


def size_of(path: Path) -> int | None:
    """Size in bytes, or ``None`` if it cannot be had."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def is_same_file(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file; ``False`` where one of them leads nowhere."""
    try:
        return a.samefile(b)
    except OSError:
        return False


def written(file: Path) -> float | None:
    """When a file was written, in seconds; ``None`` if there is none, or nothing in it."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime if found.st_size else None


def version_of(file: Path) -> str | None:
    """Size and time of a file, which change when its content does; ``None`` if there is none."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return f"{found.st_size}-{found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else None


def list_folder(folder: Path) -> list[tuple[str, bool]]:
    """The entries of a folder, sorted by name, and whether each is a folder. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted((entry.name, entry.is_dir()) for entry in entries)


# Reading


def read_bytes(file: Path) -> bytes:
    """The content of a file. Raises OSError."""
    return file.read_bytes()


def read_head(file: Path, size: int) -> bytes:
    """The first bytes of a file. Raises OSError."""
    with open_to_read(file) as stream:
        return stream.read(size)


def open_to_read(file: Path) -> IO[bytes]:
    """A stream of a regular file's bytes: a pipe would block. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_text(file: Path, *, errors: str = "strict") -> str:
    """The content of a text file in UTF-8, without a byte-order mark. Raises OSError, UnicodeDecodeError."""
    with file.open(newline="", encoding="utf-8-sig", errors=errors) as stream:
        return stream.read()


def read_image_bytes(
    file: Path, *, max_bytes: int, large_bytes: int, may_be_image: Callable[[bytes], bool]
) -> bytes:
    """See :func:`cvae_cli.storage.read_image_bytes`. Raises ImageError."""
    try:
        # O_NONBLOCK: opening a pipe without a writer must not wait for one.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except PermissionError:
        raise ImageError("permission denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ImageError("not a regular file")
        if info.st_size > max_bytes:
            raise ImageError(
                f"file of {info.st_size / 1e9:.1f} GB is over the limit of {max_bytes / 1e9:g} GB"
            )
        if info.st_size > large_bytes:
            if not may_be_image(os.read(descriptor, 4)):
                raise ImageError("not an image, or its header is damaged")
            os.lseek(descriptor, 0, os.SEEK_SET)
        # The second read finds the end, since a file may grow meanwhile.
        parts = [os.read(descriptor, info.st_size + 1)]
        while sum(map(len, parts)) <= max_bytes and (part := os.read(descriptor, 1 << 20)):
            parts.append(part)
        content = parts[0] if len(parts) == 1 else b"".join(parts)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if not content:
        raise ImageError("empty file")
    return content


# Writing


def replace_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if needed. Raises OSError."""
    for attempt in range(_ATTEMPTS):
        temporary = file.parent / temporary_name()
        try:
            _write_and_rename(temporary, file, content)
            return
        except FileNotFoundError:
            # No such folder yet; or another run took the temporary file for an abandoned one, in the
            # moment between its creation and its lock.
            if attempt + 1 == _ATTEMPTS:
                raise
            file.parent.mkdir(parents=True, exist_ok=True)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_new_file(file: Path, content: bytes) -> None:
    """Write a file that must not exist yet. Raises OSError, of which FileExistsError if it does."""
    with file.open("xb") as stream:
        stream.write(content)


def _write_and_rename(temporary: Path, file: Path, content: bytes) -> None:
    """Write with few system calls, which dominate the cost of small files; locked until it has its name."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
    try:
        lock(descriptor)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if fcntl is not None:
            os.replace(temporary, file)
    finally:
        os.close(descriptor)
    if fcntl is None:
        os.replace(temporary, file)  # Windows renames only what is closed


def lock(descriptor: int) -> bool | None:
    """Lock an open file: whether that worked; ``None`` on a file system without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def to_bytes(write: Callable[[IO[bytes]], None]) -> bytes:
    """What a function writes to a stream."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def rename(source: Path, target: Path) -> None:
    """Give a file its final name, replacing what is there. Raises OSError."""
    os.replace(source, target)


def remove(file: Path) -> None:
    """Delete a file if it is there. Raises OSError."""
    file.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder of ours and what is in it, as far as that can be done."""
    shutil.rmtree(folder, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if needed. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)


def make_writable_folder(folder: Path) -> None:
    """Make a folder if needed, and try that a file can be written in it. Raises OSError."""
    make_folder(folder)
    probe = folder / temporary_name()
    probe.touch()
    # Another run may have taken it for an abandoned one.
    probe.unlink(missing_ok=True)


def chunks(stream: IO[bytes], should_stop: Callable[[], object | None]) -> Iterator[bytes]:
    """What comes from a pipe or file, as it comes, and b"" at its end; asks whether to stop meanwhile.

    A signal that is only noted does not end a read, which would wait for a writer that has nothing to say.
    On Windows it does wait, since only sockets can be looked at before.

    Raises:
        ListStopped: it was asked to stop.
    """
    try:
        descriptor = stream.fileno()
    except OSError:
        descriptor = None  # no file, in a test
    while should_stop() is None:
        if descriptor is None or sys.platform == "win32":
            chunk = getattr(stream, "read1", stream.read)(_CHUNK)
        elif not select.select([descriptor], [], [], _PATIENCE_SECONDS)[0]:
            continue
        else:
            chunk = os.read(descriptor, _CHUNK)
        yield chunk
        if not chunk:
            return
    raise ListStopped


def discard(descriptor: int) -> None:
    """Lead an open descriptor nowhere: what is still written to it is lost without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


# Temporary files


def temporary_name() -> str:
    """A hidden name that no other process uses, on any machine: see :func:`clear_abandoned`."""
    return f".cvae-{_PROCESS}-{next(_SERIAL)}.part"


def clear_abandoned(folder: Path) -> None:
    """Delete what a killed run left half-written in a folder.

    A process holds a lock on what it writes, which the system releases when it ends. Its number would
    tell nothing: containers have the same ones.
    """
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            remove_if_abandoned(folder / name)


def remove_if_abandoned(file: Path) -> None:
    """Delete a temporary file that nobody is writing any more. Raises OSError."""
    try:
        descriptor = os.open(file, os.O_RDONLY | _BINARY)
    except OSError:
        return
    try:
        abandoned = lock(descriptor)
        if abandoned is None:
            abandoned = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_SECONDS
        # While it is locked: whoever locks it next has to see that it is gone.
        if abandoned and fcntl is not None:
            _delete(file)
    finally:
        os.close(descriptor)
    if abandoned and fcntl is None:
        _delete(file)  # Windows deletes only what is closed


def _delete(place: Path) -> None:
    if place.is_dir():
        remove_folder(place)
    else:
        place.unlink(missing_ok=True)


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder within another one, for the files of a run; deleted afterwards.

    While it is in use it is locked, so that one which a killed run left is known as abandoned.
    """
    while True:
        folder = parent / f"{temporary_name()}-work"
        folder.mkdir(parents=True)
        descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
        if descriptor is None or (lock(descriptor) is not False and folder.exists()):
            break
        # Another run took it for an abandoned one before it was locked.
        os.close(descriptor)
    try:
        yield folder
    finally:
        remove_folder(folder)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def unpack_gzip(file: Path, target: Path) -> None:
    """Unpack a ``.gz`` file. Raises OSError, EOFError or zlib.error if it is damaged."""
    with gzip.open(file) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
