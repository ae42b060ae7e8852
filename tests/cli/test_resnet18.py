"""``--arch resnet18`` through every command; all but the messages need the extra ``[bolts]``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import HAS_BOLTS
from PIL import Image

from cvae_cli.cli import main
from cvae_cli.model import registry


def cvae(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A folder of two classes, a few small marks each."""
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 2), ("test", 6)):
        for label, name in enumerate(("left", "right")):
            folder = tmp_path / "marks" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((28, 28), np.uint8)
                pixels[6:22, 8 + 8 * label : 11 + 8 * label] = random.integers(150, 256)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "marks"


@pytest.mark.skipif(HAS_BOLTS, reason="is about its absence")
def test_without_the_extra_it_says_how_to_get_it(data_dir: Path, tmp_path: Path) -> None:
    run = cvae("train", "--data-dir", data_dir, "--arch", "resnet18", "--out", tmp_path / "run")
    assert run.exit_code == 2
    assert "pip install '.[bolts]'" in run.stderr
    assert not (tmp_path / "run").exists()


def test_label_blind_is_of_the_prior_works_networks_only(data_dir: Path, tmp_path: Path) -> None:
    run = cvae("train", "--data-dir", data_dir, "--label-blind", "--out", tmp_path / "run")
    assert run.exit_code == 2
    assert "add --arch resnet18" in run.stderr


@pytest.mark.bolts
@pytest.mark.skipif(not HAS_BOLTS, reason="needs lightning-bolts")
def test_its_warnings_are_silenced(marks: Path, tmp_path: Path) -> None:
    """As a process of its own: pytest keeps warnings to itself."""
    command = [sys.executable, "-m", "cvae_cli", "train", "--data", marks, "--arch", "resnet18"]
    command += ["--epochs", "1", "--batch-size", "2", "--out", tmp_path / "run"]
    code = (
        "from cvae_cli.training import recipes; recipes._MIN_STEPS = 2; from cvae_cli.cli import main; main()"
    )
    command[1:3] = ["-c", code]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "epoch   1/1" in run.stderr
    assert "Warning" not in run.stderr, run.stderr  # as "UserWarning: ...", not a path or a word of ours


@pytest.mark.bolts
@pytest.mark.skipif(not HAS_BOLTS, reason="needs lightning-bolts")
def test_the_whole_way(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, resume, export, relabel, grid and evaluate."""
    # So that an epoch is of a few steps.
    monkeypatch.setattr("cvae_cli.training.recipes._MIN_STEPS", 6)
    out, asked = tmp_path / "run", ("--data", marks, "--arch", "resnet18", "--learning-rate", "1e-3")
    run = cvae("train", *asked, "--epochs", "1", "--out", out)
    assert run.exit_code == 0, run.output
    assert "under review" not in run.output
    run = cvae("train", *asked, "--epochs", "3", "--out", out, "--resume")
    assert run.exit_code == 0, run.output
    assert "epoch   3/3" in run.stderr
    card = registry.read_card(out / "model.safetensors")
    assert (card.spec.arch, card.spec.latent_dim, card.spec.canvas_size) == ("resnet18", 256, 32)
    assert "--arch resnet18" in card.raw["train_command"]
    assert card.raw["training"]["recipe"]["batch_size"] == 16

    run = cvae("relabel", marks / "test", "--model", out, "--out", tmp_path / "grids", "--json")
    assert run.exit_code == 0, run.output
    assert len(list((tmp_path / "grids").rglob("*.png"))) == 12
    run = cvae("grid", marks / "test", "--model", out, "--out", tmp_path / "sheet.png")
    assert run.exit_code == 0, run.output
    run = cvae("evaluate", "--model", out, "--json")
    assert run.exit_code == 0, run.output
    metrics = json.loads(run.stdout)["metrics"]
    assert metrics["effectiveness"] is not None
    assert 0 < metrics["composition"] < 255


@pytest.mark.bolts
@pytest.mark.skipif(not HAS_BOLTS, reason="needs lightning-bolts")
def test_a_label_blind_model_is_exported_and_called_so(
    marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvae_cli.training.recipes._MIN_STEPS", 2)
    out = tmp_path / "run"
    run = cvae("train", "--data", marks, "--arch", "resnet18", "--label-blind", "--epochs", "1", "--out", out)
    assert run.exit_code == 0, run.output
    assert "this model ignores its label" in run.stderr
    assert "--label-blind keeps the label from the decoder" in run.stderr
    card = registry.read_card(out / "model.safetensors")
    assert card.ignores_label
    assert card.raw["metrics"]["label_effect"] == 0
    assert card.raw["train_command"].endswith("--arch resnet18 --label-blind")
