"""The rules of the house: who may import whom, and what stays out of where."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT, invoke

import cvae_cli

PACKAGE = Path(cvae_cli.__file__).parent
MAX_LINES = 400

BASE = {"errors", "outcomes", "storage"}
LOWER = {"data", "inference", "model", "images", *BASE}
ALLOWED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"cli", "relabelling", "training", "evaluation", "gallery", "judge", *LOWER},
    "gallery": {"gallery", "images", *BASE},
    "relabelling": {"relabelling", "judge", *LOWER},
    "evaluation": {"evaluation", "judge", *LOWER},
    "training": {"training", *(LOWER - {"inference"})},
    "judge": {"judge", *LOWER},
    "data": {"data", "model", "images", *BASE},
    "inference": {"inference", "model", "images", *BASE},
    "model": {"model", "weights", *BASE},
    "images": {"images", *BASE},
    "fonts": set(),
    "storage": {"storage", "errors"},
    "outcomes": {"errors"},
    "errors": set(),
    # Imported when they are first used.
    "__init__": {"api", "images"},
    "api": {"api", "relabelling", "training", "evaluation", *LOWER},
}
"""Which rooms a room may import."""

FILE_SYSTEM = ("storage/", "images/discover.py", "images/listings.py")
ONLY_IN: dict[str, tuple[str, ...]] = {
    "click": ("cli/",),
    "rich": ("cli/",),
    "pytorch_lightning": ("training/",),
    "PIL": ("images/",),
    "torchvision": ("data/datasets.py",),
    "safetensors": ("model/weights.py",),
    "skimage": ("evaluation/strokes.py",),
    "scipy": ("evaluation/strokes.py",),
    "fsspec": ("storage/remote.py",),
    "ray": ("relabelling/cluster.py",),
    # By a name in a variable anything can be imported; the group imports its commands so.
    "importlib.import_module": ("cli/__init__.py",),
    **dict.fromkeys(("shutil", "tempfile", "fcntl", "glob", "stat", "gzip"), FILE_SYSTEM),
}
"""Where other packages, and the file system, may be imported."""

FILE_FUNCTIONS = {
    *(f"os.{name}" for name in ("open", "read", "write", "close", "replace", "rename", "remove", "unlink")),
    *(f"os.{name}" for name in ("listdir", "scandir", "walk", "stat", "lstat", "mkdir", "makedirs", "rmdir")),
    *(f"os.{name}" for name in ("link", "symlink", "access", "utime", "truncate", "chmod")),
    # The other functions of os.path work on the text of a path.
    *(f"os.path.{name}" for name in ("exists", "lexists", "isfile", "isdir", "islink", "getsize")),
    *(f"os.path.{name}" for name in ("getmtime", "samefile", "realpath")),
    *("io.open", "numpy.load", "numpy.save", "numpy.fromfile"),
}
PATH_METHODS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch"),
    *("iterdir", "glob", "rglob", "exists", "is_file", "is_dir", "stat", "samefile", "rename"),
}

WITHOUT_TESTS = {
    "__main__.py": "one line; every test that starts a process runs it",
    "errors.py": "classes without behaviour",
    "data/catalogue.py": "constants",
    "relabelling/options.py": "a record",
    "evaluation/measure.py": "tests/evaluation/test_run.py",
    "evaluation/pictures.py": "tests/evaluation/test_run.py",
    "evaluation/report.py": "tests/evaluation/test_run.py",
    "evaluation/style.py": "tests/evaluation/test_run.py",
    "evaluation/tiles.py": "tests/evaluation/test_run.py",
    "judge/files.py": "tests/judge/test_judge.py",
    "judge/network.py": "tests/judge/test_judge.py",
    "judge/predict.py": "tests/judge/test_judge.py",
    "judge/train.py": "tests/judge/test_judge.py",
}
"""Modules without a test file of their own, and why, or where they are tested."""


def modules(root: Path) -> list[Path]:
    """The Python files of a package, apart from the folder of weights."""
    return sorted(file for file in root.rglob("*.py") if file.parent.name != "weights")


def breaches(root: Path) -> list[str]:
    """Every import or call in a package that breaks a rule, as ``FILE: WHAT``."""
    found: list[str] = []
    for file in modules(root):
        place = file.relative_to(root).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found += [f"{place}: {what}" for what in (*_bad_imports(place, tree), *_bad_calls(place, tree))]
    return found


def _bad_imports(place: str, tree: ast.AST) -> Iterator[str]:
    room = place.split("/")[0].removesuffix(".py")
    if room not in ALLOWED:
        yield f"the room {room} is in no rule"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "relative import"
            continue
        for module in sorted(_imported(node)):
            top, *rest = module.split(".")
            if top == "cvae_cli" and rest and rest[0] != "__version__" and rest[0] not in ALLOWED[room]:
                yield module
            yield from (
                module
                for name, places in ONLY_IN.items()
                if f"{module}.".startswith(f"{name}.") and not place.startswith(places)
            )
            if module in FILE_FUNCTIONS and not place.startswith(FILE_SYSTEM):
                yield module


def _imported(node: ast.AST) -> set[str]:
    """What one statement imports, in full."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def _bad_calls(place: str, tree: ast.AST) -> Iterator[str]:
    """Uses of the file system, or of dynamic imports, that no import statement shows."""
    meanings = _meanings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in ("open", "__import__") and name not in meanings and not place.startswith(FILE_SYSTEM):
                yield f"{name}()"
        if not isinstance(node, ast.Attribute):
            continue
        dotted = _dotted(node, meanings)
        if dotted in ONLY_IN and not place.startswith(ONLY_IN[dotted]):
            yield dotted
        if place.startswith(FILE_SYSTEM):
            continue
        is_of_module = dotted is not None and not dotted.startswith("pathlib.")
        if dotted in FILE_FUNCTIONS:
            yield dotted
        elif node.attr in PATH_METHODS and not is_of_module:
            yield f".{node.attr}"


