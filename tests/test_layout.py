"""The house rules of DESIGN: who may import whom, and what stays out of where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cvae_cli

PACKAGE = Path(cvae_cli.__file__).parent
ALLOWED = {
    "cli": {"cli", "engine", "model", "images", "outcomes", "errors"},
    "engine": {"engine", "model", "images", "outcomes", "errors"},
    "model": {"model", "outcomes", "errors", "weights"},
    "images": {"images", "outcomes", "errors"},
    "outcomes": {"errors"},
    "errors": set(),
}
# Third parties that have one room only.
ROOMS = {
    "click": ("cli",),
    "rich": ("cli",),
    "PIL": ("images",),
    "torch": ("engine", "model"),
    "torchvision": ("engine",),
    "pytorch_lightning": ("engine/train.py",),
    "safetensors": ("model",),
}


def imports(file: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent.name != "weights")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(file: Path) -> None:
    place = file.relative_to(PACKAGE).as_posix()
    room = place.split("/")[0].removesuffix(".py")
    for module in imports(file):
        top, *rest = module.split(".")
        if top == "cvae_cli" and room in ALLOWED and rest and rest[0] != "__version__":
            assert rest[0] in ALLOWED[room], f"{place} imports {module}"
        if top in ROOMS:
            assert place.startswith(ROOMS[top]), f"{place} imports {module}"


def test_the_judge_takes_no_part_in_training() -> None:
    """Nothing that trains a model, or is part of one, knows of the judge or of what uses it.

    Of ``cli/train.py`` one function may, which is called when all is trained and written, and prints
    what `cvae evaluate` would.
    """
    trains = [
        *(PACKAGE / "model").glob("*.py"),
        *(PACKAGE / "engine" / f"{name}.py" for name in ("train", "objective", "recipes")),
    ]
    assert len(trains) > 8
    for file in trains:
        assert "judge" not in file.read_text().lower(), file
        judges = {"cvae_cli.engine.judge", "cvae_cli.engine.evaluate"}
        assert not any(module.startswith(tuple(judges)) for module in imports(file)), file
    command = PACKAGE / "cli" / "train.py"
    before, after = command.read_text().split("def _print_quality(")
    assert "judge" not in (before + after).lower()
    assert "cvae_cli.engine.evaluate" not in before
    assert "engine.judge" not in after


def test_the_rule_sees_a_breach() -> None:
    assert len(FILES) > 20
    assert "pytorch_lightning" in imports(PACKAGE / "engine" / "train.py")
    assert "cvae_cli.engine.draw.Drawer" in imports(PACKAGE / "engine" / "relabel.py")


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["models", "mnist"], ["relabel", "--help"]])
def test_quick_commands_import_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from cvae_cli.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_relabel_loads_neither_lightning_nor_torchvision(examples: Path, tmp_path: Path) -> None:
    """Each takes longer to import than torch, for nothing."""
    code = (
        "import sys; from cvae_cli.cli import main\n"
        f"try: main(['relabel', {str(examples / '7')!r}, '--check', "
        f"'--device', 'cpu', '--out', {str(tmp_path / 'out')!r}])\n"
        "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
        "heavy = {'torchvision', 'pytorch_lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert list((tmp_path / "out").rglob("*.png"))
