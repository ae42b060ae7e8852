"""Completion, as shells ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from helpers import export_untrained

from cvae_cli.cli import main
from cvae_cli.training.recipes import STROKES


def completed(*words: str) -> list[str]:
    """What the last word may become."""
    items = ShellComplete(main, {}, "cvae", "_CVAE_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("re",), ["relabel"]),
        (("relabel", "--model", "m"), ["mnist", "<file>"]),
        (("relabel", "--model", "fashion", "--targets", "s"), ["sandal", "shirt", "sneaker"]),
        (("relabel", "--model", "fashion", "--targets", "shirt,s"), ["shirt,sandal", "shirt,sneaker"]),
        (("relabel", "--targets", "a"), ["all"]),
        (("relabel", "--model", "nowhere", "--targets", "a"), ["all"]),
        (("relabel", "--labels", "f"), ["folder", "<file>"]),
        (("relabel", "--model", "cifar10", "--labels", "fr"), ["frog", "<file>"]),
        (("relabel", "--write", "p"), ["parquet"]),
        (("train", "--data", "c"), ["cifar10", "<dir>"]),
        (("evaluate", "--data", "m"), ["mnist", "<dir>"]),
        (("models", "letters-"), ["letters-judge", "<file>"]),
        (("grid", "--sh"), ["--show"]),
        (("relable", "x"), []),
    ],
)
def test_words_are_completed(words: tuple[str, ...], wanted: list[str]) -> None:
    assert completed(*words) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script_and_answers_without_torch(shell: str) -> None:
    code = (
        "import sys\nfrom cvae_cli.cli import main\n"
        "try:\n    main(prog_name='cvae')\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    known = {
        **os.environ,
        "COMP_WORDS": "cvae relabel --targets ",
        "COMP_CWORD": "" if shell == "fish" else "3",
    }
    run = subprocess.run(
        [sys.executable, "-c", code], env={**known, "_CVAE_COMPLETE": f"{shell}_complete"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "all" in run.stdout
    script = subprocess.run(
        [sys.executable, "-c", code], env={**known, "_CVAE_COMPLETE": f"{shell}_source"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"_CVAE_COMPLETE={shell}_complete" in script


def test_a_model_of_ones_own_has_classes_of_its_own(tmp_path: Path) -> None:
    spec = replace(STROKES.spec, classes=("left", "right"))
    file = export_untrained(spec, tmp_path / "mine.safetensors")
    assert completed("relabel", "--model", str(file), "--targets", "l") == ["left"]
