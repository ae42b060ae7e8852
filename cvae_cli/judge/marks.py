"""What the judge makes of a tile, in the few words that are shown below it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cvae_cli.images.captions import Mark

ODD = 0.01
"""Realism below which a tile is marked as odd: it lies beyond the 99th percentile of real images."""
SURE = 0.9
"""Probability of the target from which a tile is marked as sure."""


def mark(
    probabilities: NDArray[np.float32], target: int, classes: tuple[str, ...], realism: float | None = None
) -> Mark:
    """What the judge predicts for one tile, as it is shown below it.

    Args:
        probabilities: (K,).
        target: index of the class that the tile should show.
        classes: the K names.
        realism: of the tile; ``None`` where the judge has no bank.
    """
    predicted, share = int(probabilities.argmax()), float(probabilities[target])
    if predicted != target:
        return Mark("wrong", f"reads {classes[predicted]}")
    if realism is not None and realism < ODD:
        return Mark("odd", f"odd {percent(share)}")
    return Mark("sure" if share >= SURE else "unsure", percent(share))


def percent(share: float) -> str:
    """A share as a whole percentage, never rounded up to 100."""
    return f"{min(99, math.floor(100 * share))}%" if share >= 0.01 else "<1%"
