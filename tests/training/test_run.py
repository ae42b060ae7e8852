"""Whole trainings, a few steps each: what they leave behind, and how they go on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Recorder, small_recipe

from cvae_cli.data import datasets
from cvae_cli.data.labelled import LabelledImages, hold_out
from cvae_cli.errors import DataError, UserError
from cvae_cli.model import registry, weights
from cvae_cli.model.spec import ImageKind
from cvae_cli.training import recipes
from cvae_cli.training.module import TrainingModule
from cvae_cli.training.objective import Objective
from cvae_cli.training.recipe import ClassifierRecipe, LossWeights, Recipe
from cvae_cli.training.recipes import CIFAR10, MNIST
from cvae_cli.training.run import TrainerOptions, TrainingData, TrainResult, _sampler, train

DIGITS = replace(small_recipe(MNIST), batch_size=34)
PHOTOS = replace(small_recipe(CIFAR10), batch_size=34)
OPTIONS = TrainerOptions(device="cpu", precision="fp32", epochs=1)


def load(name: str, folder: Path) -> TrainingData:
    training, validation = hold_out(datasets.load(name, folder, train=True), 5000)
    return TrainingData(name, name, training, validation)


@pytest.fixture
def digits(data_dir: Path) -> TrainingData:
    """306 images to train on, 34 to validate on."""
    return load("mnist", data_dir)


@pytest.fixture
def photos(photo_dir: Path) -> TrainingData:
    """As many photographs."""
    return load("cifar10", photo_dir)


@pytest.mark.bolts
def test_a_run_leaves_weights_logs_and_a_checkpoint(digits: TrainingData, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen, run = Recorder(), tmp_path / "run"
    result = train(DIGITS, digits, run, replace(OPTIONS, epochs=4, train_command="this command"), seen)
    assert (seen.per_epoch, seen.steps) == (9, 36)
    assert result.epochs == len(seen.epochs) == 4
    assert result.interrupted is None
    assert seen.epochs[-1]["elbo"] > seen.epochs[0]["elbo"]
    assert result.weights == run / "model.safetensors"
    model, card = weights.load(run / "model.safetensors")
    assert card.raw["train_command"] == "this command"
    best = min(seen.epochs, key=lambda metrics: metrics["objective"])
    assert card.raw["metrics"] == pytest.approx(best, abs=1e-4)
    assert result.metrics == best
    assert Recipe.from_dict(card.raw["training"]["recipe"]) == DIGITS
    measured = {"latent_norm": None, "label_temperature": 1.0, "auto_precision": "fp32"}
    assert replace(model.spec, **measured) == DIGITS.spec
    assert model.spec.latent_norm is not None
    logs = EventAccumulator(str(run / "logs"), size_guidance={"images": 0})
    logs.Reload()
    assert {"val_elbo", "val_label_effect"} <= set(logs.Tags()["scalars"])
    assert {"reconstruction", "relabelled"} <= set(logs.Tags()["images"])
    assert len(logs.Images("relabelled")) == 4
    # Nothing but tensors and plain values, which is what makes it safe to read.
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] == 3
    assert sorted(path.name for path in run.iterdir()) == [
        "last.ckpt", "logs", "model.json", "model.safetensors", "run.json",
    ]  # fmt: skip


def test_a_run_goes_on_from_the_weights_of_another(digits: TrainingData, tmp_path: Path) -> None:
    first = train(DIGITS, digits, tmp_path / "first", replace(OPTIONS, epochs=3))
    seen = Recorder()
    options = replace(OPTIONS, start=first.weights)
    second = train(DIGITS, digits, tmp_path / "second", options, seen)
    assert seen.epochs[0]["elbo"] > 0.9 * first.metrics["elbo"] - 20  # it does not begin anew
    again = train(DIGITS, digits, tmp_path / "second", replace(options, resume=True, epochs=2))
    assert again.epochs == 2
    assert second.weights is not None
    with pytest.raises(UserError, match="another seed"):
        train(DIGITS, digits, tmp_path / "second", replace(OPTIONS, resume=True, epochs=3))


def test_training_leaves_the_process_as_it_was(digits: TrainingData, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    train(DIGITS, digits, tmp_path / "run", OPTIONS)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert dict(os.environ) == environment
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.random.get_rng_state(), states[2])


@pytest.mark.bolts
def test_a_run_ends_where_nothing_gets_better_any_more(
    digits: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives = iter([5.0, 3.0, 4.0, 3.5, 9.0, 1.0])
    monkeypatch.setattr(
        TrainingModule,
        "validation_step",
        lambda self, batch, index: self.log("val_objective", next(objectives), batch_size=1),
    )
    patient, seen = replace(DIGITS, patience=3), Recorder()
    result = train(patient, digits, tmp_path / "run", replace(OPTIONS, epochs=6), seen)
    assert [metrics["objective"] for metrics in seen.epochs] == [5.0, 3.0, 4.0, 3.5, 9.0]
    assert (result.epochs, result.complete, result.patience_ended) == (5, True, True)
    assert result.metrics == {"objective": 3.0}


@pytest.mark.bolts
def test_a_stopped_run_goes_on_where_it_was(digits: TrainingData, tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=3)
    whole = train(DIGITS, digits, tmp_path / "whole", options)
    seen = Recorder()

    def after_two_epochs() -> int | None:
        return signal.SIGTERM if len(seen.epochs) == 2 else None

    parts = train(DIGITS, digits, tmp_path / "parts", options, seen, after_two_epochs)
    assert parts.interrupted == signal.SIGTERM
    assert (parts.epochs, seen.steps) == (2, 19)
    again = Recorder()
    parts = train(DIGITS, digits, tmp_path / "parts", replace(options, resume=True), again)
    assert (again.first_epoch, len(again.epochs), parts.epochs) == (2, 1, 3)
    # The third epoch is better than the second, not than the first alone: nothing began anew. The weights
    # are not those of the whole run, since a resumed one draws other random numbers.
    assert again.epochs[0]["recon_loss"] < seen.epochs[1]["recon_loss"] < seen.epochs[0]["recon_loss"]
    assert again.epochs[0]["recon_loss"] == pytest.approx(whole.metrics["recon_loss"], rel=0.1)
    done = Recorder()
    assert train(DIGITS, digits, tmp_path / "parts", replace(options, resume=True), done).epochs == 3
    assert done.steps == 0


@pytest.mark.bolts
def test_sessions_shorter_than_an_epoch_do_not_begin_with_the_same_images(
    digits: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    training_terms = Objective.training_terms

    def watched(self: Objective, images: torch.Tensor, *others: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(images.clone())
        return training_terms(self, images, *others)

    monkeypatch.setattr(Objective, "training_terms", watched)
    for resume in (False, True, True):
        session = Recorder()
        options = replace(OPTIONS, resume=resume)
        train(
            DIGITS, digits, tmp_path / "run", options, session,
            lambda session=session: signal.SIGINT if session.steps == 2 else None,  # type: ignore[misc]
        )  # fmt: skip
    assert len(seen) == 6
    assert not any(torch.equal(seen[0], other) for other in seen[1:])
    assert not torch.equal(seen[2], seen[4])


def test_a_training_that_diverges_is_said_to(digits: TrainingData, tmp_path: Path) -> None:
    recipe = replace(DIGITS, optimizer=replace(DIGITS.optimizer, learning_rate=1e6))
    with pytest.raises(
        UserError, match=r"diverged in epoch 1: .* another --out, with --learning-rate 3e\+05"
    ):
        train(recipe, digits, tmp_path / "run", OPTIONS)


@pytest.mark.bolts
@pytest.mark.parametrize("steps", [1, 9, 10, 14, 18])
def test_a_run_that_is_stopped_within_an_epoch_still_trains_every_step(
    digits: TrainingData, tmp_path: Path, steps: int
) -> None:
    """Also after the first step of an epoch, where Lightning 1.9 validates before it goes on, and after the
    last, whose epoch would not be validated."""
    options, first, again = replace(OPTIONS, epochs=2), Recorder(), Recorder()
    stopped = train(
        DIGITS, digits, tmp_path / "run", options, first,
        lambda: signal.SIGINT if first.steps == steps else None,
    )  # fmt: skip
    assert (stopped.interrupted, stopped.complete) == (signal.SIGINT, steps == 18)
    result = train(DIGITS, digits, tmp_path / "run", replace(options, resume=True), again)
    assert first.steps == steps
    assert len(first.epochs) == steps // 9
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] >= 18
    assert len(first.epochs) + len(again.epochs) == result.epochs == 2


def test_a_run_folder_whose_name_looks_like_a_chain_of_file_systems(
    digits: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    train(DIGITS, digits, tmp_path / "a::b", replace(OPTIONS, epochs=1))
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert sorted(file.name for file in (tmp_path / "a::b").iterdir()) == [
        "last.ckpt", "logs", "model.json", "model.safetensors", "run.json",
    ]  # fmt: skip


def test_a_run_that_is_stopped_in_its_first_epoch_exports_something(
    digits: TrainingData, tmp_path: Path
) -> None:
    result = train(DIGITS, digits, tmp_path / "run", OPTIONS, should_stop=lambda: signal.SIGINT)
    assert (result.interrupted, result.epochs) == (signal.SIGINT, 0)
    assert result.weights is not None
    weights.load(result.weights)
    assert (tmp_path / "run" / "last.ckpt").exists()


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    digits: TrainingData, tmp_path: Path
) -> None:
    def sha256(name: str, seed: int) -> str:
        train(DIGITS, digits, tmp_path / name, replace(OPTIONS, seed=seed))
        return registry.read_card(tmp_path / name / "model.safetensors").sha256

    assert sha256("a", 1) == sha256("b", 1) != sha256("c", 2)


def test_a_model_that_ignores_its_label_is_warned_about(digits: TrainingData, tmp_path: Path) -> None:
    """After nine steps at a tiny rate the decoder has not started to use the label."""
    recipe = replace(DIGITS, optimizer=replace(DIGITS.optimizer, learning_rate=1e-9))
    result = train(recipe, digits, tmp_path / "run", OPTIONS)
    assert "ignores its label" in result.warning
    assert registry.read_card(tmp_path / "run" / "model.safetensors").ignores_label


def test_options_that_do_not_work_leave_nothing_behind(digits: TrainingData, tmp_path: Path) -> None:
    def attempt(recipe: Recipe = DIGITS, **changes: object) -> TrainResult:
        return train(recipe, digits, tmp_path / "run", replace(OPTIONS, **changes))

    with pytest.raises(DataError, match="do not fill one batch"):
        attempt(replace(DIGITS, batch_size=500))
    with pytest.raises(UserError, match="cannot be shared by 3"):
        attempt(devices=3)
    with pytest.raises(UserError, match=r"do not work on this machine .*nonsense"):
        attempt(strategy="nonsense")
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        attempt(precision="fp16")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.bolts
def test_the_classifier_is_pretrained_once(photos: TrainingData, tmp_path: Path) -> None:
    first, again = Recorder(), Recorder()
    recipe = replace(PHOTOS, classifier=replace(PHOTOS.classifier, pretrain_epochs=3))
    train(recipe, photos, tmp_path / "run", OPTIONS, first)
    assert first.pretrained == 3 * 8  # 306 // 38 steps a pass
    train(recipe, photos, tmp_path / "run", replace(OPTIONS, epochs=2, resume=True), again)
    assert again.first_epoch == 1
    assert again.pretrained == 0


@pytest.mark.long
def test_photographs_are_trained_on(photos: TrainingData, tmp_path: Path) -> None:
    seen = Recorder()
    train(PHOTOS, photos, tmp_path / "run", replace(OPTIONS, epochs=2), seen)
    model, _ = weights.load(tmp_path / "run" / "model.safetensors")
    assert model.log_scale.item() != -2.0  # the scale of the likelihood is learned too
    assert seen.epochs[1]["recon_loss"] < seen.epochs[0]["recon_loss"]


@pytest.mark.long
def test_fine_tuning_uses_other_factors_also_when_it_is_resumed(
    photos: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    training_terms = Objective.training_terms

    def watched(self: Objective, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
        terms = training_terms(self, *batch)
        seen.append((self.weights.target, self.weights.recon))
        return terms

    monkeypatch.setattr(Objective, "training_terms", watched)
    recipe = replace(
        PHOTOS,
        fine_tuning=replace(PHOTOS.loss, target=9.0, recon=0.5),
        fine_tuning_share=0.5,
        classifier=replace(PHOTOS.classifier, pretrain_epochs=0),
    )
    early, late = (PHOTOS.loss.target, PHOTOS.loss.recon), (9.0, 0.5)
    train(recipe, photos, tmp_path / "run", replace(OPTIONS, epochs=2))
    half = len(seen) // 2
    assert seen == [early] * half + [late] * half
    # The latest epoch is exported then, whatever the objective says.
    card = registry.read_card(tmp_path / "run" / "model.safetensors")
    assert card.raw["training"]["epochs"] == 2
    seen.clear()
    # Resumed for more epochs, it is again the second half of them.
    train(recipe, photos, tmp_path / "run", replace(OPTIONS, epochs=6, resume=True))
    assert seen == [early] * half + [late] * (3 * half)


def test_rare_classes_are_seen_more_often_but_not_as_often_as_others() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    data = LabelledImages(torch.zeros(1000, 1, 8, 8, dtype=torch.uint8), labels, ("a", "b"))
    recipe = recipes.for_images(ImageKind.STROKES, data.classes, 28, 1)
    torch.manual_seed(0)
    order = list(_sampler(data, recipe))
    assert len(order) == recipe.min_steps * recipe.batch_size
    share = Counter(labels[order].tolist())[1] / len(order)
    assert 0.22 < share < 0.28  # 1 / (1 + sqrt(9)), where they are 0.1 of the images
    assert sorted(_sampler(data, replace(recipe, min_steps=0))) == list(range(1000))


@pytest.mark.long
def test_two_processes_train_the_same_model(data_dir: Path, tmp_path: Path) -> None:
    """Same seed, same global batch: the losses agree within noise, and both processes agree."""
    # On so few images the course of the whole objective depends on the random numbers, of which each
    # process has its own.
    recipe = replace(
        MNIST,
        batch_size=34,
        loss=LossWeights(target=1.0),
        classifier=ClassifierRecipe(),
        map_dropout=0.0,
        optimizer=replace(MNIST.optimizer, learning_rate=5e-4),
    )
    script = tmp_path / "plain.py"  # a file, which Lightning starts again for the second process
    script.write_text(
        "import os\nimport sys\nfrom pathlib import Path\nimport torch\n"
        "from cvae_cli.data import datasets\nfrom cvae_cli.data.labelled import hold_out\n"
        "from cvae_cli.training.recipe import Recipe\n"
        "from cvae_cli.training.run import TrainerOptions, TrainingData, train\n"
        f"recipe = Recipe.from_dict({recipe.to_dict()!r})\n"
        "if __name__ == '__main__':\n"
        "    devices, out = int(sys.argv[1]), Path(sys.argv[2])\n"
        f"    images = datasets.load('mnist', Path({str(data_dir)!r}), train=True)\n"
        "    data = TrainingData('mnist', 'mnist', *hold_out(images, 5000))\n"
        "    options = TrainerOptions(device='cpu', precision='fp32', epochs=6, devices=devices)\n"
        "    before = dict(os.environ)\n"
        "    train(recipe, data, out, options)\n"
        "    assert dict(os.environ) == before\n"
        "    assert not torch.distributed.is_initialized()\n"
    )
    elbo = {}
    for devices in (1, 2):
        out = tmp_path / f"run{devices}"
        done = subprocess.run(
            [sys.executable, str(script), str(devices), str(out)],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        training = registry.read_card(out / "model.safetensors").raw["training"]
        assert training["processes"] == devices
        elbo[devices] = [metrics["elbo"] for metrics in training["validation"]]
        if len(elbo[devices]) < 6:  # the export is of the best epoch, which need not be the last
            elbo[devices] += [elbo[devices][-1]] * (6 - len(elbo[devices]))
    assert elbo[2][0] == pytest.approx(elbo[1][0], rel=0.15)
    # Once both have settled; over three epochs, since a single one goes up and down.
    assert sum(elbo[2][-3:]) == pytest.approx(sum(elbo[1][-3:]), rel=0.05)
    assert elbo[2][-1] > 1.5 * elbo[2][0]  # and it did learn (both are negative)
    assert re.fullmatch(r"[\d.]+", str(training["minutes"]))
