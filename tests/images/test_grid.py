"""Grids as pictures; where one differs, actual and expected are kept to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.images.captions import Mark, mark_strip
from cvae_cli.images.grid import Layout, Original, SheetRow, draw_row, draw_sheet

GOLDEN = Path(__file__).parent / "golden"


def tile(number: int, side: int = 28, channels: int = 1) -> np.ndarray:
    """A disc in a corner that tells the number."""
    y, x = np.mgrid[0:side, 0:side]
    disc = ((x - side * (0.3 + 0.1 * number)) ** 2 + (y - side / 2) ** 2 < (side / 5) ** 2) * 255
    return np.repeat(disc.astype(np.uint8)[None], channels, axis=0)


def check(picture: np.ndarray, name: str, tmp_path: Path) -> None:
    """Compare with the golden picture; one wrong letter in a caption is enough to fail."""
    expected = np.asarray(Image.open(GOLDEN / name))
    same = expected.shape == picture.shape
    if same:
        difference = np.abs(expected.astype(int) - picture.astype(int))
        same = difference.mean() < 0.08
    if not same:
        Image.fromarray(picture).save(tmp_path / f"actual-{name}")
        Image.fromarray(expected).save(tmp_path / f"expected-{name}")
        pytest.fail(f"{name} differs; see actual and expected in {tmp_path}")


def row() -> np.ndarray:
    original = Original(tile(0).transpose(1, 2, 0), "7", "from folder")
    return draw_row(Layout(28, 1), original, [("cat", tile(1)), ("a very long class name", tile(2))])


def colour_row() -> np.ndarray:
    original = Original(tile(0, 90, 3).transpose(1, 2, 0), "ship", "predicted 98%")
    return draw_row(Layout(32, 3), original, [("automobile", tile(1, 32, 3)), ("frog", tile(3, 32, 3))])


def sheet() -> np.ndarray:
    rows = [
        SheetRow([tile(i), tile(i + 1)], Original(tile(0).transpose(1, 2, 0), "0"), own=i % 2)
        for i in range(3)
    ]
    return draw_sheet(Layout(28, 1), ["0", "1"], rows)


def prior_sheet() -> np.ndarray:
    return draw_sheet(Layout(28, 1), ["zero", "one"], [SheetRow([tile(1), tile(2)])])


PICTURES = {"row.png": row, "colour_row.png": colour_row, "sheet.png": sheet, "prior_sheet.png": prior_sheet}


@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, tmp_path: Path) -> None:
    check(PICTURES[name](), name, tmp_path)


def test_a_wrong_caption_is_seen(tmp_path: Path) -> None:
    original = Original(tile(0).transpose(1, 2, 0), "7", "from folder")
    wrong = draw_row(Layout(28, 1), original, [("cot", tile(1)), ("a very long class name", tile(2))])
    with pytest.raises(pytest.fail.Exception, match="differs"):
        check(wrong, "row.png", tmp_path)
    assert (tmp_path / "actual-row.png").exists()


@pytest.mark.parametrize(("native", "side"), [(28, 84), (32, 64), (64, 64), (100, 100), (12, 72)])
def test_tiles_are_whole_multiples_of_at_least_64_pixels(native: int, side: int) -> None:
    assert Layout(native, 1).tile == side


def test_tiles_are_scaled_by_nearest_neighbour() -> None:
    random = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    picture = draw_row(Layout(28, 1), Original(random.transpose(1, 2, 0), "x"), [("y", random)])
    big = random[0].repeat(3, axis=0).repeat(3, axis=1)
    found = [
        x for x in range(picture.shape[1] - 84) if np.array_equal(picture[36 : 36 + 84, x : x + 84], big)
    ]
    assert len(found) == 2


def test_tiles_of_other_sizes_are_scaled_too() -> None:
    random = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    tiles = [("x", random), ("y", random.repeat(3, axis=1).repeat(3, axis=2)), ("z", tile(1, 32, 3))]
    picture = draw_row(Layout(28, 1), Original(tile(0).transpose(1, 2, 0), "x"), tiles)
    side = 14 + 84 + 24
    first, second = (picture[36 : 36 + 84, x : x + 84] for x in (side, side + 92))
    assert np.array_equal(first, random[0].repeat(3, axis=0).repeat(3, axis=1))
    assert np.array_equal(second, first)


@pytest.mark.parametrize("name", ["x" * 500, "  spaced \n name ", "ünïcödé", "", "\u0301"])
def test_any_class_name_fits(name: str) -> None:
    picture = draw_row(Layout(28, 1), Original(tile(0).transpose(1, 2, 0), name, name), [(name, tile(1))])
    plain = draw_row(Layout(28, 1), Original(tile(0).transpose(1, 2, 0), "x"), [("y", tile(1))])
    assert picture.shape == plain.shape
    # Nothing is written outside the strips above and below the tiles.
    assert np.array_equal(picture[:14], plain[:14])
    assert np.array_equal(picture[36 : 36 + 84], plain[36 : 36 + 84])
    assert np.array_equal(picture[-14:], plain[-14:])


def test_a_long_name_is_shortened_visibly() -> None:
    layout, original = Layout(28, 1), Original(tile(0).transpose(1, 2, 0), "x")
    long = draw_row(layout, original, [("automobiles and lorries", tile(1))])
    other = draw_row(layout, original, [("automobiles and buses", tile(1))])
    assert long[:36].max() > 200  # something is written
    assert not np.array_equal(long[:36], draw_row(layout, original, [("", tile(1))])[:36])
    assert not np.array_equal(other[:36], long[:36])


def test_a_doubtful_original_is_marked() -> None:
    layout, pixels = Layout(28, 1), tile(0).transpose(1, 2, 0)
    marked, plain = (
        draw_row(layout, Original(pixels, "7", "from folder", warned=warned), [("cat", tile(1))])
        for warned in (True, False)
    )
    below = (slice(36 + 85, 36 + 85 + 18), slice(14, 14 + 84))
    assert marked[below].mean() > plain[below].mean() + 100  # dark on light instead of light on dark
    marked[below] = plain[below]
    assert np.array_equal(marked, plain)


def test_a_mark_stands_below_its_tile() -> None:
    layout, pixels = Layout(28, 1), tile(0).transpose(1, 2, 0)
    tiles = [("cat", tile(1)), ("dog", tile(2))]
    marks = [Mark("sure", "97%"), Mark("wrong", "reads cat")]
    marked, plain = (draw_row(layout, Original(pixels, "7"), tiles, given) for given in (marks, None))
    for number, mark in enumerate(marks):
        x = 14 + 84 + 24 + number * 92
        assert np.array_equal(marked[36 + 85 : 36 + 85 + 18, x : x + 84], mark_strip(mark, 84)[:, :, 0])
    assert np.array_equal(marked[: 36 + 84], plain[: 36 + 84])


def test_many_tiles_go_on_in_further_lines() -> None:
    layout, original = Layout(28, 1), Original(tile(0).transpose(1, 2, 0), "x")
    twelve = draw_row(layout, original, [(str(number), tile(1)) for number in range(12)])
    many = draw_row(layout, original, [(str(number), tile(number % 5)) for number in range(99)])
    line = 22 + 84 + 18  # caption, tile and note
    assert many.shape[0] == twelve.shape[0] + 8 * line
    assert many.shape[1] < twelve.shape[1]
    # The last of 99 is the last of nine lines of eleven; each tile is in its place.
    for number in (0, 10, 11, 98):
        y, x = 14 + number // 11 * line + 22, 14 + 84 + 24 + number % 11 * 92
        expected = tile(number % 5)[0].repeat(3, axis=0).repeat(3, axis=1)
        assert np.array_equal(many[y : y + 84, x : x + 84], expected)


if __name__ == "__main__":  # writes the golden pictures again, after they were looked at
    GOLDEN.mkdir(exist_ok=True)
    for file, make in PICTURES.items():
        Image.fromarray(make()).save(GOLDEN / file)
