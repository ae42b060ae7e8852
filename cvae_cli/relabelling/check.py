"""What the judge says of an image's tiles, as it is recorded and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli.images.captions import Mark
from cvae_cli.judge.predict import mark


@dataclass(frozen=True)
class CheckResult:
    """What the judge says of an image's tiles; empty without ``--check``.

    Attributes:
        judged: the judge's probability that a tile shows its target, by target.
        wrong: targets whose tile the judge takes for another class.
        left_out: targets whose tile is not written, being less probable than ``--min-confidence``.
        marks: what is shown under each tile; not recorded.
    """

    judged: dict[str, float] | None = None
    wrong: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    marks: tuple[Mark, ...] | None = None

    @classmethod
    def from_probabilities(
        cls,
        probabilities: NDArray[np.float32],
        targets: tuple[int, ...],
        classes: tuple[str, ...],
        min_confidence: float | None,
    ) -> CheckResult:
        """The result of an image.

        Args:
            probabilities: (T, K), the judge's, of each tile.
            targets: the T classes that the tiles should show.
            classes: the K class names.
            min_confidence: as ``--min-confidence``.
        """
        names = [classes[index] for index in targets]
        marks = tuple(mark(row, index, classes) for row, index in zip(probabilities, targets, strict=True))
        judged = {
            name: round(float(row[index]), 4)
            for name, index, row in zip(names, targets, probabilities, strict=True)
        }
        return cls(
            judged=judged,
            wrong=tuple(name for name, one in zip(names, marks, strict=True) if one.kind == "wrong"),
            left_out=tuple(
                name for name in names if min_confidence is not None and judged[name] < min_confidence
            ),
            marks=marks,
        )

    @classmethod
    def from_provenance(cls, provenance: dict[str, Any]) -> CheckResult:
        """As it was recorded in a picture."""
        return cls(
            provenance.get("judged"),
            tuple(provenance.get("judged_wrong") or ()),
            tuple(provenance.get("left_out") or ()),
        )

    def to_provenance(self) -> dict[str, Any]:
        """As a picture records it."""
        if self.judged is None:
            return {}
        return {"judged": self.judged, "judged_wrong": list(self.wrong), "left_out": list(self.left_out)}
