from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cvae_cli.engine import datasets
from cvae_cli.engine.objective import Objective, frozen, other_labels
from cvae_cli.engine.recipes import CIFAR10, MNIST, RECIPES, Recipe
from cvae_cli.engine.train import TrainOptions, train
from cvae_cli.errors import DataError, UserError
from cvae_cli.model import weights
from cvae_cli.model.network import ConditionalVAE
from cvae_cli.outcomes import FolderFound


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.steps = self.taught = 0

    def found(self, found: FolderFound) -> None:
        """Nothing."""

    def teaching(self, done: int, steps: int) -> None:
        self.taught = done

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        self.first_epoch, self.per_epoch = first_epoch, steps

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        self.steps += 1

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        self.epochs.append(metrics)


def short(data_dir: Path, out: Path, **changes: object) -> TrainOptions:
    asked: dict = {"data_dir": data_dir, "out": out, "epochs": 1, "batch_size": 34, "precision": "fp32"}
    return TrainOptions(device="cpu", **{**asked, **changes})


@pytest.mark.bolts
def test_a_run_leaves_weights_logs_and_a_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = Recorder()
    result = train(short(data_dir, tmp_path / "run", epochs=6), seen)
    assert seen.per_epoch == 9
    assert seen.steps == 54
    assert result.epochs == len(seen.epochs) == 6
    assert result.interrupted is None
    assert seen.epochs[-1]["elbo"] > seen.epochs[0]["elbo"]
    model, card = weights.load(tmp_path / "run" / "model.safetensors")
    assert result.weights == tmp_path / "run" / "model.safetensors"
    assert card.raw["train_command"] == (
        "cvae train --data mnist --epochs 6 --seed 0 --batch-size 34 --precision fp32"
    )
    best = min(seen.epochs, key=lambda metrics: metrics["objective"])
    assert card.raw["metrics"] == pytest.approx(best, abs=1e-4)
    assert Recipe.from_dict(card.raw["training"]["recipe"]).spec == model.spec
    assert (tmp_path / "run" / "last.ckpt").exists()
    logs = EventAccumulator(str(tmp_path / "run" / "logs"), size_guidance={"images": 0})
    logs.Reload()
    assert {"elbo", "kl", "recon_loss", "val_elbo", "val_label_effect"} <= set(logs.Tags()["scalars"])
    assert {"reconstruction", "relabelled"} <= set(logs.Tags()["images"])
    assert len(logs.Images("relabelled")) == 6
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.bolts
def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values(data_dir: Path, tmp_path: Path) -> None:
    train(short(data_dir, tmp_path / "run"), Recorder())
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_a_model_that_ignores_its_label_is_called_so(data_dir: Path, tmp_path: Path) -> None:
    """After nine steps of a tiny rate the decoder has not begun to use the label."""
    result = train(short(data_dir, tmp_path / "run", learning_rate=1e-9), Recorder())
    assert "ignores its label" in result.warning
    assert weights.read_card(tmp_path / "run" / "model.safetensors").ignores_label


@pytest.mark.bolts
def test_resume_goes_on_where_it_was(data_dir: Path, tmp_path: Path) -> None:
    first = Recorder()
    train(short(data_dir, tmp_path / "run", epochs=2), first)
    second = Recorder()
    result = train(short(data_dir, tmp_path / "run", epochs=3, resume=True), second)
    assert (second.first_epoch, len(second.epochs), result.epochs) == (2, 1, 3)
    # Weights, averages and the optimiser were taken over: no fresh start.
    assert second.epochs[0]["recon_loss"] < first.epochs[0]["recon_loss"]
    done = Recorder()
    assert train(short(data_dir, tmp_path / "run", epochs=3, resume=True), done).epochs == 3
    assert done.steps == 0


def test_a_run_folder_is_not_overwritten_nor_mixed_up(data_dir: Path, tmp_path: Path) -> None:
    train(short(data_dir, tmp_path / "run"), Recorder())
    with pytest.raises(UserError, match="--resume"):
        train(short(data_dir, tmp_path / "run"), Recorder())
    with pytest.raises(UserError, match="other data, seed"):
        train(short(data_dir, tmp_path / "run", seed=1, resume=True), Recorder())
    with pytest.raises(UserError, match="no such run"):
        train(short(data_dir, tmp_path / "other", resume=True), Recorder())
    (tmp_path / "junk").mkdir()
    with pytest.raises(UserError, match="not a run folder"):
        train(short(data_dir, tmp_path / "junk", resume=True), Recorder())


