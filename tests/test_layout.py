"""The rules of the house: who may import whom, and what stays out of where."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from helpers import ROOT

import cvae_cli

PACKAGE = Path(cvae_cli.__file__).parent
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent.name != "weights")

BASE = {"errors", "outcomes", "storage"}
LOWER = {"data", "inference", "model", "images", *BASE}
ALLOWED: dict[str, set[str]] = {
    "cli": {"cli", "relabelling", "training", "evaluation", "judge", *LOWER},
    "relabelling": {"relabelling", "judge", *LOWER},
    "evaluation": {"evaluation", "judge", *LOWER},
    "training": {"training", *(LOWER - {"inference"})},
    "judge": {"judge", *LOWER},
    "data": {"data", "model", "images", *BASE},
    "inference": {"inference", "model", "images", *BASE},
    "model": {"model", "weights", *BASE},
    "images": {"images", *BASE},
    "storage": {"errors"},
    "outcomes": {"errors"},
    "errors": set(),
}
"""Which rooms a room may import."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "click": ("cli/",),
    "rich": ("cli/",),
    "pytorch_lightning": ("training/",),
    "PIL": ("images/",),
    "torchvision": ("data/datasets.py",),
    "safetensors": ("model/weights.py",),
    "skimage": ("evaluation/strokes.py",),
    "scipy": ("evaluation/strokes.py",),
    **dict.fromkeys(
        ("shutil", "tempfile", "fcntl", "glob", "stat", "gzip"), ("storage.py", "images/discover.py")
    ),
}
"""Where other packages, and the file system, may be imported."""

FILE_SYSTEM = ("storage.py", "images/discover.py")
OS_FUNCTIONS = {
    *("open", "read", "write", "close", "replace", "rename", "remove", "unlink", "listdir", "scandir"),
    *("walk", "stat", "lstat", "mkdir", "makedirs", "rmdir", "link", "symlink", "access", "utime", "path"),
}
PATH_METHODS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch"),
    *("iterdir", "glob", "rglob", "exists", "is_file", "is_dir", "stat", "samefile", "rename"),
}
NOT_PATHS = {"Image", "storage", "os"}
"""Names whose attributes of these names are no methods of a path."""

WITHOUT_TESTS = {
    "__init__.py": "only imports",
    "__main__.py": "one line; every test that starts a process runs it",
    "errors.py": "classes without behaviour",
    "outcomes.py": "tests/cli and tests/relabelling read every field",
    "cli/__init__.py": "tests/cli/test_other_commands.py",
    "cli/console.py": "tests/cli read what it prints",
    "cli/grid.py": "tests/cli/test_other_commands.py",
    "cli/models.py": "tests/cli/test_other_commands.py",
    "cli/options.py": "tests/cli/test_relabel.py",
    "cli/tables.py": "tests/cli/test_evaluate.py",
    "data/catalogue.py": "constants",
    "evaluation/measure.py": "tests/evaluation/test_run.py",
    "evaluation/pictures.py": "tests/evaluation/test_run.py",
    "evaluation/report.py": "tests/evaluation/test_run.py",
    "evaluation/style.py": "tests/evaluation/test_run.py",
    "evaluation/tiles.py": "tests/evaluation/test_run.py",
    "images/captions.py": "tests/images/test_grid.py",
    "images/charts.py": "tests/evaluation/test_run.py",
    "images/ink.py": "tests/images/test_prepare.py",
    "images/preprocessing.py": "tests/images/test_load.py",
    "inference/batching.py": "tests/inference/test_relabeller.py",
    "inference/threads.py": "tests/inference/test_relabeller.py",
    "judge/files.py": "tests/judge/test_judge.py",
    "judge/network.py": "tests/judge/test_judge.py",
    "judge/predict.py": "tests/judge/test_judge.py",
    "judge/train.py": "tests/judge/test_judge.py",
    "model/device.py": "tests/inference/test_relabeller.py",
    "model/discriminators.py": "tests/training/test_objective.py",
    "model/registry.py": "tests/model/test_weights.py",
    "relabelling/batch.py": "tests/relabelling/test_worker.py",
    "relabelling/options.py": "a record",
    "relabelling/render.py": "tests/relabelling/test_worker.py",
    "relabelling/resume.py": "tests/relabelling/test_worker.py",
    "relabelling/sheet.py": "tests/cli/test_other_commands.py",
    "training/callbacks.py": "tests/training/test_run.py",
    "training/compat.py": "tests/training/test_run.py",
    "training/module.py": "tests/training/test_run.py",
}
"""Modules without a test file of their own, and why, or where they are tested."""


def breaches(root: Path, files: Iterable[Path]) -> list[str]:
    """Every import or call that breaks a rule, as ``FILE: WHAT``."""
    found: list[str] = []
    for file in files:
        place = file.relative_to(root).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found += [f"{place}: {what}" for what in (*_bad_imports(place, tree), *_bad_calls(place, tree))]
    return found


