"""The fast decoder of tiles is taught; all else of the model stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Recorder, small_recipe

from cvae_cli.data import datasets
from cvae_cli.data.labelled import hold_out
from cvae_cli.errors import UserError
from cvae_cli.model import weights
from cvae_cli.training.distillation import Distillation
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import CIFAR10, MNIST, distilled
from cvae_cli.training.run import TrainerOptions, TrainingData, train

TEACHER = replace(small_recipe(MNIST), batch_size=34)
OPTIONS = TrainerOptions(device="cpu", precision="fp32", epochs=1)
TWO = replace(OPTIONS, epochs=2)
"""One with hints, and one without."""


def student() -> Recipe:
    recipe = distilled(TEACHER)
    return replace(recipe, batch_size=34, spec=replace(recipe.spec, tile_widths=(32, 2)))


@pytest.fixture(scope="module")
def digits(data_dir: Path) -> TrainingData:
    training, validation = hold_out(datasets.load("mnist", data_dir, train=True), 5000)
    return TrainingData("mnist", "mnist", training, validation)


def test_only_the_decoder_of_tiles_learns() -> None:
    torch.manual_seed(0)
    objective = Distillation(student())
    model = objective.networks.model
    trained = {name for name, value in objective.named_parameters() if value.requires_grad}
    tiles = {name for name, _ in objective.named_parameters() if name.startswith("networks.model.tiles.")}
    assert trained == tiles
    images, y = torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8), torch.arange(12) % 10
    first = objective.training_terms(images, y)
    assert set(first) == {"imitation", "hint", "loss"}
    objective.begin_fine_tuning(images, y)
    terms = objective.training_terms(images, y)
    assert set(terms) == {"imitation", "loss"}
    for loss in (first["loss"], terms["loss"]):
        objective.zero_grad()
        loss.backward()
        for name, value in model.named_parameters():
            assert (value.grad is not None) == name.startswith("tiles."), name


def test_at_first_half_of_the_tiles_are_finished_from_the_teachers_own_maps() -> None:
    torch.manual_seed(0)
    objective = Distillation(student())
    tiles, seen = objective.networks.model.tiles, []
    assert tiles is not None
    finish = tiles.finish
    tiles.finish = lambda h, condition: seen.append(h.detach()) or finish(h, condition)  # type: ignore[method-assign]
    with torch.no_grad():
        tiles.start.weight.zero_()
        tiles.start.bias.fill_(7.0)
    images, y = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.arange(64) % 10
    objective.training_terms(images, y)
    objective.begin_fine_tuning(images, y)
    objective.training_terms(images, y)
    own = [float((h == 7.0).all(dim=(1, 2, 3)).float().mean()) for h in seen]
    assert 0.3 < own[0] < 0.7
    assert own[1] == 1.0


def test_what_is_taught_is_learned() -> None:
    torch.manual_seed(0)
    objective = Distillation(student())
    assert objective.networks.model.tiles is not None
    images, y = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.arange(64) % 10
    optimiser = torch.optim.Adam(objective.networks.model.tiles.parameters(), 3e-3)
    before = objective.training_terms(images, y)
    for _ in range(25):
        optimiser.zero_grad()
        objective.training_terms(images, y)["loss"].backward()
        optimiser.step()
    after = objective.training_terms(images, y)
    for term in ("imitation", "hint"):
        assert after[term] < 0.9 * before[term], term


def test_a_model_is_distilled_and_distilled_again(digits: TrainingData, tmp_path: Path) -> None:
    teacher = train(TEACHER, digits, tmp_path / "teacher", OPTIONS)
    assert teacher.weights is not None
    seen, options = Recorder(), replace(TWO, start=teacher.weights, train_command="distil it")
    first = train(student(), digits, tmp_path / "first", options, seen)
    assert first.weights is not None
    assert seen.pretrained == 0
    assert seen.epochs[0]["imitation"] > 0
    (before, card), (after, distilled_card) = weights.load(teacher.weights), weights.load(first.weights)
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    measured = {"tile_widths": (), "auto_precision": "fp32"}
    assert replace(distilled_card.spec, **measured) == replace(card.spec, auto_precision="fp32")
    assert after.tiles is not None
    for name, value in after.tiles.named_parameters():
        assert torch.equal(value, value.bfloat16().float()) or name.startswith("first."), name
    told = distilled_card.raw["training"]["teacher"]
    assert told["sha256"] == card.sha256
    assert told["train_command"] == card.raw["train_command"]

    # From a model that has been distilled: its decoder is the teacher, and what made that is kept.
    again = train(student(), digits, tmp_path / "again", replace(options, start=first.weights))
    assert again.weights is not None
    assert weights.load(again.weights)[1].raw["training"]["teacher"] == told
    # And one can go on from it without.
    train(TEACHER, digits, tmp_path / "plain", replace(OPTIONS, start=first.weights))


def test_a_model_of_other_images_is_refused(digits: TrainingData, tmp_path: Path) -> None:
    other = replace(TEACHER, spec=replace(TEACHER.spec, margin=0.1))
    teacher = train(other, digits, tmp_path / "teacher", OPTIONS)
    with pytest.raises(UserError, match="not trained on such images"):
        train(student(), digits, tmp_path / "run", replace(OPTIONS, start=teacher.weights))
    assert not (tmp_path / "run").exists()


def test_photographs_have_no_such_decoder() -> None:
    with pytest.raises(UserError, match="no such decoder"):
        distilled(CIFAR10)