@pytest.mark.bolts
def test_runs_find_a_name_of_their_own(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run of mnist"):
        train(short(data_dir, None, resume=True), Recorder())
    for name in ("mnist", "mnist-2"):
        monkeypatch.delenv("CVAE_TRAIN_OUT", raising=False)
        assert train(short(data_dir, None), Recorder()).folder == Path("runs") / name


def test_too_few_images_and_batches_that_cannot_be_shared(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fill one batch"):
        train(short(data_dir, tmp_path / "run", batch_size=500), Recorder())
    with pytest.raises(UserError, match="cannot be shared by 3"):
        train(short(data_dir, tmp_path / "run2", devices=3), Recorder())
    with pytest.raises(UserError, match=r"cannot train so .*nonsense"):
        train(short(data_dir, tmp_path / "run3", strategy="nonsense"), Recorder())
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        train(short(data_dir, tmp_path / "run4", precision="fp16"), Recorder())
    assert not list(tmp_path.iterdir())  # a start that failed leaves nothing in the way of the next


def test_missing_and_damaged_data(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def no_network(self: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nmany\nlines")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", no_network)
    with pytest.raises(DataError, match=r"could not be downloaded .*--data-dir"):
        datasets.load("mnist", tmp_path, train=True)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_dir / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        datasets.load("mnist", tmp_path, train=True)
    with pytest.raises(DataError, match="unknown data set"):
        datasets.load("nist", tmp_path, train=True)


def command(data_dir: Path, out: Path, *more: str) -> list[str]:
    base = ["train", "--data-dir", str(data_dir), "--out", str(out), "--batch-size", "34", "--device", "cpu"]
    return [sys.executable, "-m", "cvae_cli", *base, *more]


def wait_for(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.bolts
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_the_best_weights(data_dir: Path, tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(command(data_dir, out, "--epochs", "5000"), stderr=subprocess.PIPE, text=True)
    wait_for((out / "model.safetensors").exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "--resume" in said
    weights.load(out / "model.safetensors")
    assert (out / "last.ckpt").exists()


def test_a_killed_run_is_resumed(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(command(data_dir, out, "--epochs", "5000"), stderr=subprocess.DEVNULL)
    wait_for((out / "last.ckpt").exists)
    process.kill()
    process.wait()
    epochs = torch.load(out / "last.ckpt", weights_only=True)["epoch"] + 1
    again = subprocess.run(
        command(data_dir, out, "--epochs", str(epochs + 2), "--resume"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"epoch {epochs + 2:3d}/{epochs + 2}" in again.stderr
    assert "epoch   1/" not in again.stderr
    history = json.loads((out / "model.json").read_text())["training"]["validation"]
    assert len(history) >= epochs


def test_two_processes_train_the_same_model(data_dir: Path, tmp_path: Path) -> None:
    """Same seed, same global batch: the losses agree within noise, and both processes agree."""
    elbo = {}
    script = tmp_path / "plain.py"  # a file, which Lightning starts again for the second process
    script.write_text(
        "from dataclasses import replace\n"
        "from cvae_cli.cli import main\n"
        "from cvae_cli.engine.recipes import MNIST, RECIPES, LossWeights\n"
        "if __name__ == '__main__':\n"
        # On so few images the course of the whole objective hangs on the draws, each process's own.
        "    RECIPES['mnist'] = replace(MNIST, loss=LossWeights(target=1.0), target_square=0.0)\n"
        "    main()\n"
    )
    for devices in (1, 2):
        out = tmp_path / f"run{devices}"
        run = command(
            data_dir,
            out,
            "--epochs",
            "6",
            "--learning-rate",
            "5e-4",
            "--precision",
            "fp32",
            "--devices",
            str(devices),
        )
        done = subprocess.run(
            [sys.executable, str(script), *run[run.index("train"):]],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch   6/6") == 1, done.stderr
        elbo[devices] = [float(found) for found in re.findall(r"elbo\s+(-[\d.]+)  recon", done.stderr)]
        card = weights.read_card(out / "model.safetensors")
        assert card.raw["training"]["processes"] == devices
    assert len(elbo[1]) == len(elbo[2]) == 6
    assert elbo[2][0] == pytest.approx(elbo[1][0], rel=0.15)
    # Where both have settled; over three epochs, since one goes up and down.
    assert sum(elbo[2][-3:]) == pytest.approx(sum(elbo[1][-3:]), rel=0.05)
    assert elbo[2][-1] > 1.5 * elbo[2][0]  # and it did learn (both are negative)


def test_frozen_passes_gradients_through_but_keeps_none(small_spec) -> None:
    model = ConditionalVAE(small_spec)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    frozen(model.classifier, x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.classifier.parameters())


def test_the_model_never_learns_to_please_the_classifier_by_changing_it() -> None:
    """The target term moves the decoder, and leaves the classifier's weights alone."""
    torch.manual_seed(0)
    objective = Objective(MNIST)
    terms = objective.training_terms(
        torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8)
    )
    terms["target"].backward()
    assert all(value.grad is None for value in objective.model.classifier.parameters())
    assert objective.model.decoder.out.weight.grad.abs().sum() > 0
    assert objective.model.encoder.stem.weight.grad.abs().sum() > 0


def test_the_discriminator_is_not_trained_by_the_realism_term() -> None:
    torch.manual_seed(0)
    objective = Objective(MNIST)
    terms = objective.training_terms(
        torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8)
    )
    terms["realism"].backward(retain_graph=True)
    assert all(value.grad is None for value in objective.discriminator.parameters())
    objective.model.zero_grad()
    terms["discriminator"].backward()
    assert all(value.grad is not None for value in objective.discriminator.parameters())
    assert all(value.grad is None for value in objective.model.parameters())


def test_other_labels_are_other_and_uniform() -> None:
    y = torch.randint(0, 10, (20_000,))
    other = other_labels(y, 10)
    assert (other != y).all()
    counts = torch.bincount((other - y) % 10, minlength=10)[1:]
    assert counts.min() > 0.85 * counts.max()


def test_averaged_weights_follow() -> None:
    objective = Objective(MNIST)
    with torch.no_grad():
        for parameter in objective.model.parameters():
            parameter.fill_(1.0)
    for _ in range(50):
        objective.update_average()
    assert all(torch.allclose(value, torch.ones(()), atol=0.01) for value in objective.averaged.parameters())


def test_hold_out_is_disjoint_and_the_same_each_time(data_dir: Path) -> None:
    data = datasets.load("mnist", data_dir, train=True)
    data.images[:, 0, 0, 0] = (torch.arange(340) % 251).byte()
    data.images[:, 0, 0, 1] = (torch.arange(340) // 251).byte()
    parts = [datasets.hold_out(data, 5000) for _ in range(2)]
    marks = [[(int(i[0, 0, 0]), int(i[0, 0, 1])) for i in part.images] for part in parts[0]]
    assert len(marks[1]) == 340 // 10
    assert not set(marks[0]) & set(marks[1])
    assert len(set(marks[0]) | set(marks[1])) == 340
    assert torch.equal(parts[0][1].images, parts[1][1].images)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(RECIPES[name].to_dict()))) == RECIPES[name]


def some_digits(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Random bright blocks, (N, 1, 28, 28) uint8, and labels in turn."""
    random = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for image in images:
        x, y = torch.randint(6, 16, (2,), generator=random).tolist()
        image[0, y : y + 8, x : x + 3] = 255
    return images, torch.arange(count) % 10


def test_a_step_names_its_terms_and_sums_them() -> None:
    torch.manual_seed(0)
    objective = Objective(MNIST)
    images, y = some_digits()
    objective.measure_classes(images, y)
    terms = objective.training_terms(images, y)
    weights_of = MNIST.loss
    wanted = {
        "recon_loss": weights_of.recon, "kl": weights_of.kl, "sharpness": weights_of.sharpness,
        "classifier": 1.0, "target": weights_of.target, "cycle": weights_of.cycle, "style": weights_of.style,
        "discriminator": 1.0, "realism": weights_of.realism,
    }  # fmt: skip
    assert set(terms) == {*wanted, "elbo", "loss"}
    assert all(weight > 0 for weight in wanted.values())
    total = sum(weight * float(terms[name].detach()) for name, weight in wanted.items())
    assert float(terms["loss"].detach()) == pytest.approx(total, rel=1e-5)


def test_a_drawing_with_the_style_of_its_original_costs_nothing() -> None:
    torch.manual_seed(0)
    objective = Objective(MNIST)
    images, y = some_digits()
    objective.measure_classes(images, y)
    x = objective.to_input(images)
    assert float(objective._style_difference(x, y, x, y)) < 0.2  # scribbles beyond the clamp
    thick = torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1)
    assert float(objective._style_difference(x, y, thick, y)) > 1


def test_the_common_code_leaves_the_reconstruction_as_it_is() -> None:
    """What is carried over is carried back: only other labels draw another picture."""
    torch.manual_seed(0)
    objective = Objective(MNIST)
    images, y = some_digits()
    model, x = objective.averaged, objective.to_input(images)
    with torch.no_grad():
        before = model.decode(model.encode(x, y)[0], y)
        objective.fit_average(images, y)
        code, _ = model.encode(x, y)
        torch.testing.assert_close(model.decode(code, y), before, rtol=1e-3, atol=1e-3)
    means = torch.stack([code[y == label].mean(dim=0) for label in range(10)])
    assert means.abs().max() < 1e-2
    assert not torch.equal(model.common.there[0], torch.eye(MNIST.spec.latent_dim))


def test_the_model_follows_its_codes_while_it_trains() -> None:
    torch.manual_seed(0)
    objective = Objective(replace(MNIST, warmup_steps=1))
    images, y = some_digits()
    for _ in range(60):
        with torch.no_grad():
            objective.training_terms(images, y)
            objective.update_average()
    assert objective.model.common.centre.abs().max() > 0
    assert float(objective.code_share.sum()) == pytest.approx(1, abs=1e-4)
    parameters = {name for name, _ in objective.named_parameters()}
    assert not any("code_" in name or "common" in name for name in parameters)


def test_photographs_are_trained_on_from_class_folders(photo_dir: Path, tmp_path: Path) -> None:
    seen = Recorder()
    train(short(photo_dir, tmp_path / "run", data="cifar10", epochs=2), seen)
    model, card = weights.load(tmp_path / "run" / "model.safetensors")
    assert card.raw["data_set"] == "cifar10"
    assert model.spec.classes[:2] == ("airplane", "automobile")
    # The scale of the likelihood is learned with the rest.
    assert model.log_scale.item() != -2.0
    assert seen.epochs[1]["recon_loss"] < seen.epochs[0]["recon_loss"]


@pytest.mark.bolts
def test_the_classifier_learns_first_and_once(photo_dir: Path, tmp_path: Path) -> None:
    first, again = Recorder(), Recorder()
    train(short(photo_dir, tmp_path / "run", data="cifar10"), first)
    assert first.taught == CIFAR10.classifier_epochs * (306 // 128)
    train(short(photo_dir, tmp_path / "run", data="cifar10", epochs=2, resume=True), again)
    assert again.first_epoch == 1
    assert again.taught == 0


def test_what_the_classifier_learns_it_keeps() -> None:
    torch.manual_seed(0)
    objective = Objective(replace(CIFAR10, classifier_epochs=1, least_steps=30))
    y = torch.arange(128) % 10
    images = (y[:, None, None, None] * 25 + torch.randint(0, 10, (128, 3, 32, 32))).to(torch.uint8)
    before = {name: value.clone() for name, value in objective.model.decoder.state_dict().items()}
    objective.teach_classifier(images, y, bf16=False, progress=lambda done, steps: None)
    for model in (objective.model, objective.averaged):
        read = model.eval().classify(objective.to_input(images)).argmax(dim=1)
        assert (read == y).float().mean() > 0.3  # chance is a tenth
    assert all(
        torch.equal(value, before[name]) for name, value in objective.model.decoder.state_dict().items()
    )


def test_reconstructions_are_seen_too_where_features_are_compared() -> None:
    torch.manual_seed(0)
    objective = Objective(CIFAR10)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    terms = objective.training_terms(images, torch.arange(4))
    terms["features"].backward()
    assert objective.discriminator is not None
    assert all(value.grad is None for value in objective.discriminator.parameters())
    assert objective.model.decoder.out.weight.grad.abs().sum() > 0


def test_a_classifier_that_rests_is_not_moved_by_what_it_teaches() -> None:
    torch.manual_seed(0)
    objective = Objective(CIFAR10)
    assert objective.feature_discriminator is not None
    before = {name: value.clone() for name, value in objective.model.classifier.state_dict().items()}
    optimizer = torch.optim.Adam(objective.parameter_groups())
    terms = objective.training_terms(
        torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.arange(4)
    )
    assert "classifier" not in terms
    terms["loss"].backward()
    optimizer.step()
    after = objective.model.classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for network in (objective.model.decoder, objective.model.encoder, objective.feature_discriminator):
        assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())


def test_the_last_part_of_a_training_weighs_otherwise_also_when_it_is_resumed(
    photo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []

    def watched(self: Objective, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
        terms = training_terms(self, *batch)
        seen.append((self.weights.target, self.weights.recon))
        return terms

    training_terms = Objective.training_terms
    monkeypatch.setattr(Objective, "training_terms", watched)
    finish = replace(CIFAR10.loss, target=9.0, recon=0.5)
    recipe = replace(CIFAR10, finish=finish, finish_share=0.5, classifier_epochs=0)
    monkeypatch.setitem(RECIPES, "cifar10", recipe)
    early, late = (CIFAR10.loss.target, CIFAR10.loss.recon), (9.0, 0.5)
    observer = Recorder()
    train(short(photo_dir, tmp_path / "run", data="cifar10", epochs=2), observer)
    half = len(seen) // 2
    assert seen == [early] * half + [late] * half
    # The latest is taken there, whatever the objective says.
    card = weights.read_card(tmp_path / "run" / "model.safetensors")
    assert card.raw["training"]["epochs"] == 2
    seen.clear()
    train(short(photo_dir, tmp_path / "run", data="cifar10", epochs=4, resume=True), Recorder())
    assert seen == [late] * (2 * half)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_codes_stay_as_they_are_in_the_last_part_of_a_training() -> None:
    torch.manual_seed(0)
    objective = Objective(CIFAR10)
    images, y = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 10
    optimizer = torch.optim.Adam(objective.parameter_groups(), lr=1e-3)

    def step() -> dict[str, torch.Tensor]:
        terms = objective.training_terms(images[:8], y[:8])
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        objective.update_average()
        return terms

    for _ in range(3):  # so that the optimiser has momentum
        step()
    objective.finish(images, y)
    assert CIFAR10.finish is not None
    assert objective.weights == CIFAR10.finish

    def state(part: str) -> dict[str, torch.Tensor]:
        every = objective.model.state_dict().items()
        return {name: value.clone() for name, value in every if name.startswith(part)}

    still, moved = {**state("encoder"), **state("common")}, state("decoder")
    # The model has the codes of its average, which is what is exported.
    for name, value in objective.model.encoder.state_dict().items():
        assert torch.equal(value, objective.averaged.encoder.state_dict()[name])
    terms = [step() for _ in range(3)][-1]
    assert terms["cycle"].requires_grad
    assert all(
        torch.equal(value, still[name]) for name, value in (state("encoder") | state("common")).items()
    )
    assert not all(torch.equal(value, moved[name]) for name, value in state("decoder").items())
    # Every parameter has a gradient, which training on several processes waits for.
    assert all(value.grad is not None for value in objective.model.encoder.parameters())


@pytest.mark.parametrize("term", ["target", "realism", "perceptual"])
def test_each_term_of_photographs_reaches_the_decoder_and_nothing_that_judges(term: str) -> None:
    torch.manual_seed(0)
    objective = Objective(replace(CIFAR10, target_margin=0.0))
    terms = objective.training_terms(
        torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.arange(4)
    )
    terms[term].backward()
    assert objective.model.decoder.out.weight.grad.abs().sum() > 0
    for network in (objective.discriminator, objective.feature_discriminator, objective.model.classifier):
        assert network is not None
        assert all(value.grad is None for value in network.parameters())


def test_the_classifier_asks_no_more_of_a_tile_that_is_good_enough() -> None:
    objective = Objective(replace(MNIST, target_margin=0.5, target_square=2.0))
    assert objective._misread(torch.tensor([0.1, 0.4])).item() == 0
    assert objective._misread(torch.tensor([0.1, 1.5])).item() == pytest.approx((1 + 2 * 1) / 2)


def test_some_of_the_images_are_changed_and_the_set_itself_is_not() -> None:
    torch.manual_seed(0)
    objective = Objective(replace(MNIST, input_share=0.5))
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    before = images.clone()
    x = objective.to_input(images)
    changed = objective._changed(x.clone())
    assert 5 < (changed != x).any(dim=(1, 2, 3)).sum() < 35
    assert torch.equal(images, before)
