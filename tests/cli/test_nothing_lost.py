"""Work that is done stays done: kills, full disks, runs beside each other, inputs that change."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import manifest_lines, tree, without_privileges
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
Digit = Callable[[int], np.ndarray]


def images(folder: Path, digit: Digit, count: int) -> Path:
    """Images in three folders, a third in each."""
    for number in range(count):
        place = folder / ("", "a", "b/c")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit(number)).save(place / f"{number:04}.png")
    return folder


def statuses(folder: Path, name: str = "manifest.jsonl") -> list[str]:
    return [line["status"] for line in manifest_lines(folder, name)]


def start(*arguments: object) -> subprocess.Popen[str]:
    return started(relabel(*arguments))


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def relabel(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cvae_cli", "relabel", *map(str, arguments)]


def wait_for_pictures(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while sum(1 for _ in folder.rglob("*.png")) < count:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)


@pytest.fixture(scope="module")
def thousands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousands")
    for number in range(2000):
        seed = np.random.default_rng(number)
        pixels = np.zeros((28, 28), np.uint8)
        y, x = seed.integers(2, 16, 2)
        pixels[y : y + seed.integers(3, 10), x : x + seed.integers(2, 10)] = 255
        place = folder / ("", "a", "b/c")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:04}.png")
    return folder


@pytest.mark.long
def test_twenty_kills_lose_nothing(cvae: Run, thousands: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--batch-size", "8", "--workers", "2"]
    assert cvae("relabel", thousands, "--out", whole, *options).returncode == 0
    assert len(tree(whole)) == 2000
    moments = random.Random(0)
    made = []
    for _ in range(20):
        process = start(thousands, "--out", parts, *options)
        # In the middle of its work, each time elsewhere: after so many more pictures.
        wait_for_pictures(parts, (made[-1] if made else 0) + moments.randint(1, 90), process)
        time.sleep(moments.random() / 50)
        process.kill()
        process.communicate()
        made.append(sum(1 for _ in parts.rglob("*.png")))
    assert made == sorted(set(made)), made
    assert made[-1] < 2000
    # Nothing half-written has the name of a finished picture.
    before = {name: content for name, content in tree(parts).items() if not Path(name).name.startswith(".")}
    assert all(tree(whole)[name] == content for name, content in before.items())
    last = cvae("relabel", thousands, "--out", parts, *options)
    assert last.returncode == 0
    assert tree(parts) == tree(whole)
    assert not [file for file in parts.rglob("*") if file.name.startswith(".") or file.suffix == ".part"]
    found = statuses(parts)
    assert (found.count("done"), found.count("skipped")) == (2000 - len(before), len(before))


def interrupted(source: Path, out: Path, number: int) -> str:
    """Start a run, send it a signal when some pictures are there, and return what it said."""
    there = len(list(out.rglob("*.png")))
    process = start(source, "--out", out, "--batch-size", "4")
    wait_for_pictures(out, there + 7, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGKILL, signal.SIGINT), pytest.param((signal.SIGTERM, signal.SIGKILL), marks=pytest.mark.long)],
)
def test_a_run_that_is_killed_and_interrupted_ends_with_the_same_bytes(
    cvae: Run, digit: Digit, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    source, whole, parts = images(tmp_path / "imgs", digit, 140), tmp_path / "whole", tmp_path / "parts"
    cvae("relabel", source, "--out", whole, "--batch-size", "4")
    pictures = tree(whole)
    assert len(pictures) == 140
    for number in numbers:
        said = interrupted(source, parts, number)
        # What has the name of a picture is one, and whole; only a kill leaves anything else behind.
        made = tree(parts)
        finished = {name for name in made if not Path(name).name.startswith(".")}
        assert all(made[name] == pictures[name] for name in finished)
        assert 7 <= len(finished) < 140
        if number != signal.SIGKILL:
            assert "done" in said
            assert set(made) == finished
            assert len(statuses(parts)) <= len(finished)
    again = cvae("relabel", source, "--out", parts, "--batch-size", "4")
    assert again.returncode == 0
    assert f"{140 - len(finished)} done, {len(finished)} skipped" in again.stderr
    assert tree(parts) == pictures
    assert {file.name for file in parts.iterdir() if file.suffix != ".png"} == {"a", "b", "manifest.jsonl"}


def test_stdout_closed_early_ends_quietly(digit: Digit, tmp_path: Path) -> None:
    source = images(tmp_path / "imgs", digit, 200)
    command = f"{sys.executable} -m cvae_cli relabel {source} --out {tmp_path / 'out'} --json | head -1"
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert json.loads(run.stdout)["status"] == "done"
    assert run.stderr == ""
    assert run.returncode == 141  # as of any program whose reader has gone: not all was done


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_second_signal_stops_at_once(digit: Digit, tmp_path: Path, number: int) -> None:
    source = images(tmp_path / "imgs", digit, 150)
    process = start(source, "--out", tmp_path / "out", "--batch-size", "4")
    wait_for_pictures(tmp_path / "out", 3, process)
    # Stopped, so that both signals are there when it goes on.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(number)
    other = signal.SIGTERM if number == signal.SIGINT else signal.SIGINT
    process.send_signal(other)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    # Those that wait are delivered in the order of their numbers: SIGTERM is the second one.
    assert process.returncode == 128 + signal.SIGTERM
    assert "done" not in said  # no summary: it did not wait for what was in flight
    assert 3 <= len(list((tmp_path / "out").rglob("*.png"))) < 150


def test_two_runs_into_one_folder_at_once(cvae: Run, digit: Digit, tmp_path: Path) -> None:
    source = images(tmp_path / "imgs", digit, 60)
    # In batches of the same size, since some processors round otherwise in larger ones.
    few = ("--batch-size", "8")
    assert cvae("relabel", source, "--out", tmp_path / "whole", *few).returncode == 0
    both = [start(source, "--out", tmp_path / "out", *few) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    # The manifest is that of the run that ended last, and whole.
    assert len(statuses(tmp_path / "out")) == 60


@pytest.mark.long
def test_shards_at_once_make_what_one_run_makes(cvae: Run, digit: Digit, tmp_path: Path) -> None:
    source = images(tmp_path / "imgs", digit, 120)
    assert cvae("relabel", source, "--out", tmp_path / "whole").returncode == 0
    shards = [start(source, "--out", tmp_path / "out", "--shard", f"{i}/3") for i in (1, 2, 3)]
    said = [process.communicate(timeout=180)[1] for process in shards]
    assert [process.returncode for process in shards] == [0, 0, 0], said
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    counts = [len(statuses(tmp_path / "out", f"manifest-{i}-of-3.jsonl")) for i in (1, 2, 3)]
    assert sum(counts) == 120
    assert min(counts) > 0


def test_a_full_disk_is_a_clear_message(
    cvae: Run, folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails ends the run with what is finished whole and nothing half-written."""
    replace, left = os.replace, [3]

    def replace_three(source: Path, target: Path) -> None:
        if str(target).endswith(".png"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_three)
        run = cvae("relabel", folder_of_digits, "--out", tmp_path / "out")
    assert run.returncode == 2, run.stderr
    assert "No space left on device" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list((tmp_path / "out").rglob("*.part"))
    assert len(tree(tmp_path / "out")) == 3
    again = cvae("relabel", folder_of_digits, "--out", tmp_path / "out")
    assert again.returncode == 0
    assert "7 done, 3 skipped" in again.stderr


