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

    _stream: IO[str]
    _first_length = 0

    def write(self, line: str) -> None:
        """Add a line, without its line break. Raises OSError."""
        self._first_length = self._first_length or len(line.encode())
        self._stream.write(line + "\n")

    def rewrite_first(self, line: str) -> None:
        """Replace the first line, which was at least as long, before closing. Raises OSError."""
        content = line.encode()
        if len(content) > self._first_length:
            raise ValueError("the first line was shorter")
        self._stream.flush()
        self._stream.seek(0)
        self._stream.write(line + " " * (self._first_length - len(content)))
        self._stream.flush()


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

    def _open_locked(self) -> IO[str] | None:
        """``NAME.part``, emptied, if no other run is writing it."""
        while fcntl is not None:
            try:
                stream = self._open("r+")
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

    def _open_hidden(self) -> IO[str]:
        while True:
            self.partial = self.partial.with_name(temporary_name())
            stream = self._open("w")
            if local.lock(stream.fileno()) is not False and self.partial.exists():
                return stream
            # Another run took it for an abandoned one before it was locked.
            stream.close()

    def _open(self, mode: str) -> IO[str]:
        def opener(path: str, flags: int) -> int:
            # "r+" by itself makes no file, and "a" cannot go back to the first line.
            descriptor = os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            if os.fstat(descriptor).st_nlink > 1:
                os.close(descriptor)
                raise FileExistsError(errno.EEXIST, "this file has other names, too")
            return descriptor

        # Never through a link, to a file that is not ours.
        return open(self.partial, mode, encoding="utf-8", newline="\n", buffering=1, opener=opener)


class RemoteLines(_Lines):
    """A file of lines that appears, whole, under its name when it is closed; until then it is kept here."""

    def __init__(self, file: RemotePath) -> None:
        """Open the stream. Raises OSError."""
        self.file = file
        self._stream = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed in close
            "w", encoding="utf-8", newline="\n", delete=False
        )

    def close(self) -> None:
        """Give the file its name. Raises OSError."""
        self._stream.close()  # before it is opened by its name, as Windows wants it
        try:
            remote.put_file(self.file, self._stream.name)
        finally:
            local.remove(Path(self._stream.name))
