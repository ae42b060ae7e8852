"""What was measured of a model: metrics that describe themselves, and the whole evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Unit(Enum):
    """What a value is measured in."""

    SHARE = "share"
    """A fraction of 1, shown as a percentage."""
    GREY_LEVELS = "grey levels"
    """Of 255."""
    NATS = "nats"
    """Per image."""
    PLAIN = ""
    """A correlation, a ratio or a distance without a unit."""


class Better(Enum):
    """Which direction is better."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    UNSPECIFIED = ""


@dataclass(frozen=True)
class Metric:
    """One measured metric of a model.

    Attributes:
        name: how scripts know it.
        value: shares and correlations as fractions of 1, differences between images in grey levels
            (0-255), likelihoods in nats; nan where it cannot be measured.
        title: how people know it.
        unit: of the value.
        better: which direction is better.
        references: what else gives which value of this metric, by name: what good or bad is.
        note: what the value is of, where it is of a part.
        is_key: whether it belongs to the short form of the table.
    """

    name: str
    value: float
    title: str
    unit: Unit = Unit.PLAIN
    better: Better = Better.UNSPECIFIED
    references: dict[str, float] = field(default_factory=dict)
    note: str = ""
    is_key: bool = False

    def format(self, value: float | None = None) -> str:
        """A value of this metric (by default its own) with its unit."""
        value = self.value if value is None else value
        if math.isnan(value):
            return "-"
        if self.unit is Unit.SHARE:
            return f"{100 * value:.2f}%"
        if self.unit is Unit.PLAIN:
            return f"{value:.3f}"
        return f"{value:.2f} {self.unit.value}"


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model.

    Attributes:
        model: its name.
        model_sha256: of its weights.
        data: the data set.
        images: number of test images.
        judge: the judge's name.
        judge_sha256: of its weights.
        classes: the K class names.
        metrics: in the order in which they are shown.
        pairs: K rows of K: share of the tiles of a source class (row) drawn as a target (column) in
            which the judge recognises the target; nan where there is none.
        device: that it ran on.
        precision: of drawing.
        seconds: that it took.
        pictures: the files written.
        ignores_label: whether the label hardly changes what the model draws.
    """

    model: str
    model_sha256: str
    data: str
    images: int
    judge: str
    judge_sha256: str
    classes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    pairs: tuple[tuple[float, ...], ...]
    device: str
    precision: str
    seconds: float
    pictures: tuple[str, ...] = ()
    ignores_label: bool = False

    @property
    def tiles(self) -> int:
        """Number of tiles drawn under wrong labels."""
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
            "metrics": {metric.name: number(metric.value) for metric in self.metrics},
            "beside": {
                metric.name: {name: number(value) for name, value in metric.references.items()}
                for metric in self.metrics
                if metric.references
            },
            "classes": list(self.classes),
            "pairs": [[number(value) for value in row] for row in self.pairs],
            "ignores_label": self.ignores_label,
            "device": self.device,
            "precision": self.precision,
            "seconds": round(self.seconds, 1),
            "pictures": list(self.pictures),
        }
