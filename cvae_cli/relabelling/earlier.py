"""What the manifests of earlier runs say is finished, so that neither images nor pictures are read again.

An image is finished if a manifest names it with the version that it still has (size and time, or an object
store's ETag), with the fingerprint and the pictures that this run would give it, and if these are all there,
not written after that manifest. Where any of it is in doubt, :mod:`cvae_cli.relabelling.resume` looks at the
files themselves.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import IO, Any, NamedTuple

from cvae_cli import storage
from cvae_cli.errors import ImageError, UnreachableError
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.manifest import from_record
from cvae_cli.images.naming import printable
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.storage import Location, RemotePath

FINISHED = "finished before"

KEPT = ".manifest-kept.jsonl"
"""Holds the lines of earlier manifests that a run which ended early did not come to."""
_MANIFEST = re.compile(r"(manifest(-\d+-of-\d+)?|\.manifest-kept)\.jsonl")
_TIME = "manifest_time"
"""Key of a kept line: when the manifest that it is from was written."""
_CACHE_KIB = 16_384
_FOLDERS = 1024
"""Listings of folders of an object store that are kept."""
_COARSE_SECONDS = 1.0
"""Object stores and SFTP give times in whole seconds."""


class Recorded(NamedTuple):
    """A line of a manifest.

    Attributes:
        record: what it says.
        time: when the manifest was written, in seconds.
    """

    record: dict[str, Any]
    time: float


class EarlierRuns:
    """The manifests in an output folder, each line found by its source and path, in little memory."""

    def __init__(self, out: Location) -> None:
        """Read the manifests; unreadable ones are ignored."""
        self.out = out
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._files: list[IO[bytes]] = []
        # An empty name is a temporary file that SQLite deletes.
        self._places = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._places.execute(f"PRAGMA {setting}")
        columns = "image INTEGER PRIMARY KEY, file INTEGER, place INTEGER, time REAL"
        self._places.execute(f"CREATE TABLE lines ({columns})")
        self._places.execute("BEGIN")
        self._open.callback(self._places.close)
        names = filter(_MANIFEST.fullmatch, storage.file_names(out))
        found = sorted((storage.written(out / name) or 0.0, name) for name in names)
        self._had_kept = any(name == KEPT for _, name in found)
        for time, name in found:
            try:
                stream = self._open.enter_context(storage.open_copy(out / name))
            except OSError:
                continue
            self._files.append(stream)
            rows = (
                (image, len(self._files) - 1, place, min(time, line_time or time))
                for image, place, line_time in _finished_lines(stream)
            )
            newer = "ON CONFLICT (image) DO UPDATE SET file = excluded.file, place = excluded.place, "
            newer += "time = excluded.time WHERE excluded.time >= time"
            self._places.executemany(f"INSERT INTO lines VALUES (?, ?, ?, ?) {newer}", rows)
        self.count = self._count()

    def take(self, source: str, path: str) -> Recorded | None:
        """The latest line of an image that was finished; an image is asked for once."""
        if not self.count:
            return None
        source, path = printable(source), printable(path)
        with self._lock:
            key = (hash((source, path)),)
            row = self._places.execute("SELECT file, place, time FROM lines WHERE image = ?", key).fetchone()
            if row is None:
                return None
            self._places.execute("DELETE FROM lines WHERE image = ?", key)
            record = self._read(row[0], row[1])
        if (record["source"], record["path"]) != (source, path):  # two may share a hash
            return None
        return Recorded(record, row[2])

    def keep_rest(self, *, complete: bool) -> None:
        """Keep the lines of images that were not asked for where a run ends early.

        Its manifest, which replaces that of the run before, does not have them. As far as they can be kept:
        on a full disk the run has something worse to say, and what is lost is only read again.

        Args:
            complete: whether the run has come to all images; then nothing is kept.
        """
        with self._lock, suppress(OSError):
            if complete or not self._count():
                if self._had_kept:
                    storage.remove(self.out / KEPT)
                return
            rows = self._places.execute("SELECT file, place, time FROM lines ORDER BY file, place").fetchall()
            kept = storage.open_lines(self.out / KEPT)
            try:
                for file, place, time in rows:
                    kept.write(json.dumps({**self._read(file, place), _TIME: time}))
            finally:
                kept.close()

    def close(self) -> None:
        """Let go of the files."""
        self._open.close()

    def _count(self) -> int:
        (count,) = self._places.execute("SELECT count(*) FROM lines").fetchone()
        return int(count)

    def _read(self, file: int, place: int) -> dict[str, Any]:
        stream = self._files[file]
        stream.seek(place)
        record: dict[str, Any] = json.loads(stream.readline())
        return record


def _finished_lines(stream: IO[bytes]) -> Iterator[tuple[int, int, float | None]]:
    """Hash of source and path, place and time of each line of an image that was finished."""
    place = 0
    for line in stream:
        try:
            record = json.loads(line)
            if record["status"] in ("done", "skipped") and record["fingerprint"] and record["version"]:
                time = record.get(_TIME)
                yield hash((record["source"], record["path"])), place, time and float(time)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # of an earlier version, or no manifest
        place += len(line)


class Outputs:
    """Which pictures are there already."""

    def __init__(self, out: Location) -> None:
        """Of an output folder; of an object store each folder is listed once, when it is first asked for."""
        self.out = out
        self._times = lru_cache(maxsize=_FOLDERS)(_times_in)

    def written(self, name: str) -> float | None:
        """When a file, by its name relative to the output folder, was written; ``None`` if it is not there.

        In seconds; an empty file does not count.

        Raises:
            UnreachableError: of an object store, that cannot be told.
        """
        file = self.out / name
        return (
            self._times(file.parent).get(file.name) if isinstance(file, RemotePath) else storage.written(file)
        )

    def may_have(self, name: str) -> bool:
        """Whether it is worth looking at a file: on this machine that costs no more than to ask."""
        return not isinstance(self.out, RemotePath) or self.written(name) is not None


def _times_in(folder: RemotePath) -> dict[str, float]:
    try:
        entries = storage.scan(folder)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreachableError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    return {entry.name: entry.time for entry in entries if entry.size and not entry.is_folder}


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

    Raises:
        UnreachableError: of an object store, it cannot be told which are there.
    """
    found = earlier.take(ref.source, ref.relative)
    if found is None or not version or found.record["version"] != version:
        return None
    try:
        outcome = from_record(found.record)
        label = plan.rule.label_of(ref)
    except (KeyError, TypeError, ImageError):
        return None
    if outcome.label not in plan.spec.classes or outcome.label_source == "provenance" or not outcome.sha256:
        return None
    index = plan.spec.classes.index(outcome.label)
    if label is None:
        if outcome.label_source != "predict":
            return None
    elif (outcome.label_source, index) != (label.source, label.index):
        return None
    if plan.fingerprint(ref, outcome.sha256, label) != outcome.fingerprint:
        return None
    wanted = plan.outputs(ref, plan.targets_of(index), left_out=outcome.left_out)
    if not wanted or [one.path for one in outcome.outputs] != [printable(one.path) for one in wanted]:
        return None
    latest = found.time + (_COARSE_SECONDS if isinstance(outputs.out, RemotePath) else 0.0)
    for output in wanted:
        written = outputs.written(output.path)
        if written is None or written > latest:
            return None
    # As it is called here: names that are not UTF-8 are written otherwise in a manifest.
    outcome = outcome.updated(path=ref.relative, source=ref.source, outputs=wanted)
    return outcome.skipped(FINISHED)
