"""Files of lines that are written one by one and appear, whole, when they are closed."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from cvae_cli.storage import local, remote
from cvae_cli.storage.local import temporary_name
from cvae_cli.storage.location import RemotePath

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class _Lines:
    """A stream of lines, of which the first can be written again."""

    _stream: IO[bytes]
    """Without a buffer: a line that cannot be written must not come up again when the stream is closed."""
    _first_length = 0
    _whole = 0
    """Bytes of whole lines."""

    def write(self, line: str) -> None:
        """Add a line, without its line break; whole, or not at all. Raises OSError."""
        self._first_length = self._first_length or len(line.encode())
        content = f"{line}\n".encode()
        try:
            self._write_all(content)
        except OSError:
            with suppress(OSError):
                self._stream.truncate(self._whole)
                self._stream.seek(self._whole)
            raise
        self._whole += len(content)

    def _write_all(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[self._stream.write(rest) :]

    def rewrite_first(self, line: str) -> None:
        """Replace the first line, which was at least as long, before closing. Raises OSError."""
        content = line.encode()
        if len(content) > self._first_length:
            raise ValueError("the first line was shorter")
        self._stream.seek(0)
        self._write_all(content.ljust(self._first_length))


class LocalLines(_Lines):
    """A file of lines that appears under its name when it is closed.

    Until then the file is ``NAME.part``. A second process that writes to the same name at the same
    time gets a hidden file of its own; the one that closes last leaves its lines.
    """

    def __init__(self, file: Path) -> None:
        """Open the stream. Raises OSError."""
        self.file = file
        self.partial = file.with_name(f"{file.name}.part")
        self._stream = self._open_locked() or self._open_hidden()

    def close(self) -> None:
        """Give the file its name. Raises OSError."""
        with self._stream:
            # Renamed while the lock is held, so that no other run starts writing what is renamed.
            if fcntl is not None:
                os.replace(self.partial, self.file)
        if fcntl is None:
            os.replace(self.partial, self.file)

    def _open_locked(self) -> IO[bytes] | None:
        """``NAME.part``, emptied, if no other run is writing it."""
        while fcntl is not None:
            try:
                stream = self._open("rb+")
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EEXIST):
                    return None
                raise
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
            # The other run ended and renamed the file before it was locked: try again.
            with suppress(OSError):
                stream.close()
        return None

    def _open_hidden(self) -> IO[bytes]:
        while True:
            self.partial = self.partial.with_name(temporary_name())
            stream = self._open("wb")
            if local.lock(stream.fileno()) is not False and self.partial.exists():
                return stream
            # Another run took it for an abandoned one before it was locked.
            stream.close()

    def _open(self, mode: str) -> IO[bytes]:
        def opener(path: str, flags: int) -> int:
            # "r+" by itself makes no file, and "a" cannot go back to the first line.
            descriptor = os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            if os.fstat(descriptor).st_nlink > 1:
                os.close(descriptor)
                raise FileExistsError(errno.EEXIST, "this file has other names, too")
            return descriptor

        # Never through a link, to a file that is not ours.
        return open(self.partial, mode, buffering=0, opener=opener)


class RemoteLines(_Lines):
    """A file of lines that appears, whole, under its name when it is closed; until then it is kept here."""

    def __init__(self, file: RemotePath) -> None:
        """Open the stream. Raises OSError."""
        self.file = file
        self._stream = tempfile.NamedTemporaryFile("wb", buffering=0, delete=False)  # noqa: SIM115 - in close

    def close(self) -> None:
        """Give the file its name. Raises OSError."""
        self._stream.close()  # before it is opened by its name, as Windows wants it
        try:
            remote.put_file(self.file, self._stream.name)
        finally:
            local.remove(Path(self._stream.name))
