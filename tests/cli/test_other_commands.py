"""``cvae``, ``cvae grid``, ``cvae models`` and what ``cvae train`` says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from cvae_cli import __version__
from cvae_cli.cli import main
from cvae_cli.model import registry

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_and_version(cvae_process: Run) -> None:
    run = cvae_process("--help")
    assert run.returncode == 0
    for command in ("relabel", "grid", "train", "evaluate", "models"):
        assert re.search(rf"^  {command} +\w", run.stdout, re.MULTILINE)
        assert invoke(command, "-h").exit_code == 0
    assert cvae_process("--version").stdout == f"cvae, version {__version__}\n"
    assert cvae_process("paint").returncode == 2


def test_short_help_says_what_the_commands_say_themselves() -> None:
    """The group lists its commands without importing them: the two texts must agree."""
    from cvae_cli.cli import _COMMANDS

    for name, text in _COMMANDS.items():
        command = main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.short_help == text


def test_models_lists_what_is_shipped() -> None:
    run = invoke("models")
    lines = run.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "kind", "classes"]
    assert [line.split()[0] for line in lines[1:]] == list(registry.shipped(None))
    assert {line.split()[1] for line in lines[1:]} == {"model", "judge"}
    listed = json.loads(invoke("models", "--json").stdout)
    assert [line["name"] for line in listed] == list(registry.shipped(None))


def test_models_shows_all_of_one(small_model: Path) -> None:
    shown = invoke("models", "mnist").stdout
    card = registry.read_card(registry.shipped()["mnist"])
    assert card.sha256 in shown
    assert card.raw["train_command"] in shown
    assert json.loads(invoke("models", "mnist", "--json").stdout) == card.raw
    assert "classes: cat, dog, a very long class name indeed" in invoke("models", small_model).stdout
    judge = json.loads(invoke("models", "mnist-judge", "--json").stdout)
    assert judge["kind"] == "judge"
    unknown = invoke("models", "nist")
    assert unknown.exit_code == 2
    assert "mnist" in unknown.stderr


def test_models_warns_of_one_that_ignores_its_label(small_model: Path) -> None:
    card = small_model.with_suffix(".json")
    card.write_text(card.read_text().replace('"label_effect": 20.0', '"label_effect": 0.2'))
    assert "ignores its label" in invoke("models", small_model).stderr


def test_grid_of_images(cvae: Run, examples: Path, tmp_path: Path) -> None:
    run = cvae("grid", examples, "--model", "mnist", "--out", "sheet.png")
    assert run.returncode == 0, run.stderr
    assert "24 images -> sheet.png" in run.stderr
    assert run.stdout == ""
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
    assert width > 11 * 84
    assert height > 24 * 84
    run = cvae("grid", examples, "--rows", "3", "--out", "sheet.png")  # its own sheet may be replaced
    assert "3 images" in run.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] < 4 * 92 + 60


def test_grid_of_samples_is_the_same_each_time(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = invoke("grid", "--rows", 2, "--seed", seed, "--out", tmp_path / f"{name}.png")
        assert run.exit_code == 0, run.output
    first, second, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == second != other


def test_grid_of_paths_on_stdin_and_not_of_its_own_sheet(cvae: Run, folder_of_digits: Path) -> None:
    run = cvae("grid", "-", "--out", "imgs/sheet.png", input="imgs/d1.png\nimgs/d2.png\n")
    assert run.returncode == 0, run.stderr
    assert "2 images" in run.stderr
    run = cvae("grid", "imgs", "--out", "imgs/sheet.png")
    assert "10 images" in run.stderr, run.stderr


def test_grid_leaves_out_bad_images(folder_of_digits: Path, tmp_path: Path) -> None:
    (folder_of_digits / "bad.png").touch()
    run = invoke("grid", folder_of_digits, "--out", tmp_path / "sheet.png")
    assert run.exit_code == 3
    assert "failed bad.png: empty file" in run.stderr
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "."], "is a folder"),
        (["--out", "sheet.jpg"], "ends in .png"),
        (["--out", "photo.png"], "--overwrite"),
        (["--out", "sheet.png", "--model", "nist"], "no model 'nist'"),
        (["--out", "sheet.png", "nowhere"], "no such file"),
        (["--out", "sheet.png", "bad"], "none of the images"),
        (["--out", "sheet.png", "--rows", "0"], "rows"),
    ],
)
def test_grid_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (5, 5)).save("photo.png")
    Path("bad").mkdir()
    Path("bad/x.png").touch()
    before = Path("photo.png").read_bytes()
    run = invoke("grid", *arguments)
    assert run.exit_code == 2, run.output
    assert says in run.stderr
    assert Path("photo.png").read_bytes() == before
    assert not Path("sheet.png").exists()


def test_train_without_data_and_without_network(cvae: Run, tmp_path: Path) -> None:
    dead = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    run = cvae("train", "--epochs", "1", "--data-dir", "nothing", env={**dead, "no_proxy": ""})
    assert run.returncode == 2, run.stderr
    assert "could not be downloaded" in run.stderr
    assert "--data-dir" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "runs").exists()


def test_train_refuses_an_unknown_data_set() -> None:
    run = invoke("train", "--data", "nist")
    assert run.exit_code == 2
    assert "mnist" in run.stderr
