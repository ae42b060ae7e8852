"""What became of each image: the plain records that the jobs yield and the command line shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Literal, NamedTuple

Status = Literal["done", "skipped", "failed", "planned"]
Role = Literal["grid", "tile", "tiles", "sheet"]


class Output(NamedTuple):
    """A file that was written for an image.

    Attributes:
        role: ``grid``; ``tile``, a single one; ``tiles``, a Parquet file that holds all of the image's
            tiles and those of other images; or ``sheet``, of ``cvae grid``, which shows other images too.
        path: relative to the output folder, with ``/``.
        target: the class that a single tile shows; else ``None``.
    """

    role: Role
    path: str
    target: str | None = None


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    BUG = 1
    USER_ERROR = 2
    SOME_FAILED = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image; a line of the manifest.

    It is created when the image is found and replaced, step by step, as more is known.

    Attributes:
        path: the image as it was given or found, relative to the source it was found under when
            that is a folder.
        source: the argument it came from: a folder, a file, or ``-``.
        status: ``done``, ``skipped`` (finished before), ``failed``, or ``planned``: not done yet, or
            only a dry run.
        reason: why it failed or was skipped; empty when done.
        label: the image's own class, if it is known.
        label_source: ``folder``, ``predict``, ``class`` or ``csv``.
        confidence: the classifier's probability of the label; only where the label was predicted.
        targets: the classes that were drawn.
        outputs: the files written.
        prepared: what preprocessing did to the image.
        judged: with ``--check``, the judge's probability that a tile shows its target, by target.
        judged_wrong: targets whose tile the judge takes for another class.
        judged_realism: with ``--check``, about the share of real images of the target that are at least as
            unusual as its tile, by target; ``None`` where the judge has no bank of real images.
        judged_odd: targets whose tile is beyond the 99th percentile of real images.
        left_out: targets whose tile was not written because of ``--min-confidence`` or ``--min-realism``.
        warnings: what makes it doubtful that the image is what it was taken for.
        version: of the image's file: its size and time, or what an object store says of it.
        sha256: of the file, in hexadecimal.
        fingerprint: of everything that decides the image's pictures.
    """

    path: str
    source: str
    status: Status = "planned"
    reason: str = ""
    label: str | None = None
    label_source: str | None = None
    confidence: float | None = None
    targets: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    prepared: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, float] | None = None
    judged_wrong: tuple[str, ...] = ()
    judged_realism: dict[str, float] | None = None
    judged_odd: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    version: str | None = None
    sha256: str | None = None
    fingerprint: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files written."""
        return tuple(output.path for output in self.outputs)

    def updated(self, **changes: Any) -> ImageOutcome:
        """As :func:`dataclasses.replace`, in a tenth of the time, which counts several times for each image.

        Raises:
            TypeError: there is no such field.
        """
        known = vars(self)
        if not changes.keys() <= known.keys():
            raise TypeError(f"no fields of an outcome: {sorted(changes.keys() - known.keys())}")
        other = object.__new__(type(self))
        vars(other).update(known, **changes)
        return other

    def failed(self, reason: str) -> ImageOutcome:
        """The same image, of which nothing was written."""
        return self.updated(status="failed", reason=reason)

    def unjudged(self) -> ImageOutcome:
        """The same image without what was drawn of it and what a judge said of that."""
        return self.updated(
            targets=(),
            outputs=(),
            judged=None,
            judged_wrong=(),
            judged_realism=None,
            judged_odd=(),
            left_out=(),
        )

    def skipped(self, reason: str) -> ImageOutcome:
        """The same image, for which there was nothing to do."""
        return self.updated(status="skipped", reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """The outcome as the manifest and ``--json`` print it."""
        return {
            "path": self.path,
            "source": self.source,
            "status": self.status,
            "reason": self.reason or None,
            "label": self.label,
            "label_source": self.label_source,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "targets": list(self.targets),
            "outputs": [one._asdict() for one in self.outputs],
            "prepared": self.prepared or None,
            "judged": self.judged,
            "judged_wrong": None if self.judged is None else list(self.judged_wrong),
            "judged_realism": self.judged_realism,
            "judged_odd": None if self.judged_realism is None else list(self.judged_odd),
            "left_out": None if self.judged is None else list(self.left_out),
            "warnings": list(self.warnings),
            "version": self.version,
            "sha256": self.sha256,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ImageOutcome:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError on anything else."""
        values = {part.name: record[part.name] for part in fields(cls)}
        for name in ("targets", "warnings", "judged_wrong", "judged_odd", "left_out"):
            values[name] = tuple(values[name] or ())
        values["outputs"] = tuple(Output(**one) for one in record["outputs"])
        return cls(**{**values, "reason": record["reason"] or "", "prepared": record["prepared"] or {}})


@dataclass
class Report:
    """Counts the outcomes of a run and owns its exit code.

    Attributes:
        done, skipped, failed, planned: number of images by status.
        labels: number of images by the source of their label.
        skips: number of skipped images by reason.
        judged: number of tiles that the judge has seen.
        judged_wrong: number of those that it took for another class.
        compared: number of tiles that the judge has compared with its bank of real images.
        judged_odd: number of those that are beyond the 99th percentile of real images.
        left_out: number of tiles that were not written because of ``--min-confidence`` or
            ``--min-realism``.
        warned: number of images with a warning.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    planned: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    judged_wrong: int = 0
    compared: int = 0
    judged_odd: int = 0
    left_out: int = 0
    warned: int = 0

    def add(self, outcome: ImageOutcome) -> None:
        """Count one outcome."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if outcome.status == "skipped":
            self.skips[outcome.reason] += 1
        if outcome.label_source:
            self.labels[outcome.label_source] += 1
        self.judged += len(outcome.judged or ())
        self.judged_wrong += len(outcome.judged_wrong)
        self.compared += len(outcome.judged_realism or ())
        self.judged_odd += len(outcome.judged_odd)
        self.left_out += len(outcome.left_out)
        self.warned += bool(outcome.warnings)

    @property
    def total(self) -> int:
        """Number of images so far."""
        return self.done + self.skipped + self.failed + self.planned

    @property
    def exit_code(self) -> Exit:
        """0 if nothing failed, 3 if some image did."""
        return Exit.SOME_FAILED if self.failed else Exit.OK
