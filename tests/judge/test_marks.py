from __future__ import annotations

import numpy as np
import pytest

from cvae_cli.images.captions import Mark
from cvae_cli.judge.marks import ODD, mark


@pytest.mark.parametrize(
    ("probabilities", "kind", "text"),
    [
        ((0.955, 0.025, 0.02), "sure", "95%"),
        ((0.9999, 0.0, 0.0001), "sure", "99%"),
        ((0.6, 0.3, 0.1), "unsure", "60%"),
        ((0.3, 0.5, 0.2), "wrong", "reads b"),
    ],
)
def test_marks(probabilities: tuple[float, ...], kind: str, text: str) -> None:
    found = mark(np.array(probabilities, np.float32), 0, ("a", "b", "c"))
    assert (found.kind, found.text) == (kind, text)


def test_an_odd_tile_has_a_mark_of_its_own_unless_it_shows_another_class() -> None:
    right, wrong = np.array((0.97, 0.02, 0.01), np.float32), np.array((0.1, 0.8, 0.1), np.float32)
    classes = ("a", "b", "c")
    assert mark(right, 0, classes, ODD - 1e-4) == Mark("odd", "odd 97%")
    assert mark(right, 0, classes, ODD) == mark(right, 0, classes, None) == Mark("sure", "97%")
    assert mark(wrong, 0, classes, 0.0) == Mark("wrong", "reads b")
