"""PNG files written whole or not at all, carrying where they come from; and the manifest."""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import re
import struct
import time
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli.errors import ImageError, OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

PROVENANCE = "cvae"
"""Keyword of the PNG text chunk that holds the provenance as JSON."""

_NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
"""What a file system says of a name that it cannot have; the next image's may be a better one."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_CHUNK = 1_000_000
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_STARTED = f"{time.time_ns():x}"
_SERIAL = itertools.count()


def encode_png(pixels: NDArray[np.uint8], provenance: dict[str, Any]) -> bytes:
    """A PNG (ISO/IEC 15948) with its provenance in a text chunk ahead of the pixels.

    Not by Pillow, whose encoder holds the interpreter's lock, so that no other thread's network
    goes on meanwhile, and takes twice as long to find filters that gain a tenth of the size.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3) uint8.
        provenance: anything JSON takes.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    # Each row less the one above (filter 2): the pictures are flat areas and enlarged pixels.
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    colour = 2 if rows.shape[1] == 3 * width else 0
    # ASCII, so that any file name survives, whatever its encoding.
    text = json.dumps(provenance, sort_keys=True).encode("ascii")
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"tEXt", PROVENANCE.encode() + b"\0" + text),
        (b"IDAT", zlib.compress(filtered.data, 1)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def read_provenance(file: Path) -> dict[str, Any] | None:
    """The provenance of a PNG that cvae wrote, or ``None``: no such file, or another's."""
    try:
        with file.open("rb") as stream:
            if stream.read(8) != _SIGNATURE:
                return None
            while True:
                length, kind = struct.unpack(">I4s", stream.read(8))
                if kind in (b"IDAT", b"IEND") or length > _LONGEST_CHUNK:
                    return None
                content, (checksum,) = stream.read(length), struct.unpack(">I", stream.read(4))
                keyword, _, text = content.partition(b"\0")
                if kind == b"tEXt" and keyword == PROVENANCE.encode():
                    if zlib.crc32(kind + content) != checksum:
                        return None
                    found = json.loads(text)
                    return found if isinstance(found, dict) else None
    except (OSError, struct.error, ValueError, RecursionError):
        return None


def write_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        _write_whole(file, content)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error


def _write_whole(file: Path, content: bytes) -> None:
    """As :func:`write_file`, with the errors of the system."""
    temporary = file.parent / _temporary_name()
    try:
        try:
            _write_bytes(temporary, content)
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_bytes(temporary, content)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_bytes(file: Path, content: bytes) -> None:
    """As :meth:`Path.write_bytes`, in half the system calls: they are what small files cost."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


class OutputFolder:
    """The folder that a run writes to; nothing is ever written outside of it."""

    def __init__(self, root: Path) -> None:
        """Nothing is created yet: see :meth:`create`."""
        self.root = root
        self._real_root = root
        self._checked: set[Path] = set()

    def create(self) -> None:
        """Make the folder and try to write in it.

        Raises:
            OutputError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / _temporary_name()
            probe.touch()
            probe.unlink()
            _clear_abandoned(self.root)
        except FileExistsError:
            raise OutputError(f"{self.root} is a file; --out takes a folder.") from None
        except OSError as error:
            raise OutputError(
                f"{self.root}: cannot be written: {error.strerror or error}; choose another --out."
            ) from error
        self._real_root = self.root.resolve()

    def write(self, relative: str, content: bytes) -> None:
        """Write a file below the folder, as :func:`write_file` does.

        Raises:
            ImageError: the file system takes no such name: too long, or of characters it lacks.
            OutputError: it cannot be written, or a link on its way leads out of the folder.
        """
        file = self.root / relative
        try:
            self._ready(file.parent)
            _write_whole(file, content)
        except RecursionError:
            raise ImageError("its output would lie too many folders deep") from None
        except OSError as error:
            if error.errno in _NO_SUCH_NAME:
                raise ImageError(f"its output cannot have that name: {error.strerror}") from error
            raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error

    def _ready(self, folder: Path) -> None:
        if folder in self._checked:
            return
        real = folder.resolve()
        if real != self._real_root and self._real_root not in real.parents:
            raise OutputError(f"{folder} is a link that leads out of {self.root}; nothing is written there.")
        folder.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        self._checked.add(folder)


def _clear_abandoned(folder: Path) -> None:
    """What a killed run left half-written in a folder is of no use to anyone."""
    for name in os.listdir(folder):
        if _is_abandoned(name):
            (folder / name).unlink(missing_ok=True)


def _temporary_name() -> str:
    """Hidden, and telling whose it is: see :func:`_is_abandoned`."""
    return f".cvae-{_HOST}-{os.getpid()}-{_STARTED}-{next(_SERIAL)}.part"


def _is_abandoned(name: str) -> bool:
    """Whether this is the temporary file of a process of this machine that no longer runs."""
    match = re.fullmatch(r"\.cvae-([0-9a-f]{8})-(\d+)-([0-9a-f]+)-\d+\.part", name)
    if match is None or match[1] != _HOST or os.name != "posix":
        return False
    if int(match[2]) == os.getpid():
        # In a container each run may have the same number.
        return match[3] != _STARTED
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


class Manifest:
    """The manifest of a run: JSON Lines, which take their name when the run ends, however it ends.

    While the run goes on the file is ``NAME.part``, a line for every image so far; that of a second
    run into the same folder at the same time is hidden. The run that ends last leaves its own.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be written.
        """
        self.file = folder / name
        self.partial = folder / f"{name}.part"
        try:
            self._stream = self._locked() or self._own()
        except OSError as error:
            raise self._failure(error) from error

    def write(self, line: dict[str, Any]) -> None:
        """Add a line. Raises :class:`OutputError` if it cannot be written."""
        try:
            self._stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._failure(error) from error

    def __enter__(self) -> Manifest:
        """Nothing more is needed."""
        return self

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        """Give the file its name.

        Raises:
            OutputError: that cannot be done, and nothing else went wrong before.
        """
        try:
            # While the lock is held: another run must not begin to write what is renamed.
            with self._stream:
                if fcntl is not None:
                    os.replace(self.partial, self.file)
            if fcntl is None:
                os.replace(self.partial, self.file)
        except OSError as error:
            if exception is None:
                raise self._failure(error) from error

    def _locked(self) -> IO[str] | None:
        """``NAME.part``, emptied, if no other run is writing it."""
        while fcntl is not None:
            stream = self._open("a")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(stream.fileno()), self.partial.stat()):
                    stream.truncate(0)
                    return stream
            except FileNotFoundError:
                pass
            except OSError:  # locked, or a file system without locks
                stream.close()
                return None
            # Before it was locked the other run ended and renamed it: there is no other now.
            stream.close()
        return None

    def _own(self) -> IO[str]:
        self.partial = self.partial.with_name(_temporary_name())
        return self._open("w")

    def _open(self, mode: str) -> IO[str]:
        return self.partial.open(mode, encoding="utf-8", newline="\n", buffering=1)

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self.file}: cannot be written: {error.strerror or error}")
