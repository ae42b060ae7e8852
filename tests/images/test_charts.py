"""Charts: what is written where, read off the pixels."""

from __future__ import annotations

import numpy as np

from cvae_cli.images.charts import Cloud, Pair, heat_map, pair_sheet, scatter
from cvae_cli.images.grid import Layout


def cell(chart: np.ndarray, row: int, column: int) -> np.ndarray:
    """The corner of a cell of a heat map of digits, where nothing is written."""
    left, top, side = 24 + 44, 24 + 54, 62
    return chart[top + row * side + 4, left + column * side + 4]


def test_a_cell_is_the_warmer_the_more_tiles_are_misread() -> None:
    shares = np.array([[1.0, 0.96, 0.2], [np.nan, 1.0, 0.99], [0.9, 1.0, 1.0]])
    chart = heat_map(("0", "1", "2"), shares, title="x")
    warmth = np.array(
        [[int(cell(chart, r, c)[0]) - int(cell(chart, r, c)[2]) for c in range(3)] for r in range(3)]
    )
    assert warmth[0, 2] == warmth[2, 0] > warmth[0, 1] > warmth[1, 2] > warmth[0, 0] == warmth[2, 1]
    assert tuple(cell(chart, 1, 0)) == (30, 30, 30)  # nothing to count
    assert not np.array_equal(chart, heat_map(("0", "1", "3"), shares, title="x"))


def test_pairs_are_shown_beside_each_other() -> None:
    random = np.random.default_rng(0)
    original, tile = random.integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    sheet = pair_sheet(Layout(28, 1), [Pair(original, tile, "3 to 5", "4%")] * 3, title="worst", columns=2)

    def is_at(pixels: np.ndarray, y: int, x: int) -> bool:
        big = pixels[0].repeat(3, axis=0).repeat(3, axis=1)
        return bool((sheet[y : y + 84, x : x + 84] == big[:, :, None]).all())

    down, across = 24 + 84 + 18 + 6, 2 * 84 + 4 + 20
    for row, column in ((0, 0), (0, 1), (1, 0)):
        y, x = 24 + 26 + row * down + 24, 24 + column * across
        assert is_at(original, y, x)
        assert is_at(tile, y, x + 84 + 4)
    assert sheet.shape[0] > 2 * down


def test_points_lie_where_they_belong() -> None:
    low, high = np.zeros(50, np.float32), np.ones(50, np.float32)
    values = np.concatenate([low, high])
    agree = scatter([Cloud("r 1.00", values, values)], across="originals", up="tiles")
    differ = scatter([Cloud("r 1.00", values, values[::-1])], across="originals", up="tiles")
    panel = (slice(50, 50 + 320), slice(24 + 36, 24 + 36 + 320))
    blue = [(chart[panel][:, :, 2] > 200) & (chart[panel][:, :, 0] < 160) for chart in (agree, differ)]
    quarters = [(mask[:160, 160:].sum(), mask[:160, :160].sum(), mask[160:, :160].sum()) for mask in blue]
    assert quarters[0][0] > 0
    assert quarters[0][2] > 0
    assert quarters[0][1] == 0
    assert quarters[1][1] > 0
    assert quarters[1][0] == quarters[1][2] == 0


def test_nothing_to_show_is_shown_as_such() -> None:
    nothing = np.full(3, np.nan, np.float32)
    assert scatter([Cloud("x", nothing, nothing)], across="a", up="b").shape[2] == 3
