"""The manifest of a run: one JSON object per line, first of the run itself, then of each image.

``cvae_cli/schemas/manifest.schema.json`` describes it. Manifests of version 1, which had no first line of the
run, are read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import OutputError, UserError
from cvae_cli.images.naming import printable
from cvae_cli.images.output import is_source
from cvae_cli.outcomes import ImageOutcome, Output
from cvae_cli.storage import Location, open_lines

FORMAT_VERSION = 2
KIND = "manifest"
MANIFEST = re.compile(r"manifest(-\d+-of-\d+)?\.jsonl")
_END, _COMPLETE = "ended", "complete"
_ROOM = 20 + 24
"""For what is known at the end: a time such as 2026-11-27T08:00:00Z, and a precision."""
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
    return isinstance(first, dict) and (first.get("kind") == KIND or {"path", "status"} <= first.keys())


def to_record(outcome: ImageOutcome) -> dict[str, Any]:
    """An outcome as a line of the manifest; names that are not UTF-8 are written as in the pictures."""
    outputs = tuple(one._replace(path=printable(one.path)) for one in outcome.outputs)
    named = outcome.updated(
        path=printable(outcome.path),
        source=printable(outcome.source),
        reason=printable(outcome.reason),
        outputs=outputs,
    )
    return named.to_dict()


def from_record(record: dict[str, Any]) -> ImageOutcome:
    """The inverse of :func:`to_record`, of a line of any version.

    Raises:
        KeyError, TypeError: it is no such line.
    """
    outputs = record["outputs"]
    if any(isinstance(one, str) for one in outputs):
        kept = [name for name in record["targets"] if name not in (record.get("left_out") or ())]
        tiles = [path for path in outputs if path.startswith("tiles/")]
        targets = iter(kept if len(tiles) == len(kept) else [None] * len(tiles))
        outputs = [
            Output("tile", path, next(targets))._asdict() if path in tiles else Output("grid", path)._asdict()
            for path in outputs
        ]
    unknown = dict.fromkeys(("version", "sha256", "fingerprint", "judged_realism", "judged_odd"))
    return ImageOutcome.from_dict({**unknown, **record, "outputs": outputs})


def now() -> str:
    """The time, in UTC, as manifests have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Manifest:
    """The manifest while it is written; it takes its name when the run ends, however it ends."""

    def __init__(self, file: Location, run: dict[str, Any]) -> None:
        """Open it.

        Args:
            file: its name in the end.
            run: what is said of the run in the first line, apart from its version and times.

        Raises:
            OutputError: it cannot be written.
        """
        self.file = file
        self._run = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "started": now(),
            _END: None,
            _COMPLETE: False,
            **run,
        }
        try:
            self._lines = open_lines(file)
            # Room for the time at the end.
            self._lines.write(json.dumps(self._run) + " " * _ROOM)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, record: dict[str, Any]) -> None:
        """Add a line. Raises :class:`OutputError` if it cannot be written."""
        try:
            self._lines.write(json.dumps(record))
        except OSError as error:
            raise self._failure(error) from error

    def add(self, **known: Any) -> None:
        """Say more of the run in the first line, which is written again at the end."""
        self._run |= known

    def __enter__(self) -> Manifest:
        """Nothing more is needed."""
        return self

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        """Give the file its name.

        Raises:
            OutputError: that cannot be done, and nothing else went wrong before.
        """
        try:
            ended = {**self._run, _END: now(), _COMPLETE: kind is None}
            try:
                self._lines.rewrite_first(json.dumps(ended))
            finally:
                self._lines.close()
        except OSError as error:
            if exception is None:
                raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self.file}: cannot be written: {error.strerror or error}")


@dataclass(frozen=True)
class RecordedRun:
    """What the manifests of a folder say: of one run, or of the shards of one.

    Attributes:
        files: the manifests, in the order of the shards.
        runs: the first line of each, ``{}`` for a manifest of version 1.
    """

    files: tuple[Location, ...]
    runs: tuple[dict[str, Any], ...]

    def missing_shards(self) -> list[int]:
        """The numbers of the shards that have left no manifest here, where there are shards."""
        shards = [tuple(map(int, re.findall(r"\d+", file.name))) for file in self.files]
        if len(shards[0]) < 2:
            return []
        there = {index for index, _ in shards}
        return [number for number in range(1, shards[0][1] + 1) if number not in there]

    def outcomes(self) -> Iterator[ImageOutcome]:
        """What became of each image, in the order of the manifests; an image that two name, once.

        Raises:
            UserError: a line is none of a manifest.
        """
        seen: set[int] = set()
        for file in self.files:
            for number, record in enumerate(_records(file), 1):
                if number == 1 and record.get("kind") == KIND:
                    continue
                if len(self.files) > 1:
                    key = hash((record.get("source"), record.get("path")))
                    if key in seen:
                        continue
                    seen.add(key)
                try:
                    yield from_record(record)
                except (KeyError, TypeError) as error:
                    raise UserError(f"{file}: line {number} is not a line of a manifest.") from error


def read_manifest(place: Location | str) -> RecordedRun:
    """Read the manifest of an output folder, or those of all shards.

    Args:
        place: the output folder of ``cvae relabel``, a manifest in it, or the URL of either. Where there are
            manifests of a whole run and of shards, or of several numbers of shards, those that were written
            last count.

    Raises:
        UserError: there is none, or it is of a later version.
    """
    place = storage.locate(place) if isinstance(place, str) else place
    if MANIFEST.fullmatch(place.name):
        files = [place]
    else:
        files = _newest_run([place / name for name in storage.file_names(place) if MANIFEST.fullmatch(name)])
    if not files:
        raise UserError(f"{place}: no manifest.jsonl of cvae relabel in it.")
    runs = []
    for file in files:
        first = next(_records(file), {})
        run = first if first.get("kind") == KIND else {}
        if run.get("format_version", 1) > FORMAT_VERSION:
            raise UserError(f"{file} is of a later version of cvae than this one.")
        runs.append(run)
    return RecordedRun(tuple(files), tuple(runs))


def _newest_run(files: list[Location]) -> list[Location]:
    """Of manifests of whole runs and of shards, those of the run that ended last, in their order."""
    runs: dict[int, list[tuple[int, Location]]] = {}
    for file in files:
        index, count = [*map(int, re.findall(r"\d+", file.name)), 0, 0][:2]
        runs.setdefault(count, []).append((index, file))
    if not runs:
        return []
    newest = max(runs.values(), key=lambda run: max(storage.written(file) or 0.0 for _, file in run))
    return [file for _, file in sorted(newest, key=lambda one: one[0])]


def _records(file: Location) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with storage.open_copy(file) as stream:
            for line in stream:
                number += 1
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError
                yield record
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}.") from error
    except ValueError:
        raise UserError(f"{file}: line {number} is not a line of a manifest.") from None
