from __future__ import annotations

from pathlib import Path

from helpers import invoke


def test_export_writes_two_files_and_says_so(small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "graph.pt2"
    run = invoke("export", small_model, "--out", out)
    assert run.exit_code == 0, run.output
    assert run.stdout == ""
    assert f"-> {out}" in run.stderr.replace("\n", "")
    assert (tmp_path / "graph.classifier.pt2").is_file()
    again = invoke("export", small_model, "--out", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert invoke("-q", "export", small_model, "--out", out, "--overwrite").output == ""


def test_export_of_what_is_no_model(tmp_path: Path) -> None:
    run = invoke("export", "mnits", "--out", tmp_path / "x.pt2")
    assert run.exit_code == 2
    assert "mnist" in run.stderr
    assert not list(tmp_path.iterdir())
