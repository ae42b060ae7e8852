"""Evaluation of models whose metrics are known beforehand, on a synthetic data set."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import export_untrained
from PIL import Image

from cvae_cli.data import datasets
from cvae_cli.errors import DataError, LabelIgnoredWarning, OutputError, UserError
from cvae_cli.evaluation import run as module
from cvae_cli.evaluation import style
from cvae_cli.evaluation.measure import sample
from cvae_cli.evaluation.pictures import PICTURES
from cvae_cli.evaluation.report import Evaluation
from cvae_cli.evaluation.run import EvaluateOptions, evaluate
from cvae_cli.images import png
from cvae_cli.images.charts import heat_map
from cvae_cli.judge import train
from cvae_cli.model import registry, weights
from cvae_cli.model.alignment import LatentAlignment


@pytest.fixture
def judged(data_dir: Path, bars_judge: Path) -> EvaluateOptions:
    """The shipped model on bars, with a judge that was trained on them."""
    return EvaluateOptions(model="mnist", data_dir=data_dir, judge=bars_judge, device="cpu", limit=30)


def values(found: Evaluation) -> dict[str, float]:
    return {metric.name: metric.value for metric in found.metrics}


def blinded(tmp_path: Path) -> Path:
    """The shipped model with the label cut off from its decoder, and metadata that hides it."""
    model, card = weights.load(registry.shipped()["mnist"])
    with torch.no_grad():
        model.decoder.label.weight.zero_()
        model.alignment = LatentAlignment(card.spec.num_classes, card.spec.latent_dim)
    file = tmp_path / "blind.safetensors"
    weights.export(
        model,
        file,
        spec=card.spec.to_dict(),
        name="blind",
        data_set="mnist",
        metrics={"label_effect": 40.0, "effectiveness": 1.0},
        train_command="none",
        versions={},
        training={},
        licence="MIT",
    )
    return file


def test_a_label_blind_model_is_at_chance_and_called_so(judged: EvaluateOptions, tmp_path: Path) -> None:
    with pytest.warns(LabelIgnoredWarning, match="blind ignores its label"):
        found = evaluate(replace(judged, model=str(blinded(tmp_path)), limit=20))
    assert found.ignores_label
    assert values(found)["effectiveness"] <= 1 / 9 + 1e-9


class Mover:
    """Moves a bar to where its target has it: an ideal model of the bars."""

    leak = False

    def __init__(self, file: Path, **options: object) -> None:
        self.card = registry.read_card(file)
        self.spec = self.card.spec
        self.device, self.described_precision, self.ignores_label = torch.device("cpu"), "fp32", False
        self.batch_size = 16

    def draw(self, images: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        moved = [
            [np.roll(image, 2 * (target - label), axis=2) for target in row]
            for image, label, row in zip(images, labels, targets, strict=True)
        ]
        return np.array(moved)

    def draw_each(self, images: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return self.draw(images, labels, targets[:, None])[:, 0]

    def encode(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        latents = np.random.default_rng(0).normal(size=(len(labels), 10)).astype(np.float32)
        return latents + 9 * np.eye(10, dtype=np.float32)[labels] if self.leak else latents

    def terms(self, images: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
        return {"recon_loss": 60.0, "kl": 20.0, "elbo": -80.0}


def test_an_ideal_model_has_ideal_metrics(judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Relabeller", Mover)
    steps: list[tuple[str, int, int]] = []
    found = evaluate(replace(judged, limit=None), lambda *step: steps.append(step))
    assert (found.images, found.tiles) == (50, 450)
    got = values(found)
    assert got["judge_accuracy"] > 0.9
    assert got["effectiveness"] > 0.95
    assert got["effectiveness_lowest_pair"] <= got["effectiveness"]
    assert got["composition"] == got["composition_10"] == got["reversibility"] == 0
    assert got["style_thickness"] > 0.99
    assert got["style_width"] > 0.99
    assert np.isnan(got["style_slant"])  # all bars are upright
    assert got["leakage"] < 0.4
    assert 0.6 < got["diversity"] < 1.6
    assert got["precision"] > 0.9
    assert got["recall"] > 0.9
    assert got["odd_tiles"] < 0.3
    assert got["bits_per_dimension"] == pytest.approx(80 / (784 * np.log(2)))
    references = {metric.name: metric.references for metric in found.metrics}
    assert references["effectiveness"]["real images"] == got["judge_accuracy"]
    assert references["effectiveness"]["chance"] == 0.1
    assert references["effectiveness"]["image copied"] == pytest.approx((1 - got["judge_accuracy"]) / 9)
    assert abs(got["odd_tiles"] - references["odd_tiles"]["real test images"]) < 0.15
    assert got["realism"] < 10 * references["realism"]["real training images"]
    # What --json prints has no nan, which is not JSON.
    raw = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert raw["metrics"]["style_slant"] is None
    assert {step[0] for step in steps} == {"drawing and judging", "leakage", "realism"}
    assert all(0 <= done <= total for _, done, total in steps)


class Copier(Mover):
    """Draws the image again, whatever is asked."""

    leak = True

    def draw(self, images: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.repeat(images[:, None], targets.shape[1], axis=1)


def test_a_copier_is_caught_by_effectiveness(
    judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Relabeller", Copier)
    got = values(evaluate(judged))
    assert got["effectiveness"] < 0.02
    assert got["composition"] == 0
    assert got["leakage"] > 0.95
    assert got["odd_tiles"] > 0.9  # none of them is like its target


class Prototypes(Mover):
    """Draws the same bar for every image of a target."""

    def draw(self, images: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        bars = np.zeros((10, 1, 28, 28), np.uint8)
        for label in range(10):
            bars[label, 0, 5:23, 4 + 2 * label : 6 + 2 * label] = 200
        return bars[targets]


def test_prototypes_are_caught_by_diversity_and_style(
    judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Relabeller", Prototypes)
    got = values(evaluate(judged))
    assert got["effectiveness"] > 0.95
    assert got["diversity"] == pytest.approx(0, abs=1e-3)
    assert got["composition"] > 0
    assert got["style_thickness"] == pytest.approx(0, abs=0.3)


def test_pictures_are_written_and_foreign_ones_kept(
    judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "Relabeller", Mover)
    asked = replace(judged, out=tmp_path / "pictures")
    found = evaluate(asked)
    assert [Path(name).name for name in found.pictures] == list(PICTURES)
    pictures = {}
    for name in PICTURES:
        pictures[name] = np.asarray(Image.open(tmp_path / "pictures" / name))
        assert (png.read_provenance(tmp_path / "pictures" / name) or {})["evaluate"] == 30
    test = sample(datasets.load("mnist", judged.data_dir, train=False), 30)
    assert np.array_equal(
        pictures["heat-map.png"][80:],  # below the title
        heat_map(test.classes, np.array(found.pairs), title="")[80:],
    )
    # The first pair of the random tiles: some image, and the bar at the place of another class.
    first = pictures["random.png"][74 : 74 + 84 : 3, :, 0]
    original, tile = first[:, 24 : 24 + 84 : 3], first[:, 112 : 112 + 84 : 3]
    match = [i for i, image in enumerate(test.images[:, 0].numpy()) if np.array_equal(image, original)]
    assert match
    label = int(test.labels[match[0]])
    moved = [
        target for target in range(10) if np.array_equal(np.roll(original, 2 * (target - label), 1), tile)
    ]
    assert len(moved) == 1
    assert moved != [label]
    evaluate(asked)  # its own pictures are replaced
    foreign = tmp_path / "pictures" / "worst.png"
    foreign.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"worst\.png exists and was not written by cvae"):
        evaluate(asked)
    assert foreign.read_bytes() == b"mine"


def test_pictures_never_replace_an_image_of_the_data_set(tmp_path: Path) -> None:
    for name in ("0/a.png", "0/b.png", "1/a.png", "elsewhere/random.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(tmp_path / "data" / name)
    (tmp_path / "data" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "2").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    image = tmp_path / "elsewhere" / "random.png"
    before = image.read_bytes()
    asked = EvaluateOptions(data=str(tmp_path / "data"), out=tmp_path / "elsewhere", overwrite=True)
    with pytest.raises(OutputError, match=r"random\.png is one of the images of the data set"):
        evaluate(asked)
    with pytest.raises(UserError, match="other classes"):  # elsewhere nothing is in the way
        evaluate(replace(asked, out=tmp_path / "pictures"))
    assert image.read_bytes() == before


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_handful_of_images_is_measured_as_far_as_it_goes(
    judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int
) -> None:
    monkeypatch.setattr(module, "Relabeller", Mover)
    found = evaluate(replace(judged, limit=limit, out=tmp_path / "pictures"))
    got = values(found)
    assert found.tiles == 9 * limit
    assert got["effectiveness"] > 0.8  # an ideal model, read by a judge of bars
    assert np.isnan(got["realism"]) == (limit == 1)
    json.dumps(found.to_dict(), allow_nan=False)


def test_strokes_without_the_extra_are_refused_before_anything_is_done(
    judged: EvaluateOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "skimage" else find_spec(name, *rest)
    )
    steps: list[tuple[str, int, int]] = []
    asked = replace(judged, out=tmp_path / "pictures", judge=tmp_path / "new" / "judge.safetensors")
    with pytest.raises(UserError, match=r"pip install '\.\[evaluate\]' in a clone"):
        evaluate(asked, lambda *step: steps.append(step))
    assert steps == []
    assert list(tmp_path.iterdir()) == []
    for name in ("fashion", "cifar10"):  # these need no extra
        style.check_available(registry.read_card(registry.shipped()[name]).spec)


def test_what_does_not_fit_is_refused_before_anything_is_measured(
    judged: EvaluateOptions, small_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="trained on 'none', which is not here"):
        evaluate(replace(judged, model=str(small_model)))
    with pytest.raises(DataError, match="unknown data set 'letters'"):
        evaluate(replace(judged, data="letters"))
    with pytest.raises(UserError, match="it draws other classes"):
        evaluate(replace(judged, model=str(small_model), data="mnist"))
    with pytest.raises(UserError, match=r"must end in \.safetensors"):
        evaluate(replace(judged, judge=tmp_path / "judge.bin"))


def test_a_model_of_ones_own_gets_a_judge_beside_it(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registry.read_card(registry.shipped()["mnist"]).spec
    monkeypatch.setattr(registry, "shipped", lambda kind="model": {})
    monkeypatch.setattr(train, "MIN_STEPS", 10)
    monkeypatch.setattr("cvae_cli.judge.blemishes.MIN_STEPS", 10)
    file = export_untrained(replace(spec, widths=(8, 8, 8, 8)), tmp_path / "run" / "model.safetensors")
    card = file.with_suffix(".json")
    card.write_text(card.read_text().replace('"data_set": "none"', '"data_set": "mnist"'))
    asked = EvaluateOptions(model=str(file), data_dir=data_dir, device="cpu", limit=20)
    seen: set[str] = set()
    evaluate(asked, lambda what, done, total: seen.add(what))
    assert "training a judge" in seen
    assert (tmp_path / "run" / "judge.safetensors").exists()
    seen.clear()
    evaluate(asked, lambda what, done, total: seen.add(what))
    assert "training a judge" not in seen
