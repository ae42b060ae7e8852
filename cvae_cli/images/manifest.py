"""The manifest of a run: what became of every image, one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cvae_cli.errors import OutputError
from cvae_cli.storage import LineStream


def manifest_name(shard: tuple[int, int] | None) -> str:
    """The name of the manifest of a whole run, or of the I-th of N shards."""
    return "manifest.jsonl" if shard is None else f"manifest-{shard[0]}-of-{shard[1]}.jsonl"


class Manifest:
    """The manifest while it is written; it takes its name when the run ends, however it ends."""

    def __init__(self, file: Path) -> None:
        """Open it.

        Raises:
            OutputError: it cannot be written.
        """
        self.file = file
        try:
            self._lines = LineStream(file)
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