def _meanings(tree: ast.AST) -> dict[str, str]:
    """What each imported name of a module stands for, in full."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, meanings: dict[str, str]) -> str | None:
    """The full name of ``a.b.c`` where ``a`` was imported."""
    if isinstance(node, ast.Name):
        return meanings.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value, meanings)):
        return f"{owner}.{node.attr}"
    return None


def forbidden() -> Iterator[tuple[str, str]]:
    """For every rule, a place and a line there that breaks it."""
    rooms = {room for room in ALLOWED if not room.startswith("__")}
    for room, allowed in ALLOWED.items():
        place = f"{room}.py" if (PACKAGE / f"{room}.py").exists() else f"{room}/new.py"
        for other in sorted(rooms - allowed):
            yield place, f"from cvae_cli.{other} import something"
    for package, places in ONLY_IN.items():
        place = "images/new.py" if package != "PIL" else "evaluation/new.py"
        assert not place.startswith(places)
        *parents, name = package.split(".")
        yield place, f"from {'.'.join(parents)} import {name}" if parents else f"import {name}"
    for function in sorted(FILE_FUNCTIONS):
        module, _, name = function.rpartition(".")
        yield "data/new.py", f"from {module} import {name}"
        yield "data/new.py", f"import {module}\n{function}('x')"
    for method in sorted(PATH_METHODS):
        yield "judge/new.py", f"def use(path):\n    return path.{method}()"


SPELLINGS = [
    ("images/new.py", "from . import decode"),
    ("cli/new.py", "from ..relabelling import run"),
    ("model/new.py", "import cvae_cli.images.decode"),
    ("model/new.py", "import cvae_cli.images.decode as decode"),
    ("model/new.py", "from cvae_cli import images"),
    ("training/new.py", "def late():\n    from cvae_cli.evaluation import run"),
    (
        "training/new.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cvae_cli.judge.train",
    ),
    ("training/new.py", "from rich.progress import Progress"),
    ("judge/new.py", "import pytorch_lightning as pl"),
    ("relabelling/new.py", "try:\n    import click.testing\nexcept ImportError:\n    pass"),
    ("relabelling/new.py", "import importlib\nimportlib.import_module('click')"),
    ("relabelling/new.py", "__import__('click')"),
    ("data/new.py", "import os as system\nsystem.listdir('.')"),
    ("data/new.py", "from os import path\npath.isdir('.')"),
    ("data/new.py", "import os.path as places\nplaces.getsize('x')"),
    ("data/new.py", "with open('x') as stream:\n    pass"),
    ("data/new.py", "from pathlib import Path\nPath('x').read_text()"),
    ("data/new.py", "from pathlib import Path\nPath.exists('x')"),
    ("training/new.py", "def read(path):\n    return path.parent.read_text()"),
    ("attic/new.py", "import json"),
]
"""Other ways to write a breach."""

ALL_IS_WELL = """
import os
from importlib import resources
import numpy as np
from cvae_cli import __version__, storage
from cvae_cli.errors import UserError
def use(path):
    os.environ.get("HOME")
    name = os.path.normpath(os.path.join(os.fspath(path), "open", "exists"))
    return storage.exists(path) and storage.read_text(path) and np.asarray(storage.open_to_read(path)), name
