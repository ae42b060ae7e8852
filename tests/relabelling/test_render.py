"""From tiles to named files: which, with what in them, and nothing is written."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cvae_cli.images.grid import Layout
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import RelabelledItem
from cvae_cli.relabelling.render import OWN_CLASS, label_note, render
from cvae_cli.relabelling.worker import Worker


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def provenance(content: bytes) -> dict:
    return json.loads(Image.open(io.BytesIO(content)).text["cvae"])


def test_a_grid_and_tiles_are_named_files(worker: Worker, drawn: RelabelledItem) -> None:
    rendered = render(worker.plan, drawn)
    grid, *tiles = rendered.files
    assert [name for name, _ in rendered.files] == ["d0.png", "tiles/0/d0.png", "tiles/1/d0.png"]
    assert rendered.outcome.paths == rendered.outputs == tuple(name for name, _ in rendered.files)
    assert (rendered.outcome.status, rendered.outcome.targets) == ("done", ("0", "1"))
    for (_, content), tile in zip(tiles, drawn.tiles, strict=True):
        assert np.array_equal(picture(content), tile[0])
    # In the grid they are enlarged, each in its place behind the original.
    side, shown = Layout(28, 1).tile, picture(grid[1])
    for number, pixels in enumerate((drawn.item.image.native, *drawn.tiles)):
        x = 14 + (0 if number == 0 else side + 24 + (number - 1) * (side + 8))
        big = pixels[0].repeat(3, axis=0).repeat(3, axis=1)
        assert np.array_equal(shown[36 : 36 + side, x : x + side], big)
    assert not list(worker.plan.out.iterdir())


def test_pictures_say_where_they_come_from(worker: Worker, drawn: RelabelledItem) -> None:
    (_, grid), (_, tile), _ = render(worker.plan, drawn).files
    for content in (grid, tile):
        found = provenance(content)
        assert (found["source"], found["label"], found["label_index"]) == ("d0.png", "7", 7)
        assert (found["model"], found["model_sha256"]) == ("mnist", worker.plan.model_sha256)
        assert found["fingerprint"] == drawn.item.fingerprint
        # As the manifest has it, with what was done to the latent.
        assert found["prepared"] == drawn.item.outcome.prepared
        assert found["prepared"].keys() == {"size", "mode", "latent_scale"}
        assert "judged" not in found
        assert "warnings" not in found
    assert provenance(grid)["targets"] == ["0", "1"]
    assert provenance(tile)["target"] == "0"


@pytest.mark.parametrize(
    ("grids", "tiles", "names"),
    [(True, False, ["d0.png"]), (False, True, ["tiles/0/d0.png", "tiles/1/d0.png"])],
)
def test_only_what_was_asked_for(
    worker: Worker, drawn: RelabelledItem, grids: bool, tiles: bool, names: list[str]
) -> None:
    rendered = render(replace(worker.plan, grids=grids, tiles=tiles), drawn)
    assert [name for name, _ in rendered.files] == names
    assert rendered.wrong_label == ("tiles/7/d0.png" if tiles else None)


def test_an_image_of_the_only_target_is_nothing_to_do(worker: Worker, drawn: RelabelledItem) -> None:
    rendered = render(worker.plan, replace(drawn, targets=(), tiles=drawn.tiles[:0]))
    assert (rendered.outcome.status, rendered.outcome.reason) == ("skipped", OWN_CLASS)
    assert rendered.files == rendered.outputs == ()


def test_what_the_judge_says_is_recorded_and_shown(worker: Worker, drawn: RelabelledItem) -> None:
    probabilities = np.full((2, 10), 0.01, np.float32)
    probabilities[0, 0], probabilities[1, 3] = 0.97, 0.9
    plan = replace(worker.plan, min_confidence=0.5)
    judged = render(plan, replace(drawn, probabilities=probabilities))
    assert judged.outcome.judged == {"0": 0.97, "1": 0.01}
    assert (judged.outcome.judged_wrong, judged.outcome.left_out) == (("1",), ("1",))
    assert judged.left_out == ("tiles/1/d0.png",)
    assert [name for name, _ in judged.files] == ["d0.png", "tiles/0/d0.png"]
    assert provenance(judged.files[0][1])["judged_wrong"] == ["1"]
    assert judged.outcome.judged_realism is None
    assert "judged_odd" not in provenance(judged.files[0][1])
    plain, marked = (
        picture(render(plan, one).files[0][1]) for one in (drawn, replace(drawn, probabilities=probabilities))
    )
    rows = np.flatnonzero((plain != marked).any(axis=1))
    assert rows.min() > 36 + 84  # nothing but the strip under the tiles


def test_odd_tiles_are_recorded_and_left_out_below_the_least_realism(
    worker: Worker, drawn: RelabelledItem
) -> None:
    probabilities = np.full((2, 10), 0.01, np.float32)
    probabilities[0, 0] = probabilities[1, 1] = 0.9
    judged = replace(drawn, probabilities=probabilities, realism=np.array([0.004, 0.02], np.float32))
    for least, left_out in ((None, ()), (0.01, ("0",)), (0.02, ("0",)), (0.03, ("0", "1"))):
        rendered = render(replace(worker.plan, min_realism=least), judged)
        assert rendered.outcome.judged_realism == {"0": 0.004, "1": 0.02}
        assert (rendered.outcome.judged_odd, rendered.outcome.judged_wrong) == (("0",), ())
        assert rendered.outcome.left_out == left_out
        assert rendered.left_out == tuple(f"tiles/{name}/d0.png" for name in left_out)
        assert len(rendered.files) == 3 - len(left_out)
    found = provenance(rendered.files[0][1])
    assert (found["judged_odd"], found["judged_realism"]) == (["0"], {"0": 0.004, "1": 0.02})
    usual = replace(judged, realism=np.array([0.5, 0.02], np.float32))
    one, other = (picture(render(worker.plan, each).files[0][1]) for each in (judged, usual))
    different = np.argwhere(one != other)
    assert different[:, 0].min() > 36 + 84
    assert different[:, 1].max() < 14 + 84 + 24 + 84  # below the first tile only


def test_a_warning_is_recorded_and_marked(worker: Worker, drawn: RelabelledItem) -> None:
    item = replace(drawn.item, outcome=replace(drawn.item.outcome, warnings=("uneven background",)))
    plain, warned = (render(worker.plan, one).files[0][1] for one in (drawn, replace(drawn, item=item)))
    assert provenance(warned)["warnings"] == ["uneven background"]
    different = np.argwhere(picture(plain) != picture(warned))
    assert different[:, 0].min() > 36 + 84
    assert different[:, 1].max() < 14 + 84  # below the original


def test_a_tile_of_an_inverted_image_is_shown_as_the_image_came(
    worker: Worker, drawn: RelabelledItem
) -> None:
    done = replace(drawn.item.image.preprocessing, inverted=True)
    item = replace(drawn.item, image=replace(drawn.item.image, preprocessing=done))
    _, (_, tile), _ = render(worker.plan, replace(drawn, item=item)).files
    assert np.array_equal(picture(tile), 255 - drawn.tiles[0, 0])


def test_the_same_item_gives_the_same_bytes(worker: Worker, drawn: RelabelledItem) -> None:
    assert render(worker.plan, drawn) == render(worker.plan, drawn)
    assert isinstance(drawn.item.outcome, ImageOutcome)


@pytest.mark.parametrize(
    ("source", "confidence", "note"),
    [
        ("predict", 0.999, "predicted 99%"),
        ("predict", 1.0, "predicted 99%"),
        ("predict", 0.5, "predicted 50%"),
        ("folder", None, "from folder"),
        ("class", None, "as given"),
        ("csv", None, "from CSV"),
        ("provenance", None, "as drawn"),
        (None, None, ""),
    ],
)
def test_notes_say_where_a_label_came_from(source: str | None, confidence: float | None, note: str) -> None:
    assert label_note(source, confidence) == note
