"""PNG files written whole or not at all, carrying where they come from; and the manifest."""

from __future__ import annotations

import io
import itertools
import json
import os
import platform
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cvae_cli.errors import OutputError

PROVENANCE = "cvae"
"""Keyword of the PNG text chunk that holds the provenance as JSON."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_CHUNK = 1_000_000
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_SERIAL = itertools.count()


def encode_png(pixels: NDArray[np.uint8], provenance: dict[str, Any]) -> bytes:
    """A PNG with its provenance in a text chunk ahead of the pixels.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3) uint8.
        provenance: anything JSON takes.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    info = PngInfo()
    # ASCII, so that any file name survives, whatever its encoding.
    info.add_text(PROVENANCE, json.dumps(provenance, sort_keys=True))
    buffer = io.BytesIO()
    # Level 1: the pictures are flat areas and repeated pixels, more effort gains little.
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


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
    except (OSError, struct.error, ValueError):
        return None


def write_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = file.parent / f".cvae-{_HOST}-{os.getpid()}-{next(_SERIAL)}.part"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error


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
            probe = self.root / f".cvae-{_HOST}-{os.getpid()}-{next(_SERIAL)}.part"
            probe.touch()
            probe.unlink()
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
            OutputError: it cannot be written, or a link on its way leads out of the folder.
        """
        file = self.root / relative
        try:
            self._ready(file.parent)
        except OSError as error:
            raise OutputError(f"{file.parent}: cannot be made: {error.strerror or error}") from error
        write_file(file, content)

    def _ready(self, folder: Path) -> None:
        if folder in self._checked and folder.is_dir():
            return
        real = folder.resolve()
        if real != self._real_root and self._real_root not in real.parents:
            raise OutputError(f"{folder} is a link that leads out of {self.root}; nothing is written there.")
        folder.mkdir(parents=True, exist_ok=True)
        # What a killed run left half-written in this folder is of no use to anyone.
        for name in os.listdir(folder):
            if _is_abandoned(name):
                (folder / name).unlink(missing_ok=True)
        self._checked.add(folder)


def _is_abandoned(name: str) -> bool:
    """Whether this is the temporary file of a process of this machine that no longer runs."""
    match = re.fullmatch(r"\.cvae-([0-9a-f]{8})-(\d+)-\d+\.part", name)
    if match is None or match[1] != _HOST or os.name != "posix":
        return False
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@contextmanager
def open_manifest(folder: Path, name: str) -> Iterator[IO[str]]:
    """Open the manifest of a run; it takes its name when the run ends, however it ends.

    While the run goes on it is ``NAME.part``, a line for every image so far.
    """
    partial = folder / f"{name}.part"
    try:
        stream = partial.open("w", encoding="utf-8", newline="\n", buffering=1)
    except OSError as error:
        raise OutputError(f"{partial}: cannot be written: {error.strerror or error}") from error
    try:
        with stream:
            yield stream
    finally:
        os.replace(partial, folder / name)