"""


def test_the_package_keeps_the_rules() -> None:
    assert len(modules(PACKAGE)) > 60
    assert breaches(PACKAGE) == []


@pytest.mark.parametrize(("place", "line"), [*forbidden(), *SPELLINGS])
def test_a_breach_is_seen(tmp_path: Path, place: str, line: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{line}\n")
    found = breaches(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{place}: ")


@pytest.mark.parametrize("room", [room for room in ALLOWED if "storage" in ALLOWED[room]])
def test_what_is_allowed_is_no_breach(tmp_path: Path, room: str) -> None:
    (tmp_path / room).mkdir()
    allowed = "\n".join(f"import cvae_cli.{other}" for other in sorted(ALLOWED[room]))
    (tmp_path / room / "new.py").write_text(f"{allowed}\n{ALL_IS_WELL}")
    assert breaches(tmp_path) == []


def test_packages_are_allowed_where_they_belong(tmp_path: Path) -> None:
    for package, places in ONLY_IN.items():
        place = tmp_path / (f"{places[0]}new.py" if places[0].endswith("/") else places[0])
        place.parent.mkdir(exist_ok=True)
        *parents, name = package.split(".")
        line = f"from {'.'.join(parents)} import {name}" if parents else f"import {name}"
        place.write_text(f"{line}\n")
        assert breaches(tmp_path) == []


def test_setup_cfg_lists_the_packages_that_there_are() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    folders = {file.parent for file in (ROOT / "cvae_cli").rglob("*.py")}
    there = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == sorted(there | {"cvae_cli.weights"})


def too_long(root: Path) -> dict[str, int]:
    """The modules of a package with more lines than a newcomer would read, and how many."""
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in modules(root)}
    return {
        file.relative_to(root).as_posix(): length for file, length in lengths.items() if length > MAX_LINES
    }


def test_no_module_is_over_400_lines(tmp_path: Path) -> None:
    assert too_long(PACKAGE) == {}
    (tmp_path / "long.py").write_text("x = 1\n" * 401)
    (tmp_path / "fits.py").write_text("x = 1\n" * 400)
    assert too_long(tmp_path) == {"long.py": 401}


def without_test_file(root: Path, tests: Path) -> list[str]:
    """The modules of a package that have no test file in its place; a room's ``__init__`` needs none."""
    places = [file.relative_to(root) for file in modules(root) if file.name != "__init__.py"]
    return [
        place.as_posix() for place in places if not (tests / place.parent / f"test_{place.name}").exists()
    ]


def test_every_module_has_its_test_file(tmp_path: Path) -> None:
    missing = set(without_test_file(PACKAGE, ROOT / "tests"))
    assert missing - set(WITHOUT_TESTS) == set()
    assert set(WITHOUT_TESTS) - missing == set(), (
        "these have a test file, or are gone: take them off the list"
    )
    for name in ("room/one.py", "room/__init__.py", "room/two.py", "tests/room/test_two.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert without_test_file(tmp_path / "room", tmp_path / "tests" / "room") == ["one.py"]


def imports_of_tests(file: Path) -> set[str]:
    """The test files, or parts of them, that a test file imports."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    imported = {module.split(".")[0] for node in nodes for module in _imported(node)}
    return {name for name in imported if name.startswith(("test_", "tests", "conftest"))}


def test_no_test_imports_another_test(tmp_path: Path) -> None:
    assert {file: found for file in (ROOT / "tests").rglob("*.py") if (found := imports_of_tests(file))} == {}
    (tmp_path / "test_new.py").write_text("from helpers import tree\nfrom test_layout import breaches\n")
    assert imports_of_tests(tmp_path / "test_new.py") == {"test_layout"}


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


def test_a_run_in_which_all_is_finished_imports_no_torch(folder_of_digits: Path, tmp_path: Path) -> None:
    command = ["relabel", str(folder_of_digits), "--out", str(tmp_path / "out"), "--check"]
    (folder_of_digits / "drawing.svg").write_text("<svg/>")  # passed over
    assert invoke(*command).exit_code == 0
    script = (
        "import sys\nfrom cvae_cli.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('torch' in sys.modules)\n"
    )

    def imports_torch(*arguments: str) -> bool:
        run = subprocess.run(
            [sys.executable, "-c", script, *command, *arguments], capture_output=True, text=True, check=True
        )
        return run.stdout.strip() == "True"

    assert not imports_torch()
    assert not imports_torch("--dry-run")
    assert imports_torch("--targets", "1,2")  # other pictures


def test_the_help_of_train_and_evaluate_imports_no_torch() -> None:
    for name in ("train", "evaluate", "grid"):
        run = run_python(
            "import sys; from cvae_cli.cli import main\n"
            f"try: main([{name!r}, '--help'])\n"
            "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
            "assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)\n"
        )
        assert run.returncode == 0, run.stderr


def test_relabel_loads_no_lightning_torchvision_or_compiler(examples: Path, tmp_path: Path) -> None:
    """Each takes as long to import as torch, for nothing."""
    run = run_python(
        "import sys; from cvae_cli.cli import main\n"
        f"try: main(['relabel', {str(examples / '7')!r}, '--check', "
        f"'--device', 'cpu', '--out', {str(tmp_path / 'out')!r}])\n"
        "except SystemExit as stop: assert stop.code in (0, None), stop.code\n"
        "heavy = {'torchvision', 'pytorch_lightning', 'skimage', 'scipy', 'torch._dynamo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    assert run.returncode == 0, run.stderr
    assert list((tmp_path / "out").rglob("*.png"))
