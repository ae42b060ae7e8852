"""In a long run processes take over from the threads."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from helpers import manifest_lines, needs_proc, tree
from PIL import Image

from cvae_cli import errors, storage
from cvae_cli.images.discover import ImageRef
from cvae_cli.model import device
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling import processes, run
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.processes import WorkerProcesses
from cvae_cli.relabelling.run import relabel
from cvae_cli.relabelling.worker import Worker


def options(source: Path, out: Path, **changes: object) -> RelabelOptions:
    asked = RelabelOptions(sources=(source,), out=out, device="cpu", batch_size=2, workers=2, processes=True)
    return replace(asked, **changes)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcesses]:
    """Processes are started after the first image, and waited for; those of the test."""
    started: list[WorkerProcesses] = []
    start = WorkerProcesses.start

    def start_and_wait(self: WorkerProcesses) -> None:
        start(self)
        assert wait(self._started, timeout=120).not_done == set()
        started.append(self)

    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "WORTH", 1)
    monkeypatch.setattr(processes, "free_memory", lambda: None)
    monkeypatch.setattr(WorkerProcesses, "start", start_and_wait)
    return started


def test_processes_make_what_threads_make(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    broken = folder_of_digits / "broken.png"
    broken.write_bytes(b"no picture")
    expected = list(relabel(options(folder_of_digits, whole, processes=False)))
    here: list[int] = []
    draw = Worker.relabel

    @functools.wraps(draw)
    def relabel_here(self: Worker, items: list[ImageRef | ImageOutcome]) -> object:
        here.extend(isinstance(item, ImageRef) for item in items)
        return draw(self, items)

    monkeypatch.setattr(Worker, "relabel", relabel_here)
    outcomes = list(relabel(options(folder_of_digits, other)))
    assert [pool.ready for pool in at_once] == [True]
    assert sum(here) == 1  # the others were drawn elsewhere
    assert outcomes == expected
    assert tree(other) == tree(whole)
    assert manifest_lines(other) == manifest_lines(whole)
    # What is finished does not start any.
    assert [one.reason for one in relabel(options(folder_of_digits, other)) if one.path != "broken.png"] == [
        "finished before"
    ] * 10
    assert len(at_once) == 1


def test_rows_of_parquet_files_come_from_processes_too(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses]
) -> None:
    pytest.importorskip("pyarrow")
    here, there = tmp_path / "here", tmp_path / "there"
    asked = options(folder_of_digits, here, write="parquet", processes=False)
    expected = list(relabel(asked))
    assert list(relabel(replace(asked, out=there, processes=True))) == expected
    assert len(at_once) == 1
    assert tree(here) == tree(there)


def test_beside_gpus_processes_read_and_write(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(relabel(options(folder_of_digits, tmp_path / "one", check=True, processes=False)))
    # Two copies of the model, as on two GPUs, stay in this process.
    monkeypatch.setattr(device, "all_devices", lambda asked: [asked, asked])
    here: list[str] = []
    for name in ("draw", "load_all", "write_all"):
        method = getattr(Worker, name)

        def noted(
            self: Worker, items: list[ImageRef], name: str = name, method: Callable[..., object] = method
        ) -> object:
            here.append(name)
            return method(self, items)

        monkeypatch.setattr(Worker, name, functools.wraps(method)(noted))
    assert list(relabel(options(folder_of_digits, tmp_path / "two", check=True))) == expected
    assert len(at_once) == 1
    assert here.count("draw") > 1
    assert here.count("load_all") == 1
    assert "write_all" not in here
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


@needs_proc
def test_what_a_process_that_died_was_given_is_done_here(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = WorkerProcesses.submit

    def submit_and_kill(self: WorkerProcesses, *given: object) -> object:
        result = submit(self, *given)
        if self.ready and self._processes is not None and (alive := list(self._processes._processes or ())):
            os.kill(alive[0], signal.SIGKILL)
        return result

    monkeypatch.setattr(WorkerProcesses, "submit", submit_and_kill)
    out = tmp_path / "out"
    assert [one.status for one in relabel(options(folder_of_digits, out))] == ["done"] * 10
    (pool,) = at_once
    assert pool._processes is None
    assert len(manifest_lines(out)) == len(tree(out)) == 10


def test_errors_come_back_as_they_are() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.CvaeError):
            error = pickle.loads(pickle.dumps(kind("what is wrong")))
            assert (type(error), str(error)) == (kind, "what is wrong")
    image = errors.ImageError("why")
    image.preprocessing = {"mode": "L"}
    assert pickle.loads(pickle.dumps(image)).preprocessing == {"mode": "L"}


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WorkerProcesses, list[int]]]:
    """A pool that only counts how often it is started, and its counts."""
    starts: list[int] = []
    monkeypatch.setattr(WorkerProcesses, "start", lambda self: starts.append(1))
    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    with ThreadPoolExecutor(1) as threads:
        yield WorkerProcesses(None, 2, threads, draws=True), starts  # type: ignore[arg-type]


def reference(file: str) -> ImageRef:
    return ImageRef(storage.locate(file), file, file, PurePosixPath("x"))


@pytest.mark.parametrize(("count", "starts"), [(1, []), (8, []), (9, [1]), (60, [1])])
def test_a_short_run_is_left_to_threads(
    pool: tuple[WorkerProcesses, list[int]], count: int, starts: list[int]
) -> None:
    # After the first image most of what is left is to be work, and what was looked at is not lost.
    items = [reference(f"{number}.png") for number in range(count)]
    finished = ImageOutcome("a", "a", "skipped")
    all_items = [finished, items[0], *[finished] * 4, *items[1:], finished]
    assert list(pool[0].watch(all_items, peek=True)) == all_items
    assert pool[1] == starts


def test_images_that_come_one_by_one_are_not_waited_for(pool: tuple[WorkerProcesses, list[int]]) -> None:
    taken: list[int] = []

    def items() -> Iterator[ImageRef]:
        for number in range(30):
            taken.append(number)
            yield reference(f"{number}.png")

    watched = pool[0].watch(items(), peek=False)
    next(watched)
    next(watched)
    assert (len(taken), pool[1]) == (2, [1])


def test_images_of_other_machines_are_left_to_threads(pool: tuple[WorkerProcesses, list[int]]) -> None:
    items = [reference(f"s3://bucket/{number}.png") for number in range(30)]
    assert list(pool[0].watch(items, peek=True)) == items
    assert pool[1] == []
    here = RelabelOptions(sources=(Path("imgs"),), out=Path("out"), processes=True)
    assert run._in_processes(here)
    assert not run._in_processes(replace(here, out=storage.locate("s3://bucket/out")))
    assert not run._in_processes(replace(here, processes=False))
    assert not run._in_processes(replace(here, workers=1))
    assert not run._in_processes(replace(here, workers=200))


def test_no_more_processes_than_memory_allows(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Pool:
        def __init__(self, count: int, *_: object) -> None:
            made.append(count)
            raise OSError("no semaphores")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "WORTH", 1)
    monkeypatch.setattr(run, "default_workers", lambda: 8)
    for number, (memory, counts) in enumerate([(None, [8]), (2_200_000_000, [3]), (1_000_000_000, [])]):
        made.clear()
        monkeypatch.setattr(processes, "free_memory", lambda memory=memory: memory)
        asked = options(folder_of_digits, tmp_path / str(number), workers=8)
        assert {one.status for one in relabel(asked)} == {"done"}
        assert made == counts


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_long_run_that_is_ended_leaves_no_process(
    digit: Callable[[int], np.ndarray], tmp_path: Path, number: signal.Signals
) -> None:
    source, out = tmp_path / "imgs", tmp_path / "out"
    source.mkdir()
    Image.fromarray(digit(0)).save(source / "first.png")
    for index in range(60_000):
        os.link(source / "first.png", source / f"{index:05}.png")
    command = [sys.executable, "-m", "cvae_cli", "relabel", str(source), "--out", str(out), "--targets", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    group = process.pid
    children: list[int] = []
    end = time.monotonic() + 120
    while len(children) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
        children = spawned(process.pid)
    time.sleep(6.0)  # until they draw
    assert process.poll() is None
    if number == signal.SIGINT:
        os.killpg(group, number)  # as a terminal does
    else:
        os.kill(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end + 30
        time.sleep(0.1)
    done = [line for line in manifest_lines(out) if line["status"] == "done"] if number < 9 else []
    pictures = [name for name in tree(out) if not Path(name).name.startswith(".")]
    assert pictures
    if number != signal.SIGKILL:
        assert len(done) == len(pictures)


def spawned(parent: int) -> list[int]:
    """The processes that ``multiprocessing`` has started for another one."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(status[1]) == parent and b"spawn_main" in command:
            found.append(int(folder.name))
    return found
