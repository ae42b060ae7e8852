"""PNG files that carry where they come from."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli import storage
from cvae_cli.errors import UnreachableError
from cvae_cli.storage import Location, RemotePath

try:
    from isal import isal_zlib
except ImportError:  # there are processors that it is not made for
    isal_zlib = None  # type: ignore[assignment]

PROVENANCE = "cvae"
"""Keyword of the PNG text chunk that holds the provenance as JSON."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNK_BYTES = 1_000_000
_HEAD_BYTES = 65_536
"""Of a file elsewhere, in which the provenance of our pictures ends: it stands before the pixels."""


def encode_png(pixels: NDArray[np.uint8], provenance: dict[str, Any] | None = None) -> bytes:
    """A PNG (ISO/IEC 15948), if given with its provenance in a text chunk ahead of the pixels.

    Pillow would take more than ten times as long (1.1 ms for a grid of MNIST), trying filters that save a
    quarter of the size.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3) uint8.
        provenance: anything JSON takes.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    # The pictures are enlarged pixels and flat areas. A row equal to the one above is all zeros under
    # filter 2 (Up); any other is mostly zeros under filter 1 (Sub).
    is_new = np.ones(height, bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    new, step = rows[is_new], rows.shape[1] // width
    differences = new.copy()
    np.subtract(new[:, step:], new[:, :-step], out=differences[:, step:])
    filtered = np.zeros((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = np.where(is_new, 1, 2)
    filtered[is_new, 1:] = differences
    colour = 2 if step == 3 else 0
    texts = []
    if provenance is not None:
        # ASCII, so that any file name survives, whatever its encoding.
        text = json.dumps(provenance, sort_keys=True).encode("ascii")
        texts.append((b"tEXt", PROVENANCE.encode() + b"\0" + text))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        *texts,
        (b"IDAT", _compress(filtered.data)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _compress(data: memoryview) -> bytes:
    """Data as a zlib stream (RFC 1950), in a quarter of the time that zlib takes."""
    return zlib.compress(data, 1) if isal_zlib is None else isal_zlib.compress(data, 2)


def read_provenance(file: Location) -> dict[str, Any] | None:
    """The provenance of a PNG that cvae wrote; ``None`` for any other file, or none at all.

    Raises:
        UnreachableError: of a URL, it cannot be read.
    """
    try:
        if isinstance(file, RemotePath):
            return _remote_provenance(file)
        with storage.open_to_read(file) as stream:
            return provenance_in(stream)
    except OSError:
        return None


def _remote_provenance(file: RemotePath) -> dict[str, Any] | None:
    try:
        head = storage.read_head(file, _HEAD_BYTES)
        found = provenance_in(io.BytesIO(head))
        if found is None and len(head) == _HEAD_BYTES and head.startswith(_SIGNATURE):
            # Of many tiles that were judged, it may be longer.
            found = provenance_in(io.BytesIO(storage.read_head(file, _MAX_CHUNK_BYTES + 100)))
    except FileNotFoundError:
        return None
    except OSError as error:
        # It is not known whose it is: it must not be taken for a file of the user's.
        raise UnreachableError(f"{file}: cannot be read: {error.strerror or error}") from error
    return found


def provenance_in(stream: IO[bytes]) -> dict[str, Any] | None:
    """As :func:`read_provenance`, of a stream at its beginning. Raises OSError."""
    try:
        if stream.read(8) != _SIGNATURE:
            return None
        while True:
            length, kind = struct.unpack(">I4s", stream.read(8))
            if kind in (b"IDAT", b"IEND") or length > _MAX_CHUNK_BYTES:
                return None
            content, (checksum,) = stream.read(length), struct.unpack(">I", stream.read(4))
            keyword, _, text = content.partition(b"\0")
            if kind == b"tEXt" and keyword == PROVENANCE.encode():
                if zlib.crc32(kind + content) != checksum:
                    return None
                found = json.loads(text)
                return found if isinstance(found, dict) else None
    except (struct.error, ValueError, RecursionError):
        return None
