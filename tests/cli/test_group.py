"""The ``cvae`` command itself: its commands, its help, and what becomes of errors."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from helpers import ROOT, invoke

from cvae_cli import __version__
from cvae_cli.cli import main
from cvae_cli.errors import DataError, ImageError, LabelIgnoredWarning

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_help_and_version(cvae_process: Run) -> None:
    run = cvae_process("--help")
    assert run.returncode == 0
    for command in ("relabel", "grid", "gallery", "train", "evaluate", "models"):
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


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("no such data set; name another."), 2, "error: no such data set; name another.\n"),
        (click.UsageError("not like this"), 2, "not like this"),
        (KeyboardInterrupt(), 130, "interrupted; everything that was finished is kept."),
        (ImageError("a bug, since the job should have taken it"), 1, "please report it"),
        (ZeroDivisionError("surprise"), 1, "ZeroDivisionError: surprise"),
        (OSError(28, "No space left on device"), 2, "stdout, stderr or a temporary file"),
        (OSError(28, "No space left on device", "a"), 1, "please report it"),
        (sqlite3.OperationalError("database or disk is full"), 2, "setting TMPDIR or SQLITE_TMPDIR"),
    ],
)
def test_errors_become_messages_and_exit_codes(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(type(main), "get_command", lambda *_: failing)
    run = invoke("models")
    assert run.exit_code == code
    assert says in run.stderr
    assert ("Traceback" in run.stderr) is (code == 1)


def test_a_warning_of_ours_is_a_message_without_its_place(cvae: Run, small_model: object) -> None:
    run = cvae("grid", "--model", small_model, "--rows", "1", "--out", "sheet.png", "--device", "cpu")
    assert run.returncode == 0, run.stderr
    assert "warning: the model small ignores its label" in run.stderr
    assert LabelIgnoredWarning.__name__ not in run.stderr
    assert ".py" not in run.stderr


@pytest.mark.parametrize(("given", "meant"), [("relable", "relabel"), ("galery", "gallery"), ("xyzzy", None)])
def test_a_mistyped_command_is_answered_with_the_nearest(given: str, meant: str | None) -> None:
    run = invoke(given)
    assert run.exit_code == 2
    assert f"no such command '{given}'." in run.stderr
    assert ("Did you mean" in run.stderr) is (meant is not None)
    assert meant is None or f"Did you mean {meant}?" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("models", "mnits"), "mnist"),
        (("relabel", ".", "--out", "x", "--model", "Cifar-10"), "cifar10"),
        (("train", "--data", "fasion"), "fashion"),
        (
            ("relabel", "examples/digits", "--out", "x", "--model", "fashion", "--targets", "sneeker"),
            "sneaker",
        ),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(arguments: tuple[str, ...], meant: str) -> None:
    run = invoke(*arguments)
    assert (run.exit_code, f"Did you mean {meant}?" in run.stderr) == (2, True), run.stderr


def test_quiet_and_verbose_are_taken_after_the_command_too(tmp_path: Path) -> None:
    image = ROOT / "examples" / "digits" / "chalk-00.png"

    def said(*arguments: object) -> str:
        return invoke(*arguments, "--out", tmp_path / "out", "--overwrite").stderr

    assert said("relabel", image, "-q") == said("-q", "relabel", image) == ""
    assert said("relabel", image, "-v") == said("-v", "relabel", image)
    assert "chalk-00.png: 0 (predict)" in said("relabel", image, "--verbose")
    assert said("-q", "relabel", image, "-v") == said("-v", "relabel", image, "-q") == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("models > /dev/full", 2, "cannot be written: No space left on device."),
        ("models nosuch 2> /dev/full", 2, ""),
        ("models > /dev/full 2>&-", 2, ""),
        ("relabel - --out out <&-", 2, "- is for a list of paths on stdin, which is closed."),
    ],
)
def test_streams_that_cannot_be_used_are_no_bug(command: str, code: int, says: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m cvae_cli {command}"
    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert says in run.stderr
