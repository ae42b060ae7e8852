"""Tiles held against what is really there, on things whose looks are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import invoke
from PIL import Image

from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.pairs import find_counterparts
from cvae_cli.evaluation import run as module
from cvae_cli.evaluation.report import Evaluation, Metric
from cvae_cli.evaluation.run import EvaluateOptions, evaluate
from cvae_cli.evaluation.truth import (
    CANDIDATES,
    Likeness,
    Truth,
    class_means,
    compare,
    examine,
    find_nearest,
    make_truth,
    measure_references,
)
from cvae_cli.judge import train as judge_training
from cvae_cli.model import registry

CLASSES = ("a", "b", "c")


def things(count: int, *, first: int = 0, paired: bool = True) -> LabelledImages:
    """Things of which each is a grey level of its own, one brighter with each label."""
    labels = torch.arange(3).repeat_interleave(count)
    look = torch.arange(first, first + count).repeat(3)
    images = (2 * look + labels)[:, None, None, None].expand(-1, 1, 4, 4).to(torch.uint8)
    counterparts = find_counterparts([f"{number}" for number in look.tolist()], labels, 3)
    return LabelledImages(images, labels, CLASSES, counterparts if paired else None)


def everything(data: LabelledImages) -> Truth:
    return make_truth(data, torch.arange(len(data)))


def ideal(truth: Truth) -> torch.Tensor:
    """What is really there; where that is not known, the last image."""
    return truth.images[truth.counterparts]


def test_what_is_really_there_has_no_error_and_is_nearest() -> None:
    truth = everything(things(100))
    found = compare(truth, slice(None), ideal(truth))
    assert found.error == 0
    assert found.share_within(1) == found.share_within(5) == 1
    own = torch.eye(3, dtype=torch.bool)[things(100).labels]
    assert found.errors.isnan().equal(own)
    assert (found.ranks == -1).equal(own)


def test_errors_are_in_grey_levels_and_ranks_count_what_is_nearer() -> None:
    truth = everything(things(10))
    # Between own and other counterpart there are two levels for each thing that lies between them.
    found = compare(truth, slice(None), ideal(truth) + 7)
    assert found.error == 7
    looks = torch.arange(10).repeat(3)
    for target in range(3):
        known = found.ranks[:, target] >= 0
        # Six brighter things are nearer; the seventh is as far as the own counterpart, 14 levels from it.
        assert found.ranks[known, target].equal((9 - looks[known]).clamp(max=6))
    assert found.share_within(1) == pytest.approx(1 / 10)
    assert found.share_within(5) == pytest.approx(5 / 10)


def test_ties_are_not_nearer() -> None:
    data = things(8)
    alike = replace(data, images=torch.full_like(data.images, 50))
    truth = everything(alike)
    found = compare(truth, slice(None), torch.zeros(24, 3, 1, 4, 4, dtype=torch.uint8))
    assert found.error == 50
    assert found.share_within(1) == 1


def test_a_tile_is_ranked_among_sixty_with_its_own() -> None:
    data = things(100)
    truth = everything(data)
    assert [len(candidates) for candidates in truth.candidates] == [CANDIDATES] * 3
    names = [(candidates % 100).tolist() for candidates in truth.candidates]
    assert names[0] == names[1] == names[2]
    assert len(set(names[0])) == CANDIDATES
    tiles = torch.randint(0, 256, (300, 3), generator=torch.Generator().manual_seed(0))
    spread = tiles[:, :, None, None, None].expand(-1, -1, 1, 4, 4).to(torch.uint8)
    found = compare(truth, slice(None), spread)
    level = data.images[:, 0, 0, 0].long()
    for image, target in (found.ranks >= 0).nonzero().tolist():
        own = int(truth.counterparts[image, target])
        others = [other for other in truth.candidates[target].tolist() if other != own][: CANDIDATES - 1]
        distance = (level - tiles[image, target]).abs()
        assert found.errors[image, target] == distance[own]
        assert found.ranks[image, target] == (distance[others] < distance[own]).sum()


def test_a_sample_is_held_against_all_test_images() -> None:
    data = things(100)
    everyone, drawn = everything(data), torch.tensor([250, 3, 120])
    some = make_truth(data, drawn)
    assert all(a.equal(b) for a, b in zip(some.candidates, everyone.candidates, strict=True))
    tiles = torch.randint(0, 256, (300, 3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    of_all = compare(everyone, slice(None), tiles.to(torch.uint8))
    of_some = compare(some, slice(None), tiles[drawn].to(torch.uint8))
    assert of_some.ranks.equal(of_all.ranks[drawn])
    assert of_some.errors.nan_to_num(-1).equal(of_all.errors[drawn].nan_to_num(-1))
    parts = [compare(some, rows, tiles[drawn[rows]].to(torch.uint8)) for rows in (slice(0, 2), slice(2, 3))]
    assert Likeness.join(parts).ranks.equal(of_some.ranks)


def test_what_has_no_counterpart_is_left_out() -> None:
    names, labels = ["x", "y", "x", "z", "x", "y"], torch.tensor([0, 0, 1, 1, 2, 2])
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    data = LabelledImages(images, labels, CLASSES, find_counterparts(names, labels, 3))
    truth = everything(data)
    found = compare(truth, slice(None), ideal(truth))
    assert (found.ranks >= 0).sum(dim=1).tolist() == [2, 1, 2, 0, 2, 1]
    assert found.error == 0
    alone = compare(make_truth(data, torch.tensor([3])), slice(None), images[:3][None])
    assert np.isnan([alone.error, alone.share_within(1)]).all()


def test_references_of_things_that_training_nearly_holds() -> None:
    test, training = things(20, first=10), things(21, first=10)
    found = measure_references(everything(test), test, training)
    assert list(found) == ["nearest training image", "class mean", "random"]
    lookup = found["nearest training image"]
    assert (lookup.error, lookup.share_within(1)) == (0, 1)
    # The mean is the look of thing 20; those of the test set are 10 to 29, two levels apart.
    assert found["class mean"].error == pytest.approx(10)
    assert found["class mean"].share_within(1) == pytest.approx(1 / 20)
    assert 10 < found["random"].error < 18
    assert found["random"].share_within(5) < 0.5
    assert measure_references(everything(test), test, training)["random"].error == found["random"].error


def test_there_is_no_lookup_in_unpaired_training_images() -> None:
    test = things(20)
    assert list(measure_references(everything(test), test, things(20, paired=False))) == [
        "class mean",
        "random",
    ]


def test_a_class_without_training_images_answers_nothing() -> None:
    test, training = things(20), things(20)
    rest = training.subset((training.labels != 2).nonzero()[:, 0])
    for likeness in measure_references(everything(test), test, rest).values():
        known = likeness.ranks >= 0
        assert not known[:, 2].any()
        assert known[20:40, 0].all()
        assert not np.isnan(likeness.error)


def test_the_nearest_image_is_one_that_has_the_counterpart() -> None:
    test, training = things(6), things(6)
    assert find_nearest(test, training).equal(training.counterparts)
    # Without thing 3 under label 2, its neighbours answer there.
    kept = (torch.arange(18) != 15).nonzero()[:, 0]
    rest = training.subset(kept)
    answers = kept[find_nearest(test, rest)]
    assert answers[3].tolist()[:2] == [3, 9]
    assert int(answers[3, 2]) in (14, 16)


def test_class_means_are_in_whole_grey_levels() -> None:
    means = class_means(things(4))
    assert means.shape == (3, 1, 4, 4)
    assert means[:, 0, 0, 0].tolist() == [3, 4, 5]


def drawings(count: int, *, same: bool) -> LabelledImages:
    """Drawings in pairs that can be believed, or that share only their numbers."""
    dice = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count if same else 3 * count, 1, 16, 16), generator=dice)
    labels = torch.arange(3).repeat_interleave(count)
    counterparts = find_counterparts([f"{i}" for i in range(count)] * 3, labels, 3)
    return LabelledImages(
        images.repeat(3 if same else 1, 1, 1, 1).to(torch.uint8), labels, CLASSES, counterparts
    )


def test_training_images_decide_whether_names_are_believed() -> None:
    for same in (True, False):
        found = examine(drawings(30, same=not same), drawings(100, same=same))
        assert found is not None
        assert (found.images, found.names, found.believed) == (90, 30, same)
        without = replace(drawings(100, same=same), counterparts=None)
        alone = examine(drawings(30, same=same), without)
        assert alone is not None
        assert alone.believed == same
    assert examine(replace(drawings(30, same=True), counterparts=None), drawings(100, same=True)) is None


def draw(style: np.random.Generator, label: int) -> np.ndarray:
    """A bar whose place tells the class, between rows of grey that tell the thing."""
    picture = np.zeros((28, 28), np.uint8)
    picture[7:21, 4 + 2 * label : 6 + 2 * label] = 200
    picture[:6], picture[22:] = style.integers(0, 200, (6, 1)), style.integers(0, 200, (6, 1))
    return picture


def save(folder: Path, *, same: bool) -> Path:
    """Forty things under ten labels to train on and seventy to test on; or as many that share numbers."""
    for part, count, seed in (("train", 40, 1000), ("test", 70, 2000)):
        for label in range(10):
            place = folder / part / str(label)
            place.mkdir(parents=True)
            for number in range(count):
                style = np.random.default_rng(seed + number + (0 if same else 100 * label))
                Image.fromarray(draw(style, label)).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("paired") / "bars", same=True)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("numbered") / "bars", same=False)


@pytest.fixture(scope="module")
def judge(paired: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of the bars that learned next to nothing, since it is not what is tested."""
    file = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_training, "MIN_STEPS", 10)
        patch.setattr("cvae_cli.judge.blemishes.MIN_STEPS", 2)
        patch.setattr(module, "Relabeller", Ideal)
        evaluate(EvaluateOptions(data=str(paired), judge=file, device="cpu", limit=2))
    return file


