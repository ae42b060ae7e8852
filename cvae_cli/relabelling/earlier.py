"""What the manifests of earlier runs say is finished, so that neither images nor pictures are read again.

An image is finished if a manifest names it with the version that it still has (size and time, or an object
store's ETag), with the fingerprint that this run would give it, and its pictures are all there. Where any of
it is in doubt, :mod:`cvae_cli.relabelling.resume` looks at the files themselves.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import IO, Any

from cvae_cli import storage
from cvae_cli.errors import ImageError
from cvae_cli.images.discover import ImageRef
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.storage import Location, RemotePath

FINISHED = "finished before"

_MANIFEST = re.compile(r"manifest(-\d+-of-\d+)?\.jsonl")
_CACHE_KIB = 16_384
_FOLDERS = 1024
"""Listings of folders of an object store that are kept."""


class EarlierRuns:
    """The manifests in an output folder, each line found by its path, in little memory."""

    def __init__(self, out: Location) -> None:
        """Read the manifests; ones that cannot be read say nothing."""
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._files: list[IO[bytes]] = []
        # An empty name is a temporary file that SQLite deletes.
        self._places = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._places.execute(f"PRAGMA {setting}")
        self._places.execute("CREATE TABLE lines (path INTEGER PRIMARY KEY, file INTEGER, place INTEGER)")
        self._places.execute("BEGIN")
        self._open.callback(self._places.close)
        self.count = 0
        for name in _manifests_in(out):
            try:
                stream = self._open.enter_context(storage.open_copy(out / name))
            except OSError:
                continue
            self._files.append(stream)
            rows = ((hash(path), len(self._files) - 1, place) for path, place in _finished_lines(stream))
            self._places.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)
        (self.count,) = self._places.execute("SELECT count(*) FROM lines").fetchone()

    def find(self, path: str) -> dict[str, Any] | None:
        """The latest line of an image that was finished."""
        if not self.count:
            return None
        with self._lock:
            row = self._places.execute(
                "SELECT file, place FROM lines WHERE path = ?", (hash(path),)
            ).fetchone()
            if row is None:
                return None
            stream = self._files[row[0]]
            stream.seek(row[1])
            record = json.loads(stream.readline())
        return record if record["path"] == path else None  # two paths may share a hash

    def close(self) -> None:
        """Let go of the files."""
        self._open.close()


def _manifests_in(out: Location) -> list[str]:
    try:
        if isinstance(out, RemotePath):
            names = [entry.name for entry in storage.scan(out) if not entry.is_folder]
        else:
            names = [name for name, is_folder in storage.list_folder(out) if not is_folder]
    except OSError:
        return []
    return [name for name in names if _MANIFEST.fullmatch(name)]


def _finished_lines(stream: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Path and place of each line of an image that was finished, and of which enough is known."""
    place = 0
    for line in stream:
        try:
            record = json.loads(line)
            if record["status"] in ("done", "skipped") and record["fingerprint"] and record["version"]:
                yield record["path"], place
        except (ValueError, KeyError, TypeError):
            pass  # of an earlier version, or no manifest
        place += len(line)


class Outputs:
    """Which pictures are there already."""

    def __init__(self, out: Location) -> None:
        """Of an output folder; of an object store each folder is listed once, when it is first asked for."""
        self.out = out
        self._names = lru_cache(maxsize=_FOLDERS)(_names_in)

    def has(self, name: str) -> bool:
        """Whether there is a file, not empty, of this name relative to the output folder."""
        if not isinstance(self.out, RemotePath):
            return bool(storage.size_of(self.out / name))
        file = self.out / name
        return file.name in self._names(file.parent)

    def may_have(self, name: str) -> bool:
        """Whether it is worth looking at a file: on this machine that costs no more than to ask."""
        return not isinstance(self.out, RemotePath) or self.has(name)

    def have(self, names: Iterable[str]) -> bool:
        """Whether there are all of these."""
        return all(self.has(name) for name in names)


def _names_in(folder: RemotePath) -> frozenset[str]:
    try:
        entries = storage.scan(folder)
    except FileNotFoundError:
        return frozenset()
    return frozenset(
        entry.name for entry in entries if not entry.is_folder and not entry.version.startswith("0-")
    )


def recorded_outcome(
    plan: RelabelPlan, ref: ImageRef, version: str, earlier: EarlierRuns, outputs: Outputs
) -> ImageOutcome | None:
    """The outcome of an image that is finished by all that manifests say, or ``None``.

    Args:
        plan: of the run.
        ref: the image.
        version: that it has now; empty if that is not known.
        earlier: runs.
        outputs: that are there.
    """
    record = earlier.find(ref.relative) if version else None
    if record is None or record["version"] != version:
        return None
    try:
        outcome = ImageOutcome.from_dict(record)
        label = plan.rule.label_of(ref)
    except (KeyError, TypeError, ImageError):
        return None
    if outcome.label_source == "provenance" or not outcome.sha256 or not outcome.outputs:
        return None
    if label is None:
        if outcome.label_source != "predict":
            return None
    elif (outcome.label_source, outcome.label) != (label.source, plan.spec.classes[label.index]):
        return None
    if plan.fingerprint(ref, outcome.sha256, label) != outcome.fingerprint:
        return None
    if not outputs.have(outcome.outputs):
        return None
    return replace(outcome, path=ref.relative, source=ref.source).skipped(FINISHED)
