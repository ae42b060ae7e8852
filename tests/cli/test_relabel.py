"""``cvae relabel`` as people and scripts run it: exit codes, stdout and stderr apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import export_untrained, manifest_lines, without_privileges
from helpers import invoke as invoke_command
from PIL import Image

from cvae_cli.cli.relabel import shard_from_environment
from cvae_cli.model.spec import ModelSpec

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def invoke(*arguments: object):
    return invoke_command("relabel", "--device", "cpu", *arguments)


def test_all_done_then_all_skipped(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    first = cvae("relabel", folder_of_digits, "--model", "mnist", "--out", tmp_path / "grids")
    assert first.returncode == 0, first.stderr
    assert first.stdout == ""
    assert "10 done" in first.stderr
    assert "8 predicted, 2 from their folder" in first.stderr
    again = cvae("relabel", folder_of_digits, "--model", "mnist", "--out", tmp_path / "grids")
    assert again.returncode == 0
    assert "0 done, 10 skipped" in again.stderr


def test_some_failed(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    content = (folder_of_digits / "d0.png").read_bytes()
    (folder_of_digits / "cut.png").write_bytes(content[: len(content) // 2])
    (folder_of_digits / "empty.png").touch()
    (folder_of_digits / "text.png").write_text("hello")
    os.mkfifo(folder_of_digits / "pipe.png")
    run = cvae("relabel", folder_of_digits, "--out", tmp_path / "grids")
    assert run.returncode == 3
    for name in ("cut.png", "empty.png", "text.png", "pipe.png"):
        assert run.stderr.count(f"failed {name}: ") == 1
    assert "10 done, 4 failed" in run.stderr
    assert len(list((tmp_path / "grids").rglob("*.png"))) == 10


def test_what_may_not_be_read_or_written(folder_of_digits: Path, tmp_path: Path) -> None:
    code = (  # both in one process, which takes some seconds to start
        "import sys; from cvae_cli.cli import main\n"
        "for out in sys.argv[2:]:\n"
        "    try: main(['relabel', sys.argv[1], '--out', out, '--device', 'cpu'])\n"
        "    except SystemExit as end: print(end.code, file=sys.stderr, flush=True)\n"
    )
    (tmp_path / "readonly").mkdir(mode=0o555)
    outs = [str(tmp_path / "grids"), str(tmp_path / "readonly" / "x")]
    command = without_privileges([sys.executable, "-c", code, str(folder_of_digits), *outs])
    locked = folder_of_digits / "notes"
    (folder_of_digits / "d0.png").chmod(0)
    locked.chmod(0)
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "failed d0.png: permission denied" in run.stderr
        assert "failed notes: the folder cannot be listed: Permission denied" in run.stderr
        assert "7 done, 2 failed" in run.stderr
        assert "cannot be written: Permission denied; choose another --out" in run.stderr
        codes = [line for line in run.stderr.splitlines() if line.isdecimal()]
        assert codes == ["3", "2"]
    finally:
        locked.chmod(0o755)


def test_json_on_stdout(folder_of_digits: Path, tmp_path: Path) -> None:
    (folder_of_digits / "empty.png").touch()
    run = invoke(folder_of_digits, "--out", tmp_path / "grids", "--json", "--targets", "1,2")
    assert run.exit_code == 3
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == 11
    assert {line["status"] for line in lines} == {"done", "failed"}
    done = next(line for line in lines if line["path"] == "7/d6.png")
    assert done["targets"] == ["1", "2"]
    assert done["outputs"] == [{"role": "grid", "path": "7/d6.png", "target": None}]


def test_quiet_and_verbose(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    assert cvae("-q", "relabel", folder_of_digits, "--out", tmp_path / "a").stderr == ""
    loud = cvae("-v", "relabel", folder_of_digits, "--out", tmp_path / "b")
    assert "done 7/d6.png: 7 (folder)" in loud.stderr


def test_paths_on_stdin(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    lines = "imgs/d1.png\nimgs/7/d6.png\nimgs/gone.png\n"
    run = cvae("relabel", "-", "--out", "grids", input=lines)
    assert run.returncode == 3
    assert "failed imgs/gone.png: no such file" in run.stderr
    assert {file.relative_to(tmp_path / "grids").as_posix() for file in tmp_path.glob("grids/**/*.png")} == {
        "imgs/d1.png",
        "imgs/7/d6.png",
    }


def test_names_of_every_kind(cvae_process: Run, tmp_path: Path, digit: Callable[[int], np.ndarray]) -> None:
    source = tmp_path / "imgs"
    source.mkdir()
    names = ["with space.png", "-dash.png", "new\nline.png", "\N{GRINNING FACE}.png", "[bold].png"]
    for number, name in enumerate(names):
        Image.fromarray(digit(number)).save(source / name)
    os.rename(source / "with space.png", os.fsencode(source) + b"/bad\xff.png")
    (source / "[red]bad\nname.png").touch()
    run = cvae_process("-v", "relabel", "imgs", "--out", "grids", errors="surrogateescape")
    assert run.returncode == 3, run.stderr
    assert run.stdout == ""
    assert "5 done, 1 failed" in run.stderr
    assert "[bold].png" in run.stderr
    assert "failed [red]bad\\nname.png: empty file" in run.stderr
    assert len(os.listdir(os.fsencode(tmp_path / "grids"))) == 6  # five pictures and the manifest
    assert os.path.exists(os.fsencode(tmp_path) + b"/grids/bad\xff.png")
    paths = [line["path"] for line in manifest_lines(tmp_path / "grids")]
    assert len(paths) == 6
    assert {"new\nline.png", "[red]bad\nname.png", "bad\\xff.png"} <= set(paths)


def test_paths_that_end_in_a_nul_character(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    odd = folder_of_digits / "new\nline.png"
    (folder_of_digits / "d1.png").rename(odd)
    lines = "imgs/d0.png\0imgs/new\nline.png\0imgs/d2.png"
    run = cvae("relabel", "-", "--null", "--out", "grids", input=lines)
    assert run.returncode == 0, run.stderr
    found = {file.name for file in (tmp_path / "grids" / "imgs").iterdir()}
    assert found == {"d0.png", "new\nline.png", "d2.png"}
    run = cvae("relabel", "-", "--out", "grids", input=lines)
    assert run.returncode == 3
    assert "NUL character; for a list of find -print0 add --null" in run.stderr


def test_what_was_passed_over_or_is_doubtful_is_summed_up(
    cvae: Run, folder_of_digits: Path, tmp_path: Path
) -> None:
    (folder_of_digits / "photo.heic").touch()
    page = np.full((1500, 1500), 240, np.uint8)
    page[700:760, 700:710] = 20  # a digit on a page: one percent of it
    Image.fromarray(page).save(folder_of_digits / "page.png")
    assert cvae("relabel", folder_of_digits / "d0.png", "--out", folder_of_digits).returncode == 3
    (folder_of_digits / "grid.png").write_bytes(b"")
    assert cvae("grid", folder_of_digits / "7", "--out", folder_of_digits / "grid.png").returncode == 0
    run = cvae("relabel", folder_of_digits, "--out", tmp_path / "grids")
    assert run.returncode == 0, run.stderr
    assert "11 done, 2 skipped" not in run.stderr  # each for a reason of its own
    assert "1 skipped (.heic files are not read; convert them to PNG or JPEG)" in run.stderr
    assert "1 skipped (a grid or sheet that cvae drew)" in run.stderr
    assert "1 with a warning: see warnings in the manifest" in run.stderr


def test_names_that_captions_cannot_show_are_told(
    cvae: Run, folder_of_digits: Path, small_spec: ModelSpec, tmp_path: Path
) -> None:
    model = export_untrained(
        replace(small_spec, classes=("猫", "狗", "bird")), tmp_path / "m" / "m.safetensors"
    )
    run = cvae("relabel", folder_of_digits, "--model", model, "--out", "grids", "--labels", "bird")
    assert run.returncode == 0, run.stderr
    assert "have boxes instead: 猫, 狗" in run.stderr


def test_csv_of_labels(cvae: Run, examples: Path, tmp_path: Path) -> None:
    run = cvae("relabel", examples, "--labels", examples / "labels.csv", "--out", tmp_path / "grids")
    assert run.returncode == 0, run.stderr
    assert "24 from CSV" in run.stderr
    (tmp_path / "some.csv").write_text("chalk-00.png,0\n")
    run = cvae("relabel", examples, "--labels", "some.csv", "--out", tmp_path / "few")
    assert run.returncode == 3
    assert "1 done, 23 failed" in run.stderr
    assert "failed chalk-01.png: not in the CSV of labels, which begins with chalk-00.png; add" in run.stderr


def test_dry_run_lists_the_outputs(folder_of_digits: Path, tmp_path: Path) -> None:
    run = invoke(folder_of_digits, "--out", tmp_path / "grids", "--dry-run")
    assert run.exit_code == 0
    assert len(run.stdout.splitlines()) == 10
    assert str(tmp_path / "grids" / "7" / "d6.png") in run.stdout
    assert "10 images would be relabelled" in run.stderr
    assert not (tmp_path / "grids").exists()


def test_fail_fast(folder_of_digits: Path, tmp_path: Path) -> None:
    (folder_of_digits / "a.png").touch()
    run = invoke(folder_of_digits, "--out", tmp_path / "grids", "--fail-fast")
    assert run.exit_code == 3
    assert "stopped at the first failure" in run.stderr
    assert "0 done, 1 failed" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["imgs", "--model", "nist"], ["no model 'nist'", "mnist"]),
        (["nowhere"], ["nowhere: no such file or folder"]),
        (["empty"], ["no image found in empty"]),
        (["imgs", "--out", "file"], ["file is a file"]),
        (["imgs", "--out", "/proc/nothing/here"], ["cannot be written"]),
        (["imgs", "--out", "imgs"], ["is the source itself"]),
        (["imgs", "--labels", "bad.csv"], ["bad.csv, line 1", "no class 'eleven'", "0, 1, 2"]),
        (["imgs", "--labels", "gone.csv"], ["gone.csv", "cannot be read"]),
        (["imgs", "--labels", "cat"], ["cat", "one of the model's classes"]),
        (["imgs", "--targets", "1,cat"], ["no class 'cat'", "0, 1, 2"]),
        (["imgs", "--shard", "4/3"], ["I/N"]),
        (["imgs", "--device", "cuda:99"], ["cuda"]),
        (["imgs", "-"], ["cannot be mixed"]),
        (["imgs", "--batch-size", "0"], ["batch-size"]),
        ([], ["Missing argument"]),
    ],
)
def test_mistakes_say_what_to_do(
    folder_of_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    Path("bad.csv").write_text("d0.png,eleven\n")
    run = invoke(*(["--out", "grids"] if "--out" not in arguments else []), *arguments)
    assert run.exit_code == 2, run.output
    assert run.stdout == ""
    for words in says:
        assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.glob("grids/**/*.png"))


def test_options_from_the_environment(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    environment = {
        "CVAE_RELABEL_OUT": "from-env",
        "CVAE_RELABEL_WRITE": "tiles",
        "CVAE_RELABEL_JSON": "1",
    }
    run = cvae("relabel", folder_of_digits, "--targets", "0", env=environment)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 10
    assert list((tmp_path / "from-env" / "tiles" / "0").rglob("*.png"))


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (3, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"RANK": "x", "WORLD_SIZE": "4"}, None),
        ({"RANK": "4", "WORLD_SIZE": "4"}, None),
    ],
)
def test_shard_from_the_environment(environment: dict[str, str], shard: tuple[int, int] | None) -> None:
    assert shard_from_environment(environment) == shard


def test_a_bug_is_called_a_bug(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae_cli.relabelling import worker

    def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(worker, "relabel_batch", broken)
    run = invoke(folder_of_digits, "--out", tmp_path / "grids")
    assert run.exit_code == 1
    assert "RuntimeError: surprise" in run.stderr
    assert "please report" in run.stderr
