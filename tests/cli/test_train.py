"""``cvae train`` on the command line: messages, signals, resuming, a folder from end to end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import small_recipe

from cvae_cli.cli import main
from cvae_cli.cli import train as train_command
from cvae_cli.data.pairs import Pairing
from cvae_cli.model import registry, weights
from cvae_cli.training import recipes


def command(data_dir: Path, out: Path, *more: str) -> list[str]:
    """The command as a process."""
    base = ["train", "--data-dir", str(data_dir), "--out", str(out), "--batch-size", "34", "--device", "cpu"]
    return [sys.executable, "-m", "cvae_cli", *base, *more]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.bolts
@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_several_processes_find_the_same_run_folder(data_dir: Path, tmp_path: Path) -> None:
    """Lightning starts the second one by repeating the command."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "cvae_cli", "train", "--data-dir", str(data_dir), "--batch-size", "34"),
            *("--device", "cpu", "--devices", "2", "--epochs", "2"),
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("epoch   2/2") == 1, run.stderr
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["mnist"]
    assert registry.read_card(tmp_path / "runs/mnist/model.safetensors").raw["training"]["processes"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--data", "nothing"],
            "unknown data set 'nothing': neither one of mnist, fashion, cifar10 nor a folder",
        ),
        (["--data", "mnist", "--channels", "3"], "mnist has its own"),
        (["--label-blind"], "add --arch resnet18"),
        (["--resume"], "no run of mnist"),
        (["--arch", "compact"], "'auto', 'resnet18'"),
        (["--distill", "mnist", "--from", "mnist"], "neither --from nor --arch"),
        (["--distill", "nothing"], "nothing"),
    ],
)
def test_mistakes(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(main, ["train", "--data-dir", str(data_dir), *arguments])
    assert run.exit_code == 2, run.output
    assert says in run.stderr
    assert not list(tmp_path.iterdir())


def test_the_whole_way_with_a_folder(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, see how good it is, relabel, make a sheet, with what a newcomer types."""
    for_images = recipes.for_images

    def small(*arguments: object, count: int) -> recipes.Recipe:
        recipe = for_images(*arguments, count=count)  # type: ignore[arg-type]
        return replace(small_recipe(recipe), min_steps=24, batch_size=16)

    monkeypatch.setattr(recipes, "for_images", small)
    monkeypatch.setattr("cvae_cli.judge.train.MIN_STEPS", 100)
    monkeypatch.setattr("cvae_cli.judge.blemishes.MIN_STEPS", 10)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(marks, "marks")
    run = CliRunner().invoke(main, ["train", "--data", "marks", "--epochs", "1", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert "marks: 3 classes, 32x32 grey strokes, resized" in run.stderr
    assert "training images: bar " in run.stderr
    assert "left out marks/bar/broken.png: not an image" in run.stderr
    assert "few training images of ring" in run.stderr
    assert "no pairs: 36 file names occur in several classes" in run.stderr
    assert "this will take about a minute" in run.stderr
    assert "effectiveness" in run.stdout
    assert "style kept, r of slant" in run.stdout
    card = registry.read_card(Path("runs/marks/model.safetensors"))
    assert (card.name, card.raw["data_set"]) == ("marks", "marks")
    assert card.raw["train_command"] == "cvae train --data marks --epochs 1 --seed 0"
    assert Path("runs/marks/judge.safetensors").exists()

    run = CliRunner().invoke(main, ["evaluate", "--model", "runs/marks", "--data", "./marks", "--json"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        main, ["relabel", "marks", "--model", "runs/marks", "--out", "grids", "--check", "--device", "cpu"]
    )
    assert run.exit_code == 3, run.output
    assert "119 done, 1 failed" in run.stderr
    run = CliRunner().invoke(main, ["grid", "--model", "runs/marks", "--rows", "2", "--out", "sheet.png"])
    assert run.exit_code == 0, run.output

    shutil.move("marks", "elsewhere")
    run = CliRunner().invoke(main, ["evaluate", "--model", "runs/marks"])
    assert run.exit_code == 2
    assert "trained on 'marks', which is not here" in run.stderr


def test_train_without_data_and_without_network(
    cvae: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    dead = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    run = cvae("train", "--epochs", "1", "--data-dir", "nothing", env={**dead, "no_proxy": ""})
    assert run.returncode == 2, run.stderr
    assert "could not be downloaded" in run.stderr
    assert "--data-dir" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "runs").exists()


def test_train_refuses_an_unknown_data_set() -> None:
    run = CliRunner().invoke(main, ["train", "--data", "nist"])
    assert run.exit_code == 2
    assert "mnist" in run.stderr


@pytest.mark.parametrize(
    ("pairing", "says"),
    [
        (Pairing(300, 100, 0.9, believed=True, used=True), "pairs: 100 file names occur in several classes"),
        (Pairing(300, 100, 0.9, believed=True), "they are not used"),
        (Pairing(300, 100, 0.5, believed=False), "no pairs: 100 file names"),
    ],
)
def test_what_is_said_of_pairs(pairing: Pairing, says: str) -> None:
    assert says in train_command._about_pairs(pairing)
    assert f"{pairing.nearer:.0%} of the cases" in train_command._about_pairs(pairing)
