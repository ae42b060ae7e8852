"""Contact sheets as pictures: which tile stands where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.errors import OutputError, UserError
from cvae_cli.images.captions import mark_strip
from cvae_cli.images.grid import Layout
from cvae_cli.images.png import encode_png, read_provenance
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.marks import ODD, mark
from cvae_cli.judge.predict import Judge
from cvae_cli.model import registry
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.sheet import SheetOptions, sheet
from cvae_cli.relabelling.worker import OWN_PICTURE

SIDE = Layout(28, 1).tile
TOP, LEFT, GROUP_GAP = 14 + 22, 14, 24


@pytest.fixture(scope="module")
def relabeller() -> Relabeller:
    return Relabeller(registry.shipped()["mnist"], device="cpu", batch_size=1)


@pytest.fixture
def options(folder_of_digits: Path, tmp_path: Path) -> SheetOptions:
    return SheetOptions(
        out=tmp_path / "sheet.png", sources=(folder_of_digits,), rows=2, labels="7", device="cpu"
    )


def make(options: SheetOptions) -> tuple[np.ndarray, list[ImageOutcome]]:
    outcomes = list(sheet(options))
    return np.asarray(Image.open(options.out)), outcomes


def enlarged(tile: np.ndarray) -> np.ndarray:
    return tile[0].repeat(3, axis=0).repeat(3, axis=1)


def at(
    picture: np.ndarray, row: int, column: int, *, original: bool = True, step: int = SIDE + 8
) -> np.ndarray:
    """The tile of a row and column; column -1 is the original."""
    y = TOP + row * step
    x = LEFT + (0 if column < 0 else (SIDE + GROUP_GAP if original else 0) + column * (SIDE + 8))
    return picture[y : y + SIDE, x : x + SIDE]


def test_a_row_for_each_image_a_column_for_each_class(options: SheetOptions, relabeller: Relabeller) -> None:
    picture, outcomes = make(options)
    assert [(outcome.path, outcome.status) for outcome in outcomes] == [
        ("d0.png", "done"),
        ("d1.png", "done"),
    ]
    assert outcomes[0].targets == tuple("0123456789")
    for row, name in enumerate(("d0.png", "d1.png")):
        image = np.asarray(Image.open(options.sources[0] / name))[None]
        assert np.array_equal(at(picture, row, -1), enlarged(image))
        tiles = relabeller.draw(image[None], np.array([7]), np.arange(10)[None])[0]
        for column, tile in enumerate(tiles):
            assert np.array_equal(at(picture, row, column), enlarged(tile))
        # The tile of its own class, the reconstruction, has a bright frame.
        y, x = TOP + row * (SIDE + 8) - 1, LEFT + SIDE + GROUP_GAP + 5
        frames = [int(picture[y, x + column * (SIDE + 8)]) for column in range(10)]
        assert [column for column, frame in enumerate(frames) if frame > 200] == [7]
    provenance = read_provenance(options.out) or {}
    assert (provenance["model"], provenance["sheet"]) == ("mnist", 2)


def test_without_a_source_it_shows_samples(options: SheetOptions, relabeller: Relabeller) -> None:
    picture, outcomes = make(replace(options, sources=(), seed=5))
    assert outcomes == []
    for row, tiles in enumerate(relabeller.sample(2, seed=5)):
        for column, tile in enumerate(tiles):
            assert np.array_equal(at(picture, row, column, original=False), enlarged(tile))


def test_a_check_adds_a_strip_below_each_row(options: SheetOptions) -> None:
    plain, _ = make(options)
    marked, _ = make(replace(options, check=True))
    judge = Judge(registry.shipped("judge")["mnist-judge"], device="cpu", batch_size=10)
    step, odd = SIDE + 8 + 18, 0
    for row in range(2):
        tiles = [at(marked, row, column, step=step) for column in range(10)]
        assert all(np.array_equal(tile, at(plain, row, column)) for column, tile in enumerate(tiles))
        predictions = judge.predict(np.stack([tile[None, ::3, ::3] for tile in tiles]))
        realism = judge.realism(predictions, np.arange(10))
        odd += int((realism < ODD).sum())
        for column, share in enumerate(predictions.probabilities):
            y, x = TOP + row * step + SIDE + 1, LEFT + SIDE + GROUP_GAP + column * (SIDE + 8)
            expected = mark_strip(mark(share, column, judge.spec.classes, realism[column]), SIDE)[:, :, 0]
            assert np.array_equal(marked[y : y + 18, x : x + SIDE], expected)
    assert odd  # scribbles make odd digits


def test_images_that_cannot_be_used_take_no_row(options: SheetOptions) -> None:
    source = options.sources[0]
    (source / "a-bad.png").touch()
    (source / "a-grid.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8), {"targets": []}))
    (source / "a-photo.heic").touch()
    picture, outcomes = make(options)
    assert [(outcome.path, outcome.status, outcome.reason) for outcome in outcomes] == [
        ("a-bad.png", "failed", "empty file"),
        ("a-grid.png", "skipped", OWN_PICTURE),
        ("d0.png", "done", ""),
        ("d1.png", "done", ""),
    ]
    assert np.array_equal(at(picture, 0, -1), enlarged(np.asarray(Image.open(source / "d0.png"))[None]))


def test_labels_are_predicted_where_no_folder_names_a_class(options: SheetOptions) -> None:
    _, (outcome, _) = make(replace(options, labels="auto"))
    assert outcome.label_source == "predict"
    assert 0 < (outcome.confidence or 0) <= 1


def test_mistakes_are_found_when_it_is_called(options: SheetOptions, tmp_path: Path) -> None:
    (tmp_path / "theirs.png").write_bytes(b"their picture")
    image = options.sources[0] / "d0.png"
    for changes, error, says in (
        ({"out": tmp_path}, OutputError, "is a folder"),
        ({"out": tmp_path / "sheet.jpg"}, OutputError, "ends in .png"),
        ({"out": tmp_path / "theirs.png"}, OutputError, "add --overwrite"),
        ({"out": image, "overwrite": True}, OutputError, "is one of the images"),
        ({"sources": (tmp_path / "gone",)}, UserError, "no such file"),
        ({"model": "nist"}, UserError, "no model 'nist'"),
        ({"labels": "eleven"}, UserError, "model's classes"),
    ):
        with pytest.raises(error, match=says):
            sheet(replace(options, **changes))
    assert image.read_bytes() != b""
    assert not options.out.exists()


def test_no_sheet_without_an_image(options: SheetOptions, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").touch()
    with pytest.raises(UserError, match="none of the images could be used"):
        make(replace(options, sources=(tmp_path / "bad",)))
    assert not options.out.exists()
