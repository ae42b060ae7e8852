from __future__ import annotations

from pathlib import Path

from helpers import ROOT, invoke

DIGITS = ROOT / "examples" / "digits" / "7"


def test_a_run_gets_a_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke("relabel", DIGITS, "--out", out, "--gallery")
    assert done.exit_code == 0
    assert f"page -> {out / 'index.html'}" in done.stderr
    assert done.stdout == ""
    before = (out / "index.html").read_bytes()
    again = invoke("gallery", out)
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr.endswith(f"2 images -> {out / 'index.html'}\n")
    assert (out / "index.html").read_bytes() == before


def test_a_dry_run_writes_no_page(tmp_path: Path) -> None:
    assert invoke("relabel", DIGITS, "--out", tmp_path / "out", "--gallery", "--dry-run").exit_code == 0
    assert not (tmp_path / "out").exists()


def test_what_would_fail_at_the_end_fails_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sharded = invoke("relabel", DIGITS, "--out", out, "--gallery", "--shard", "1/2")
    assert (sharded.exit_code, "when all shards are done" in sharded.stderr) == (2, True)
    out.mkdir()
    (out / "index.html").write_text("mine")
    done = invoke("relabel", DIGITS, "--out", out, "--gallery")
    assert (done.exit_code, "was not written by cvae" in done.stderr) == (2, True)
    assert [file.name for file in out.iterdir()] == ["index.html"]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    done = invoke("gallery", tmp_path)
    assert (done.exit_code, "no manifest.jsonl of cvae relabel" in done.stderr) == (2, True)
