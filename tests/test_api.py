"""What Python code uses."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, invoke
from PIL import Image

import cvae_cli
from cvae_cli import Latents, Model, Relabelled, evaluate, load_model, train
from cvae_cli.errors import ImageError, LabelError, UserError
from cvae_cli.training import recipes

DIGITS = ROOT / "examples" / "digits"
CHALK = DIGITS / "chalk-03.png"


@pytest.fixture(scope="module")
def mnist() -> Model:
    return load_model("mnist", device="cpu")


def test_importing_the_package_costs_nothing() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport cvae_cli\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not new & {'numpy', 'torch', 'PIL', 'click'}, new\nassert cvae_cli.__version__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_public_is_there() -> None:
    for name in cvae_cli.__all__:
        assert getattr(cvae_cli, name) is not None
        assert name in dir(cvae_cli)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cvae_cli.nothing


def test_an_image_is_drawn_as_the_command_draws_it(mnist: Model, tmp_path: Path) -> None:
    found = mnist.relabel(CHALK)
    assert isinstance(found, Relabelled)
    assert (found.label, sorted(found.tiles)) == ("3", list("012456789"))
    assert found.confidence is not None
    assert found.confidence > 0.9
    assert invoke("relabel", CHALK, "--out", tmp_path, "--write", "both", "--device", "cpu").exit_code == 0
    for name, tile in found.tiles.items():
        with Image.open(tmp_path / "tiles" / name / "chalk-03.png") as file:
            assert np.array_equal(np.asarray(tile), np.asarray(file))
    with Image.open(tmp_path / "chalk-03.png") as file:
        assert np.array_equal(np.asarray(found.grid()), np.asarray(file))
    assert found._repr_png_().startswith(b"\x89PNG")


def test_several_images_of_any_kind_give_a_list(mnist: Model) -> None:
    array = np.asarray(Image.open(CHALK).convert("L"))
    found = mnist.relabel(
        [CHALK, str(CHALK), Image.open(CHALK), array], ["3", 3, None, "5"], targets=["1", 2]
    )
    assert [one.label for one in found] == ["3", "3", "3", "5"]
    assert [one.confidence is None for one in found] == [True, True, False, True]
    assert all(list(one.tiles) == ["1", "2"] for one in found)
    assert np.array_equal(np.asarray(found[0].tiles["1"]), np.asarray(found[2].tiles["1"]))
    batch = mnist.relabel(np.stack([array, array])[:, None], targets="1")
    assert [list(one.tiles) for one in batch] == [["1"]] * 2
    assert mnist.relabel([]) == []
    assert mnist.relabel(CHALK, "3", targets=["3"]).tiles == {}


def test_drawings_keep_the_polarity_of_their_paper(mnist: Model) -> None:
    found = mnist.relabel(DIGITS / "7" / "paper.jpg")
    assert np.asarray(found.tiles["1"]).mean() > 150
    assert np.asarray(found.original).mean() > 100


def test_there_and_back_is_what_the_model_draws(mnist: Model) -> None:
    latents = mnist.encode([CHALK, DIGITS / "chalk-04.png"], ["3", "4"])
    assert (len(latents), latents.vectors.dtype, latents.labels) == (2, np.float32, ("3", "4"))
    drawn = mnist.decode(latents)
    assert list(drawn[0]) == list(mnist.classes)
    tiles = mnist.relabel(CHALK, "3").tiles
    # The batch is not the same, and so rounding may differ.
    assert np.abs(np.asarray(drawn[0]["7"]).astype(int) - np.asarray(tiles["7"])).max() <= 1
    original = np.asarray(mnist.relabel(CHALK, "3").original).astype(int)
    itself = np.abs(np.asarray(drawn[0]["3"]) - original).mean()
    (flat,) = mnist.decode(latents.vectors[:1], ["3"])
    assert itself < np.abs(np.asarray(flat["3"]) - original).mean()  # without the maps it is coarser
    assert isinstance(latents, Latents)


def test_a_walk_leads_from_one_hand_to_another(mnist: Model) -> None:
    a, b = CHALK, DIGITS / "paper-01.jpg"
    walk = mnist.interpolate(a, b, 5, target="8")
    assert len(walk) == 5
    pixels = [np.asarray(one).astype(float) for one in walk]
    whole = np.abs(pixels[0] - pixels[-1]).mean()
    assert whole > 1
    assert all(np.abs(x - y).mean() < whole for x, y in pairwise(pixels))
    ends = mnist.decode(mnist.encode([a, b]).vectors, ["8"])
    assert np.abs(pixels[0] - np.asarray(ends[0]["8"])).max() <= 1
    assert mnist.interpolate(a, b, 2)[0].size == (28, 28)
    with pytest.raises(ValueError, match="too few"):
        mnist.interpolate(a, b, 1)


def test_classes_and_styles(mnist: Model) -> None:
    assert mnist.classify(CHALK)[0][0] == "3"
    (style,) = mnist.sample(seed=3)
    assert list(style) == list(mnist.classes)
    assert repr(mnist).startswith("<cvae model mnist: 28x28, 0, 1,")


def test_colours(tmp_path: Path) -> None:
    found = load_model("cifar10", device="cpu").relabel(
        next((ROOT / "examples" / "photos").glob("*.jpg")), targets="cat"
    )
    assert list(found.tiles) == ["cat"]
    tile = next(iter(found.tiles.values()))
    assert (tile.mode, tile.size, found.grid().mode) == ("RGB", (32, 32), "RGB")


def test_mistakes_are_said(mnist: Model) -> None:
    with pytest.raises(LabelError, match="no class 'ten'"):
        mnist.relabel(CHALK, "ten")
    with pytest.raises(LabelError, match="none is number 10"):
        mnist.relabel(CHALK, 10)
    with pytest.raises(LabelError, match="labels: 1 for 2 images"):
        mnist.relabel([CHALK, CHALK], ["3"])
    with pytest.raises(ImageError, match=r"^nowhere\.png: no such file"):
        mnist.relabel("nowhere.png")
    with pytest.raises(UserError, match="no model 'nowhere'"):
        load_model("nowhere")


def test_a_model_is_trained(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_STEPS_OF_FEW", 4)
    result = train(marks, epochs=1, out=str(tmp_path / "run"), device="cpu")
    assert result.weights is not None
    assert load_model(result.weights, device="cpu").classes == ("bar", "cross", "ring")


def test_a_model_is_measured(data_dir: Path, bars_judge: Path) -> None:
    seen: list[str] = []
    found = evaluate(
        "mnist", data_dir=str(data_dir), judge=str(bars_judge), limit=20, device="cpu",
        progress=lambda step, done, total: seen.append(step),
    )  # fmt: skip
    assert found.images == 20
    assert "realism" in seen
