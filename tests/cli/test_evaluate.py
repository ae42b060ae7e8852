"""``cvae evaluate`` on the command line: tables, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import manifest_lines

from cvae_cli.cli import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_judge_that_was_missing_says_how_it_was_made(bars_judge: Path) -> None:
    command = json.loads(bars_judge.with_suffix(".json").read_text())["train_command"]
    assert command == f"cvae evaluate --model mnist --data mnist --judge {bars_judge}"


def test_the_table_goes_to_stdout_and_all_else_to_stderr(cvae: Run, data_dir: Path, bars_judge: Path) -> None:
    run = cvae(
        "evaluate", "--data-dir", data_dir, "--judge", bars_judge, "--limit", "20", "--out", "pictures"
    )
    assert run.returncode == 0, run.stderr
    for words in ("effectiveness", "composition, 1 cycle", "r of thickness", "leakage", "bits per dimension"):
        assert words in run.stdout
    assert "20 test images" in run.stdout
    assert "20 images, 180 tiles" in run.stderr
    for name in ("heat-map.png", "worst.png", "random.png", "style.png"):
        assert f"pictures/{name}" in run.stderr
    assert "metric" not in run.stderr


def test_json_is_all_there_is_on_stdout(cvae: Run, data_dir: Path, bars_judge: Path) -> None:
    arguments = ("--data-dir", data_dir, "--judge", bars_judge, "--limit", "20", "--json")
    first, second = cvae("evaluate", *arguments), cvae("-q", "evaluate", *arguments)
    found = json.loads(first.stdout)
    assert found["tiles"] == 180
    assert found["data"] == "mnist"
    assert len(found["pairs"]) == len(found["classes"]) == 10
    assert {"effectiveness", "style_width", "recall", "kl"} <= set(found["metrics"])
    assert second.stderr == ""
    again = json.loads(second.stdout)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "nist"], "no model 'nist'"),
        (["--model", "mnist-judge"], "no model 'mnist-judge'"),
        (["--data", "nist"], "unknown data set 'nist'"),
        (["--limit", "0"], "limit"),
        (["--judge", "judge.pt"], "must end in .safetensors"),
        (["--judge", "weights.safetensors"], "is missing beside it"),
        (["--out", "file"], "takes a folder"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_mistakes(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("weights.safetensors").write_bytes(b"x" * 20)
    run = CliRunner().invoke(main, ["evaluate", "--data-dir", str(data_dir), *arguments])
    assert run.exit_code == 2, run.output
    assert says in run.stderr
    assert "Traceback" not in run.output


def test_check_and_least_confidence_are_said(cvae: Run, examples: Path, tmp_path: Path) -> None:
    run = cvae("relabel", examples / "7", "--out", "out", "--write", "tiles", "--min-confidence", "0.99")
    assert run.returncode == 0, run.stderr
    assert "of 18 tiles show another class" in run.stderr
    assert "left out (below 0.99)" in run.stderr
    lines = manifest_lines(tmp_path / "out")
    assert sum(len(line["judged"]) for line in lines) == 18
    odd = sum(len(line["judged_odd"]) for line in lines)
    assert f"tiles show another class, {odd} are odd, " in run.stderr
    more = ("--write", "tiles", "--min-confidence", "0.5", "--min-realism", "0.3")
    run = cvae("relabel", examples / "7", "--out", "real", *more)
    assert "left out (below 0.5 or realism below 0.3)" in run.stderr
    run = cvae("relabel", examples / "7", "--out", "only", "--write", "tiles", "--min-realism", "0.3")
    assert "left out (realism below 0.3)" in run.stderr
    for wrong in ("1.1", "-0.1", "nan"):
        assert cvae("relabel", examples / "7", "--out", "x", "--min-realism", wrong).returncode == 2
    run = cvae("relabel", examples / "7", "--out", "grids", "--min-confidence", "0.99")
    assert run.returncode == 2
    assert "--write tiles" in run.stderr
    assert cvae("grid", examples / "7", "--check", "--out", "sheet.png").returncode == 0
