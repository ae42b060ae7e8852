from __future__ import annotations

import random

import numpy as np
import pytest

from cvae_cli.images.pen import CURVES, Hand, ink


@pytest.mark.parametrize("digit", CURVES)
def test_a_digit_fills_its_box_and_no_more(digit: str) -> None:
    drawn = np.asarray(ink(digit, (60, 60), 40, 4, random.Random(1), Hand(offset=0.0, shake=0.0)))
    rows = (drawn > 30).any(axis=1).nonzero()[0]
    assert 36 <= rows[-1] - rows[0] <= 46
    assert drawn.max() == 255
    assert drawn[0].max() == 0


def test_a_thicker_pen_leaves_more_ink() -> None:
    thin, thick = (np.asarray(ink("3", (28, 28), 20, pen, random.Random(1))).sum() for pen in (1.5, 3.0))
    assert 1.5 < thick / thin < 2.5


def test_the_slant_is_the_hands() -> None:
    upright, slanted = (
        np.asarray(ink("1", (60, 60), 40, 4, random.Random(1), Hand((slant, slant), (1, 1), 0.0, 0.0)))
        for slant in (0.0, 0.5)
    )

    def width(drawn: np.ndarray) -> int:
        columns = (drawn > 30).any(axis=0).nonzero()[0]
        return int(columns[-1] - columns[0])

    assert width(slanted) > width(upright) + 10
