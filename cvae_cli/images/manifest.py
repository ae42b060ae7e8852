"""The manifest of a run: what became of every image, one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import OutputError
from cvae_cli.images.output import is_source
from cvae_cli.storage import Location, open_lines

_HEAD_BYTES = 1_000_000
"""Of a file, within which its first line must end."""


def manifest_name(shard: tuple[int, int] | None) -> str:
    """The name of the manifest of a whole run, or of the I-th of N shards."""
    return "manifest.jsonl" if shard is None else f"manifest-{shard[0]}-of-{shard[1]}.jsonl"


def check_manifest(file: Location, *, sources: Iterable[Location], out: Location, overwrite: bool) -> None:
    """Refuse to replace a file that is no manifest.

    ``--overwrite`` allows it, unless the file is one of the sources.

    Args:
        file: what will be written when the run ends.
        sources: the files and folders of the run.
        out: the output folder.
        overwrite: whether the user allowed it.

    Raises:
        OutputError: it is not ours to replace.
    """
    if not storage.exists(file) or storage.size_of(file) == 0 or _is_manifest(file):
        return
    if not overwrite or is_source(file, sources, out):
        raise OutputError(f"{file} exists and is no manifest of cvae; move it, or choose another --out.")


def _is_manifest(file: Location) -> bool:
    """Whether the first line of a file is that of a manifest."""
    try:
        first = json.loads(storage.read_head(file, _HEAD_BYTES).split(b"\n", 1)[0])
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"path", "status"} <= first.keys()


class Manifest:
    """The manifest while it is written; it takes its name when the run ends, however it ends."""

    def __init__(self, file: Location) -> None:
        """Open it.

        Raises:
            OutputError: it cannot be written.
        """
        self.file = file
        try:
            self._lines = open_lines(file)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, record: dict[str, Any]) -> None:
        """Add a line. Raises :class:`OutputError` if it cannot be written."""
        try:
            self._lines.write(json.dumps(record))
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
            self._lines.close()
        except OSError as error:
            if exception is None:
                raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self.file}: cannot be written: {error.strerror or error}")