def _bad_imports(place: str, tree: ast.AST) -> Iterator[str]:
    room = place.split("/")[0].removesuffix(".py")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "relative import"
            continue
        for module in sorted(_modules(node)):
            top, *rest = module.split(".")
            ours = top == "cvae_cli" and rest and rest[0] != "__version__"
            if ours and room in ALLOWED and rest[0] not in ALLOWED[room]:
                yield module
            if top in ONLY_IN and not place.startswith(ONLY_IN[top]):
                yield module
            if top == "os" and rest and rest[0] in OS_FUNCTIONS and place not in FILE_SYSTEM:
                yield module


def _modules(node: ast.AST) -> set[str]:
    """What one statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def _bad_calls(place: str, tree: ast.AST) -> Iterator[str]:
    """Uses of the file system elsewhere than where it lives."""
    if place in FILE_SYSTEM:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner == "os" and node.attr in OS_FUNCTIONS:
            yield f"os.{node.attr}"
        elif node.attr in PATH_METHODS and owner not in NOT_PATHS:
            yield f".{node.attr}"


def test_the_package_keeps_the_rules() -> None:
    assert len(FILES) > 60
    assert breaches(PACKAGE, FILES) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("images/new.py", "from cvae_cli.model import spec"),
        ("model/new.py", "import cvae_cli.images.decode"),
        ("model/new.py", "from cvae_cli.data.augment import random_flip"),
        ("training/new.py", "from cvae_cli.judge.predict import Judge"),
        ("training/new.py", "from cvae_cli.inference import relabeller"),
        ("training/new.py", "def late():\n    from cvae_cli.evaluation import run"),
        ("relabelling/new.py", "from cvae_cli.training import recipes"),
        ("evaluation/new.py", "from cvae_cli.relabelling import labels"),
        ("judge/new.py", "from cvae_cli.training import recipes"),
        ("data/new.py", "from cvae_cli.inference import batching"),
        ("storage.py", "from cvae_cli.images import png"),
        ("relabelling/new.py", "from cvae_cli.cli import console"),
        ("images/new.py", "from . import decode"),
        ("relabelling/new.py", "import click"),
        ("training/new.py", "from rich.progress import Progress"),
        ("judge/new.py", "import pytorch_lightning as pl"),
        ("evaluation/new.py", "from PIL import Image"),
        ("images/new.py", "import shutil"),
        ("data/new.py", "from os import scandir"),
        ("data/new.py", "import os\nnames = os.listdir('.')"),
        ("relabelling/new.py", "def exists(path):\n    return path.exists()"),
        ("training/new.py", "def read(path):\n    return path.parent.read_text()"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, place: str, line: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("from cvae_cli.errors import UserError\nimport os\nos.environ.get('HOME')\n")
    assert breaches(tmp_path, [file]) == []
    file.write_text(f"{line}\n")
    assert len(breaches(tmp_path, [file])) == 1


def test_setup_cfg_lists_the_packages_that_there_are() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    folders = {file.parent for file in (ROOT / "cvae_cli").rglob("*.py")}
    there = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == sorted(there | {"cvae_cli.weights"})


def test_no_file_is_longer_than_a_newcomer_would_read() -> None:
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_module_has_its_test_file() -> None:
    missing = []
    for file in FILES:
        place = file.relative_to(PACKAGE)
        test = ROOT / "tests" / place.parent / f"test_{place.name}"
        # A room's __init__ holds its description.
        if place.name != "__init__.py" and not test.exists() and place.as_posix() not in WITHOUT_TESTS:
            missing.append(place.as_posix())
    assert missing == []
    gone = [name for name in WITHOUT_TESTS if not (PACKAGE / name).exists()]
    assert gone == []


def test_no_test_imports_another_test() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            imported = {module.split(".")[0] for module in _modules(node)}
            assert not {name for name in imported if name.startswith(("test_", "tests", "conftest"))}, file


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["models", "mnist"], ["relabel", "--help"]])
def test_quick_commands_import_no_torch(arguments: list[str]) -> None:
    run = run_python(
        "import sys; from cvae_cli.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert run.returncode == 0, run.stderr


def test_the_help_of_train_and_evaluate_imports_no_torch() -> None:
    for name in ("train", "evaluate", "grid"):
        run = run_python(
            "import sys; from cvae_cli.cli import main\n"
            f"try: main([{name!r}, '--help'])\n"
            "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
            "assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)\n"
        )
        assert run.returncode == 0, run.stderr


def test_relabel_loads_neither_lightning_nor_torchvision(examples: Path, tmp_path: Path) -> None:
    """Each takes longer to import than torch, for nothing."""
    run = run_python(
        "import sys; from cvae_cli.cli import main\n"
        f"try: main(['relabel', {str(examples / '7')!r}, '--check', "
        f"'--device', 'cpu', '--out', {str(tmp_path / 'out')!r}])\n"
        "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
        "heavy = {'torchvision', 'pytorch_lightning', 'skimage', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert run.returncode == 0, run.stderr
    assert list((tmp_path / "out").rglob("*.png"))