@pytest.mark.long
def test_a_disk_that_is_full_and_is_made_larger(digit: Digit, tmp_path: Path) -> None:
    """On a real file system of 200 kB, mounted where only this test sees it."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    source = images(tmp_path / "imgs", digit, 60)
    (tmp_path / "out").mkdir()
    run = f"{sys.executable} -m cvae_cli relabel {shlex.quote(str(source))} --out out --batch-size 4"
    script = f"""
        mount -t tmpfs -o size=200k none out || exit 99
        {run} 2> first.txt; echo $? > first.code
        find out -name '*.png' | sort > first.files
        find out -name '.*.part' > first.left
        mount -o remount,size=20m out
        {run} 2> second.txt; echo $? > second.code
        find out -type f | sort > second.files
    """
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, timeout=300, check=False)
    if done.returncode == 99:
        pytest.skip("no file system can be mounted here")
    read = {file.name: file.read_text() for file in tmp_path.glob("*.*")}
    assert read["first.code"] == "2\n", read["first.txt"]
    assert "No space left on device" in read["first.txt"]
    assert "Traceback" not in read["first.txt"]
    before = read["first.files"].split()
    assert 5 < len(before) < 60
    assert not read["first.left"]
    assert read["second.code"] == "0\n", read["second.txt"]
    assert f"{60 - len(before)} done, {len(before)} skipped" in read["second.txt"]
    assert len(read["second.files"].split()) == 61  # and the manifest


def test_an_output_folder_that_becomes_read_only(cvae: Run, digit: Digit, tmp_path: Path) -> None:
    source, out = images(tmp_path / "imgs", digit, 120), tmp_path / "out"
    command = without_privileges(relabel(source, "--out", out, "--batch-size", "4"))
    process = started(command)
    wait_for_pictures(out, 10, process)
    folders = [out, *(folder for folder in out.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    _, said = process.communicate(timeout=120)
    for folder in folders:
        folder.chmod(0o755)
    assert process.returncode == 2
    assert "cannot be" in said
    assert "Permission denied" in said
    assert "Traceback" not in said
    before = sum(1 for _ in out.rglob("*.png"))
    assert 10 <= before < 120
    again = cvae("relabel", source, "--out", out, "--batch-size", "4")
    assert again.returncode == 0, again.stderr
    assert f"{120 - before} done, {before} skipped" in again.stderr
    assert not [name for name in tree(out) if Path(name).name.startswith(".")]


def test_inputs_that_vanish_change_or_are_being_written(cvae: Run, digit: Digit, tmp_path: Path) -> None:
    # In one folder: one that is not listed yet would come without what has vanished.
    source, out = tmp_path / "imgs", tmp_path / "out"
    source.mkdir()
    for number in range(160):
        Image.fromarray(digit(number)).save(source / f"{number:04}.png")
    whole = {file: file.read_bytes() for file in sorted(source.rglob("*.png"))}
    late = list(whole)[-30:]
    vanishing, changing, growing = late[:10], late[10:20], late[20:]
    # As a download would leave it for a while: cut off.
    for file in growing:
        file.write_bytes(whole[file][: len(whole[file]) // 2])
    process = start(source, "--out", out, "--batch-size", "4")
    wait_for_pictures(out, 5, process)
    process.send_signal(signal.SIGSTOP)  # what comes now is between two images, on any machine
    assert sum(1 for _ in out.rglob("*.png")) < 100
    for file, donor in zip(changing, whole, strict=False):
        file.write_bytes(whole[donor])
    for file in vanishing:
        file.unlink()
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3, said
    lines = {line["path"]: line for line in manifest_lines(out)}
    reasons = {path: line["reason"] for path, line in lines.items() if line["status"] == "failed"}
    names = {str(file.relative_to(source)) for file in [*vanishing, *growing]}
    assert set(reasons) == names
    assert {reasons[str(file.relative_to(source))] for file in vanishing} == {"no such file"}
    assert all("damaged" in reasons[str(file.relative_to(source))] for file in growing)
    # Once they are whole the same command does these, and only these.
    for file in [*vanishing, *growing]:
        file.write_bytes(whole[file])
    again = cvae("relabel", source, "--out", out, "--batch-size", "4")
    assert again.returncode == 0
    assert "20 done, 140 skipped" in again.stderr


def test_a_stop_is_heard_while_a_list_waits(digit: Digit, tmp_path: Path) -> None:
    source, out = images(tmp_path / "imgs", digit, 9), tmp_path / "out"
    process = subprocess.Popen(
        relabel("-", "--out", out, "--batch-size", "2"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("".join(f"{file}\n" for file in sorted(source.rglob("*.png"))))
    process.stdin.flush()
    wait_for_pictures(out, 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert "run the same command again" in process.stderr.read()
    first = json.loads((out / "manifest.jsonl").read_text().splitlines()[0])
    assert first["complete"] is False
    # What was drawn when the list had nothing more to say is recorded.
    assert statuses(out) == ["done"] * sum(1 for _ in out.rglob("*.png"))
    process.stdin.close()
    process.stderr.close()
