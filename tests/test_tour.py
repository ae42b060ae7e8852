"""The tour of a newcomer, examples/tour.ipynb, from top to bottom."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers import ROOT

TOUR = ROOT / "examples" / "tour.ipynb"


def test_no_output_is_kept_in_it() -> None:
    cells = json.loads(TOUR.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for cell in code:
        ast.parse(
            "\n".join(line for line in "".join(cell["source"]).splitlines() if not line.startswith("!"))
        )


@pytest.mark.long
def test_it_runs_from_a_clean_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    # Its commands are those of this environment.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(tmp_path / "examples" / "tour.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path / "examples")}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 9
    assert not [output for output in outputs if output.output_type == "error"]
    assert (tmp_path / "tour" / "index.html").exists()
