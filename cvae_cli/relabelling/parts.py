"""Tiles in Parquet files of about 200 MB, for data sets in which one file per tile helps nobody.

The files themselves say what is finished: on the first row of each source they hold its line of the manifest.
So a run that was killed loses no more than the part that it was at, and whatever is in a part is not drawn
again. Sources that are drawn anew get rows in a new part; their old rows are removed when the run ends, or,
if it is killed before, when the next one does.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cvae_cli import storage
from cvae_cli.data import tables
from cvae_cli.errors import ImageError, OutputError, UserError
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.manifest import from_record, to_record
from cvae_cli.images.naming import printable
from cvae_cli.images.output import OutputFolder
from cvae_cli.outcomes import ImageOutcome, Output
from cvae_cli.relabelling.earlier import FINISHED
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.plan import TILES, RelabelPlan
from cvae_cli.relabelling.render import Rendered, name_of
from cvae_cli.storage import Location

PART_BYTES = 200_000_000
"""Size of the tiles in a part."""
_MOST_WAITING = 50_000
"""Images after which a part is written, however few of them were drawn."""
_GENERATION = re.compile(r"(\d{4,})-[0-9a-f]{8}-\d+\.parquet")
"""Parts of a later run have a higher number in front: times of files change when they are copied."""


class EarlierParts:
    """The parts that are there before a run: which source each holds, and which rows have become stale."""

    def __init__(self, out: Location, classes: tuple[str, ...]) -> None:
        """Read what the parts in an output folder say of their sources.

        Args:
            out: the output folder.
            classes: of the model, which have to be those of the parts.

        Raises:
            UserError: the extra is not installed, or there are parts of other classes, or one that cannot be
                read.
        """
        tables.require_arrow("--write parquet")
        self.out = out
        self.names: list[str] = []
        self._lock = threading.Lock()
        # An empty name is a temporary file that SQLite deletes.
        self._sources = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._sources.execute("CREATE TABLE sources (name TEXT PRIMARY KEY, part INTEGER, outcome TEXT)")
        self._sources.execute("CREATE TABLE stale (part INTEGER, name TEXT)")
        self._sources.execute("BEGIN")
        folder = out / TILES
        try:
            listed = storage.file_names(folder, strict=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed: {error.strerror or error}.") from error
        self.found = [name for name in listed if name.endswith(tables.SUFFIX)]
        # In the order of their generations, of which the later ones count.
        for name in self.found:
            self._read(folder / name, name, classes)

    def _read(self, file: Location, name: str, classes: tuple[str, ...]) -> None:
        try:
            table = tables.open_table(file)
            if not tables.is_ours(table) or not {"name", "outcome"} <= set(table.schema_arrow.names):
                return
            if tables.class_names(table) != classes:
                raise UserError(f"{file} holds tiles of other classes; choose another --out.")
            self.names.append(name)
            for batch in table.iter_batches(columns=["name", "outcome"]):
                sources, outcomes = (batch.column(key).to_pylist() for key in ("name", "outcome"))
                for source, outcome in zip(sources, outcomes, strict=True):
                    if outcome:
                        self._add(source, len(self.names) - 1, outcome)
        except FileNotFoundError:
            return  # another run has removed the last of its rows
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error}; move it, or choose another --out.") from error

    def _add(self, source: str, part: int, outcome: str) -> None:
        older = self._part_of(source)
        if older is not None and older != part:
            self._mark(older, source)  # of a run that was killed while it ended
        self._sources.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (source, part, outcome))

    def outcome_of(self, name: str) -> ImageOutcome | None:
        """What a part says of a source, with that part as its output; ``None`` if it is in none."""
        with self._lock:
            query = "SELECT part, outcome FROM sources WHERE name = ?"
            row = self._sources.execute(query, (name,)).fetchone()
        if row is None:
            return None
        outcome = from_record(json.loads(row[1]))
        return outcome.updated(outputs=(Output("tiles", f"{TILES}/{self.names[row[0]]}"),))

    def replaced(self, name: str) -> None:
        """Take note that a source has been drawn anew."""
        with self._lock:
            if (part := self._part_of(name)) is not None:
                self._mark(part, name)

    def _part_of(self, name: str) -> int | None:
        row = self._sources.execute("SELECT part FROM sources WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _mark(self, part: int, name: str) -> None:
        self._sources.execute("INSERT INTO stale VALUES (?, ?)", (part, name))

    def remove_stale(self) -> None:
        """Remove the rows of sources that have been drawn anew.

        Raises:
            OutputError: a part cannot be written.
        """
        import pyarrow as pa
        from pyarrow import compute

        parts = self._sources.execute("SELECT DISTINCT part FROM stale ORDER BY part").fetchall()
        for (part,) in parts:
            marked = self._sources.execute("SELECT DISTINCT name FROM stale WHERE part = ?", (part,))
            sources = pa.array([name for (name,) in marked], pa.string())
            file = self.out / TILES / self.names[part]
            try:
                table = tables.open_table(file).read()
                kept = table.filter(compute.invert(compute.is_in(table["name"], sources)))
                if len(kept):
                    storage.replace_file(file, tables.encode_table(kept))
                else:
                    storage.remove(file)
            except FileNotFoundError:
                pass  # another shard was there first
            except OSError as error:
                raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error
        self._sources.execute("DELETE FROM stale")

    def close(self) -> None:
        """Let go of what was read."""
        self._sources.close()


def recorded_in_part(
    plan: RelabelPlan, ref: ImageRef, parts: EarlierParts, *, version: str = "", fingerprint: str = ""
) -> ImageOutcome | None:
    """The outcome of an image that is finished in a part, by version or fingerprint; else ``None``."""
    outcome = parts.outcome_of(name_of(ref))
    if outcome is None:
        return None
    if not fingerprint:
        if not version or outcome.version != version or not outcome.sha256:
            return None
        try:
            label = plan.rule.label_of(ref)
        except ImageError:
            return None
        if (label is None) != (outcome.label_source == "predict"):
            return None
        fingerprint = plan.fingerprint(ref, outcome.sha256, label)
    if outcome.fingerprint != fingerprint:
        return None
    # As it is called in this run, which may have been given the source by another name.
    return outcome.updated(path=ref.relative, source=ref.source).skipped(FINISHED)


def run_name(plan: RelabelPlan, parts: EarlierParts, options: RelabelOptions) -> str:
    """What the parts of a run are called: the same for the same run, another beside earlier parts."""
    # Two lists on stdin are not the same run.
    sources = [storage.temporary_name()] if options.listing is not None else sorted(map(str, plan.sources))
    known = [
        *([printable(source) for source in sources], printable(options.labels), options.shard),
        *(plan.model_sha256, plan.targets, plan.invert, plan.fit, plan.precision),
        *(plan.judge_sha256, plan.min_confidence, plan.min_realism, parts.found),
    ]
    generations = [int(found[1]) for name in parts.found if (found := _GENERATION.match(name))]
    generation = max(generations, default=0) + 1
    return f"{generation:04d}-{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:8]}"


class PartWriter:
    """Collects the tiles of images, in order, and writes a part whenever there are enough."""

    def __init__(
        self,
        plan: RelabelPlan,
        folder: OutputFolder,
        run: str,
        first: int | None = None,
        *,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """Of a run, by its name.

        Args:
            plan: of the run.
            folder: where it writes.
            run: its name.
            first: the number of its first part, which is replaced if it is there already, by an actor that
                died; ``None`` counts from 0 and replaces nothing.
            part_bytes: size from which a part is written.
        """
        self.plan, self.folder, self.run, self.part_bytes = plan, folder, run, part_bytes
        self.number, self.may_replace = first or 0, first is not None
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    @property
    def name(self) -> str:
        """Of the part that is being collected, relative to the output folder."""
        return f"{TILES}/{self.run}-{self.number:05d}{tables.SUFFIX}"

    def collect(
        self, drawn: Iterable[ImageOutcome | Rendered], written: Callable[[ImageOutcome, str], None]
    ) -> Iterator[ImageOutcome]:
        """Outcomes as they come.

        Args:
            drawn: what became of each image.
            written: called with an outcome, and with the name of the source if it was drawn, once all that
                there is of it is in a file.

        Raises:
            OutputError: a part cannot be written.
        """
        waiting: list[tuple[ImageOutcome, str]] = []

        def flush() -> None:
            name = self.name
            actual = self._flush()
            for outcome, source in waiting:
                moved = actual != name and bool(outcome.outputs) and bool(source)
                written(outcome.updated(outputs=(Output("tiles", actual),)) if moved else outcome, source)
            waiting.clear()

        failed = False
        try:
            for one in drawn:
                outcome, name = (one, "") if isinstance(one, ImageOutcome) else (self._add(one), one.name)
                waiting.append((outcome, name))
                yield outcome
                if not self._rows or self._bytes >= self.part_bytes or len(waiting) >= _MOST_WAITING:
                    failed = True  # unless it succeeds
                    flush()
                    failed = False
        finally:
            if not failed:  # a run that is interrupted keeps what it has drawn
                flush()

    def _add(self, rendered: Rendered) -> ImageOutcome:
        outcome = rendered.outcome.updated(outputs=(Output("tiles", self.name),) if rendered.rows else ())
        for number, row in enumerate(rendered.rows):
            self._rows.append({**row, "outcome": json.dumps(to_record(outcome)) if number == 0 else None})
            self._bytes += len(row["image"]["bytes"])
        return outcome

    def _flush(self) -> str:
        """Write a part, if there are rows; its name relative to the output folder."""
        if not self._rows:
            return self.name
        # Another run of the same command may have written one meanwhile.
        while not self.may_replace and storage.exists(self.plan.out / self.name):
            self.number += 1
        name = self.name
        try:
            self.folder.write(name, tables.encode(self._rows, self.plan.spec.classes))
        except ImageError as error:
            raise OutputError(str(error)) from error
        self._rows, self._bytes, self.number = [], 0, self.number + 1
        return name
