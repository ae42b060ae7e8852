"""What the judge says of an image's tiles, as it is recorded and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli.images.captions import Mark
from cvae_cli.judge.marks import ODD, mark


@dataclass(frozen=True)
class CheckResult:
    """What the judge says of an image's tiles; empty without ``--check``.

    Attributes:
        judged: the judge's probability that a tile shows its target, by target.
        wrong: targets whose tile the judge takes for another class.
        realism: about the share of real images of the target that are at least as unusual as its tile,
            by target; ``None`` of a judge without a bank of real images.
        odd: targets whose tile is beyond the 99th percentile of real images.
        left_out: targets whose tile is not written, being less probable than ``--min-confidence`` or less
            realistic than ``--min-realism``.
        marks: what is shown under each tile; not recorded.
    """

    judged: dict[str, float] | None = None
    wrong: tuple[str, ...] = ()
    realism: dict[str, float] | None = None
    odd: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    marks: tuple[Mark, ...] | None = None

    @classmethod
    def from_predictions(
        cls,
        probabilities: NDArray[np.float32],
        realism: NDArray[np.float32] | None,
        targets: tuple[int, ...],
        classes: tuple[str, ...],
        *,
        min_confidence: float | None = None,
        min_realism: float | None = None,
    ) -> CheckResult:
        """The result of an image.

        Args:
            probabilities: (T, K), the judge's, of each tile.
            realism: (T,), of each tile; ``None`` of a judge without a bank.
            targets: the T classes that the tiles should show.
            classes: the K class names.
            min_confidence: as ``--min-confidence``.
            min_realism: as ``--min-realism``, for which there has to be a bank.
        """
        names = [classes[index] for index in targets]
        known = None if realism is None else [round(float(one), 4) for one in realism]
        unknown: list[float | None] = [None] * len(targets)
        marks = tuple(
            mark(row, index, classes, one)
            for row, index, one in zip(probabilities, targets, known or unknown, strict=True)
        )
        judged = {
            name: round(float(row[index]), 4)
            for name, index, row in zip(names, targets, probabilities, strict=True)
        }
        by_name = None if known is None else dict(zip(names, known, strict=True))
        return cls(
            judged=judged,
            wrong=tuple(name for name, one in zip(names, marks, strict=True) if one.kind == "wrong"),
            realism=by_name,
            odd=tuple(name for name, one in (by_name or {}).items() if one < ODD),
            left_out=tuple(
                name
                for name in names
                if (min_confidence is not None and judged[name] < min_confidence)
                or (min_realism is not None and by_name is not None and by_name[name] < min_realism)
            ),
            marks=marks,
        )

    @classmethod
    def from_provenance(cls, provenance: dict[str, Any]) -> CheckResult:
        """As it was recorded in a picture."""
        return cls(
            judged=provenance.get("judged"),
            wrong=tuple(provenance.get("judged_wrong") or ()),
            realism=provenance.get("judged_realism"),
            odd=tuple(provenance.get("judged_odd") or ()),
            left_out=tuple(provenance.get("left_out") or ()),
        )

    def to_provenance(self) -> dict[str, Any]:
        """As a picture records it."""
        if self.judged is None:
            return {}
        of_bank = (
            {} if self.realism is None else {"judged_realism": self.realism, "judged_odd": list(self.odd)}
        )
        return {
            "judged": self.judged,
            "judged_wrong": list(self.wrong),
            **of_bank,
            "left_out": list(self.left_out),
        }
