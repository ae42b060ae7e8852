"""What became of each image: the plain records that the jobs yield and the command line shows."""

from __future__ import annotations

import math
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
        judged: with ``--check``, the judge's probability that a tile shows its target, by target.
        judged_wrong: targets whose tile the judge reads as another class.
        left_out: targets whose tile was not written, being below ``--min-confidence``.
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
    judged: dict[str, float] | None = None
    judged_wrong: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

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
            "judged": self.judged,
            "judged_wrong": None if self.judged is None else list(self.judged_wrong),
            "left_out": None if self.judged is None else list(self.left_out),
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
    judged: int = 0
    """How many tiles the judge read."""
    judged_wrong: int = 0
    left_out: int = 0

    def add(self, outcome: ImageOutcome) -> None:
        """Count one outcome."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if outcome.status == "skipped":
            self.skips[outcome.reason] += 1
        if outcome.label_source:
            self.labels[outcome.label_source] += 1
        self.judged += len(outcome.judged or ())
        self.judged_wrong += len(outcome.judged_wrong)
        self.left_out += len(outcome.left_out)

    @property
    def total(self) -> int:
        """How many images there were."""
        return self.done + self.skipped + self.failed + self.planned

    @property
    def exit_code(self) -> Exit:
        """0 when nothing failed, 3 when some image did."""
        return Exit.SOME_FAILED if self.failed else Exit.OK


@dataclass(frozen=True)
class FolderFound:
    """What a folder of classes holds, before a model is trained on it.

    Attributes:
        folder: the data set.
        counts: by class, how many images there are to train on.
        validation: how many of the training images are held out to choose the best weights.
        test: how many images there are to measure on.
        image_size: native height and width in pixels of the model.
        channels: 1 (grey) or 3 (RGB).
        kind: ``strokes``, ``silhouettes`` or ``photographs``.
        resized: whether the images have another size.
        left_out: files that cannot be used, with the reason.
        warnings: what is likely to go wrong, for the user to read.
    """

    folder: Path
    counts: dict[str, int]
    validation: int
    test: int
    image_size: int
    channels: int
    kind: str
    resized: bool
    left_out: tuple[tuple[Path, str], ...] = ()
    warnings: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Figure:
    """One measured figure of a model.

    Attributes:
        name: of the metric.
        value: shares and correlations as fractions of 1, distances between images in grey
            levels (0-255), likelihoods in nats.
        beside: what else gives this metric which value, by name: what good or bad is.
        note: what the figure is of, where it is of a part.
    """

    name: str
    value: float
    beside: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model.

    Attributes:
        model: its name.
        model_sha256: of its weights.
        data: the data set.
        images: how many test images.
        judge: the judge's name.
        judge_sha256: of its weights.
        classes: the K class names.
        figures: in the order in which they are shown.
        pairs: K rows of K: share of the tiles of a source class (row) drawn as a target
            (column) that the judge reads as the target; nan where there is none.
        device: that it ran on.
        precision: of drawing.
        seconds: that it took.
        pictures: the files written.
        ignores_label: whether training found that the label changes nothing.
    """

    model: str
    model_sha256: str
    data: str
    images: int
    judge: str
    judge_sha256: str
    classes: tuple[str, ...]
    figures: tuple[Figure, ...]
    pairs: tuple[tuple[float, ...], ...]
    device: str
    precision: str
    seconds: float
    pictures: tuple[str, ...] = ()
    ignores_label: bool = False

    @property
    def tiles(self) -> int:
        """How many wrong labels were drawn."""
        return self.images * (len(self.classes) - 1)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as ``--json`` prints it; ``null`` for what could not be measured."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else round(value, 6)

        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "data": self.data,
            "images": self.images,
            "tiles": self.tiles,
            "judge": self.judge,
            "judge_sha256": self.judge_sha256,
            "metrics": {figure.name: number(figure.value) for figure in self.figures},
            "beside": {
                figure.name: {name: number(value) for name, value in figure.beside.items()}
                for figure in self.figures
                if figure.beside
            },
            "classes": list(self.classes),
            "pairs": [[number(value) for value in row] for row in self.pairs],
            "ignores_label": self.ignores_label,
            "device": self.device,
            "precision": self.precision,
            "seconds": round(self.seconds, 1),
            "pictures": list(self.pictures),
        }
