"""What became of each image: the plain records that the jobs yield and the command line shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

Status = Literal["done", "skipped", "failed", "planned"]


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

    Attributes:
        path: the image as it was given or found, relative to the source it was found under
            when that is a folder.
        source: the argument it came from: a folder, a file, or ``-``.
        status: ``done``, ``skipped`` (finished before), ``failed``, or ``planned`` in a dry run.
        reason: why it failed or was skipped; empty when done.
        label: the image's own class, if it is known.
        label_source: ``folder``, ``predict``, ``class`` or ``csv``.
        confidence: the classifier's probability of the label, only where it was predicted.
        targets: the classes that were drawn.
        outputs: the files written, relative to the output folder, with ``/``.
        prepared: what preparing did to the image.
    """

    path: str
    source: str
    status: Status
    reason: str = ""
    label: str | None = None
    label_source: str | None = None
    confidence: float | None = None
    targets: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    prepared: dict[str, Any] = field(default_factory=dict)

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
            "outputs": list(self.outputs),
            "prepared": self.prepared or None,
        }


@dataclass
class Report:
    """Counts the outcomes of a run and owns its exit code."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    planned: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """How many images were labelled in which way."""
    skips: Counter[str] = field(default_factory=Counter)
    """How many images were skipped for which reason."""

    def add(self, outcome: ImageOutcome) -> None:
        """Count one outcome."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if outcome.status == "skipped":
            self.skips[outcome.reason] += 1
        if outcome.label_source:
            self.labels[outcome.label_source] += 1

    @property
    def total(self) -> int:
        """How many images there were."""
        return self.done + self.skipped + self.failed + self.planned

    @property
    def exit_code(self) -> Exit:
        """0 when nothing failed, 3 when some image did."""
        return Exit.SOME_FAILED if self.failed else Exit.OK


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        folder: the run folder.
        weights: the exported ``model.safetensors``, or ``None`` when there was nothing to export.
        epochs: whole epochs trained, over all sessions of the run.
        metrics: of the exported weights, on validation images.
        interrupted: the signal that ended the run early, or ``None``.
        warning: what is wrong with the model, for the user to read; empty if nothing is.
        main_process: whether this process speaks for the run, where several train together.
    """

    folder: Path
    weights: Path | None
    epochs: int
    metrics: dict[str, float]
    interrupted: int | None = None
    warning: str = ""
    main_process: bool = True