class Ideal:
    """Moves the bar to where its target has it, and nothing else."""

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

    def encode(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(labels), 10)).astype(np.float32)

    def terms(self, images: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
        return {"recon_loss": 60.0, "kl": 20.0, "elbo": -80.0}


class Means(Ideal):
    """Draws the mean of the target class, whatever the image."""

    means: torch.Tensor

    def draw(self, images: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return self.means.numpy()[targets]


def truths(found: Evaluation) -> dict[str, Metric]:
    return {metric.name: metric for metric in found.metrics if metric.name.startswith("truth")}


def test_an_ideal_model_draws_the_truth(paired: Path, judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Relabeller", Ideal)
    steps = set()
    asked = EvaluateOptions(data=str(paired), judge=judge, device="cpu", limit=25)
    found = evaluate(asked, lambda step, done, total: steps.add(step))
    assert found.images == 25
    got = truths(found)
    assert {name: metric.value for name, metric in got.items()} == {
        "truth_error": 0,
        "truth_rank_1": 1,
        "truth_rank_5": 1,
    }
    assert got["truth_rank_1"].title == "truth nearest of 60"
    for metric in got.values():
        assert list(metric.references) == ["nearest training image", "class mean", "random"]
    errors = got["truth_error"].references
    assert 0 < errors["nearest training image"] < errors["random"]
    assert errors["class mean"] < errors["random"]
    assert "truth" in steps
    raw = found.to_dict()
    assert raw["metrics"]["truth_error"] == 0
    assert raw["beside"]["truth_rank_5"] == {
        name: round(value, 6) for name, value in got["truth_rank_5"].references.items()
    }


def test_a_model_that_draws_class_means_is_as_good_as_its_reference(
    paired: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = module.folders.scan(paired)
    spec = registry.read_card(registry.shipped()["mnist"]).spec
    monkeypatch.setattr(Means, "means", class_means(module.folders.read(files, "train", spec)[0]), False)
    monkeypatch.setattr(module, "Relabeller", Means)
    got = truths(evaluate(EvaluateOptions(data=str(paired), judge=judge, device="cpu", limit=60)))
    for metric in got.values():
        assert metric.value == metric.references["class mean"]
    assert got["truth_error"].value > 10
    assert got["truth_rank_1"].value < 0.1
    assert got["truth_rank_5"].value < 0.25


def test_paired_test_images_are_said_on_stderr(
    paired: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Relabeller", Ideal)
    arguments = ("evaluate", "--data", paired, "--judge", judge, "--device", "cpu", "--limit", "4")
    said = "paired: 700 test images share 70 names; tiles are compared with what is really there\n"
    run = invoke(*arguments)
    assert run.exit_code == 0, run.output
    assert said in run.stderr
    assert "error to the truth, lower is better" in run.stdout
    assert "truth in the first five of 60" in run.stdout
    assert said not in invoke("-q", *arguments).stderr


def test_files_that_are_only_numbered_have_no_truth(
    numbered: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Relabeller", Ideal)
    asked = EvaluateOptions(data=str(numbered), judge=judge, device="cpu", limit=4)
    assert truths(evaluate(asked)) == {}
    run = invoke("evaluate", "--data", numbered, "--judge", judge, "--device", "cpu", "--limit", "4")
    assert run.exit_code == 0, run.output
    lines = [line for line in run.stderr.splitlines() if "paired" in line]
    assert len(lines) == 1
    assert lines[0].startswith("not paired: 700 test images share 70 names, but that may be chance")
    assert "truth" not in run.stdout


def test_a_data_set_known_by_name_is_never_paired(
    data_dir: Path, bars_judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Relabeller", Ideal)
    run = invoke("evaluate", "--data-dir", data_dir, "--judge", bars_judge, "--device", "cpu", "--limit", "4")
    assert run.exit_code == 0, run.output
    assert "paired" not in run.stderr
    assert "truth" not in run.stdout
