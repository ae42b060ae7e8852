"""In a long run processes work for the threads."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from helpers import manifest_lines, needs_proc, tree
from PIL import Image

from cvae_cli import errors, storage
from cvae_cli.images.discover import ImageRef
from cvae_cli.inference.threads import processors
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
    """For two threads processes are started after the first image, and waited for; those of the test."""
    started: list[WorkerProcesses] = []
    start = WorkerProcesses._start

    def start_and_wait(self: WorkerProcesses, count: int, **how: bool) -> bool:
        assert count == 1
        # Both threads get one, so that nothing is done here that could be done there.
        assert start(self, 2, **how)
        wait_for(self)
        started.append(self)
        return True

    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "WORTH", 1)
    monkeypatch.setattr(processes, "_STREAMED", 1)
    monkeypatch.setattr(processes, "free_memory", lambda: None)
    monkeypatch.setattr(run, "processors", lambda: 2)
    monkeypatch.setattr(WorkerProcesses, "_start", start_and_wait)
    return started


def wait_for(pool: WorkerProcesses) -> None:
    end = time.monotonic() + 120
    while not all(process.listen(pool.setting) for process in pool._processes):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert pool.ready == len(pool._processes)


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
    assert len(at_once) == 1
    assert sum(here) <= 2  # the others were drawn elsewhere
    assert outcomes == expected
    assert tree(other) == tree(whole)
    assert manifest_lines(other) == manifest_lines(whole)
    # What is finished does not start any.
    assert [one.reason for one in relabel(options(folder_of_digits, other)) if one.path != "broken.png"] == [
        "finished before"
    ] * 10
    assert len(at_once) == 1


@pytest.mark.long
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


@pytest.mark.parametrize("when", ["before", "during"])
def test_what_a_process_that_died_was_given_is_done_here(
    folder_of_digits: Path,
    tmp_path: Path,
    at_once: list[WorkerProcesses],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    ask = processes._Process.ask

    def ask_and_kill(self: processes._Process, method: str, args: tuple[object, ...]) -> object:
        if when == "during":
            self._connection.send((method, args))
            self._connection.poll(60)  # it has written its pictures
        self._process.kill()
        self._process.join()
        return ask(self, method, args)

    monkeypatch.setattr(processes._Process, "ask", ask_and_kill)
    out = tmp_path / "out"
    with pytest.warns(errors.ProcessLostWarning, match="a thread goes on"):
        outcomes = list(relabel(options(folder_of_digits, out)))
    assert [one.status for one in outcomes] == ["done"] * 10
    assert len(at_once) == 1
    assert len(manifest_lines(out)) == len(tree(out)) == 10


@pytest.mark.long
def test_what_a_worker_raises_is_raised(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    jobs = relabel(options(folder_of_digits, out))
    next(jobs)
    pool = at_once[0]
    with pytest.raises(AttributeError, match="no_such_method"):
        pool.submit(type("", (), {"__name__": "no_such_method"})()).result()
    jobs.close()
    assert not any(process._process.is_alive() for process in pool._processes)
    with pytest.raises(RuntimeError):
        pool.submit(print)


def test_a_copied_data_set_of_parquet_files_is_left_to_threads(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses]
) -> None:
    pytest.importorskip("pyarrow")
    asked = options(folder_of_digits, tmp_path / "out", write="parquet")
    list(relabel(replace(asked, processes=False)))
    for file in folder_of_digits.rglob("*.png"):
        os.utime(file, (1, 1))  # another version of the same bytes
    assert [one.status for one in relabel(asked)] == ["skipped"] * 10
    assert at_once == []


@pytest.mark.long
def test_images_from_another_program_and_a_table_of_labels(
    folder_of_digits: Path, tmp_path: Path, at_once: list[WorkerProcesses]
) -> None:
    files = sorted(folder_of_digits.rglob("*.png"))
    table = tmp_path / "labels.csv"
    # Longer than a pipe's buffer.
    rows = [f"{file},{number % 10}" for number, file in enumerate(files)]
    table.write_text("\n".join([*rows, *(f"/no/such/image/{number}.png,1" for number in range(5000))]) + "\n")
    asked = options(folder_of_digits, tmp_path / "one", labels=str(table), processes=False)
    asked = replace(asked, sources=(), listing=[str(file) for file in files])
    expected = list(relabel(asked))
    assert [one.label_source for one in expected] == ["csv"] * 10
    assert list(relabel(replace(asked, out=tmp_path / "two", processes=True))) == expected
    assert len(at_once) == 1
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_errors_come_back_as_they_are() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.CvaeError):
            error = pickle.loads(pickle.dumps(kind("what is wrong")))
            assert (type(error), str(error)) == (kind, "what is wrong")
    image = errors.ImageError("why")
    image.preprocessing = {"mode": "L"}
    assert pickle.loads(pickle.dumps(image)).preprocessing == {"mode": "L"}


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> tuple[WorkerProcesses, list[int]]:
    """A pool of two threads that only counts how often it is started, and its counts."""
    starts: list[int] = []
    monkeypatch.setattr(WorkerProcesses, "_start", lambda self, count: starts.append(count))
    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "EARLY_SECONDS", 60.0)
    monkeypatch.setattr(processes, "free_memory", lambda: None)
    return WorkerProcesses(None, 2, streamed=False), starts  # type: ignore[arg-type]


def reference(file: str) -> ImageRef:
    return ImageRef(storage.locate(file), file, file, PurePosixPath("x"))


FINISHED = ImageOutcome("a", "a", "skipped")


@pytest.mark.parametrize(("count", "starts"), [(1, []), (40, []), (41, [1]), (90, [1])])
def test_a_short_run_is_left_to_threads(
    pool: tuple[WorkerProcesses, list[int]], count: int, starts: list[int]
) -> None:
    items = [FINISHED, *(reference(f"{number}.png") for number in range(count))]
    assert list(pool[0].watch(items)) == items
    assert pool[1] == starts


@pytest.mark.parametrize("finished", [0, 100, 10_000])
def test_finished_images_are_no_work_and_do_not_decide_for_ever(
    pool: tuple[WorkerProcesses, list[int]], finished: int
) -> None:
    taken = 0

    def items() -> Iterator[ImageRef | ImageOutcome]:
        nonlocal taken
        for number in range(finished + 501):
            taken += 1
            yield FINISHED if 0 < number <= finished else reference(f"{number}.png")

    watched = pool[0].watch(items())
    some = [next(watched), next(watched)]
    # No more are read ahead than decide it.
    assert taken <= 2 + max(16, processes._SLACK + 1)
    assert len([*some, *watched]) == finished + 501
    assert pool[1] == [1]


@pytest.mark.parametrize(
    ("count", "threads", "starts"),
    [(2999, 9, 0), (3000, 9, 3), (3999, 9, 3), (4000, 9, 4), (20_000, 9, 8), (3000, 2, 1), (9000, 1, 0)],
)
def test_processes_start_before_torch_is_imported_where_there_is_enough_for_them(
    pool: tuple[WorkerProcesses, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    threads: int,
    starts: int,
) -> None:
    early: list[bool] = []

    def start(self: WorkerProcesses, count: int, *, imports_torch: bool = False) -> bool:
        early.append(imports_torch)
        return True

    class Anything:
        device = "auto"

    monkeypatch.setattr(WorkerProcesses, "_start", start)
    monkeypatch.setattr(processes, "seems_without_gpu", lambda device: device == "auto")
    pool[0]._worker, pool[0]._count = Anything(), threads  # type: ignore[assignment]
    items = [reference(f"{number}.png") for number in range(count)]
    assert list(pool[0].begin(items)) == items
    assert early == [True] * starts
    # What is finished is no work.
    assert len(list(pool[0].begin([FINISHED] * 9000))) == 9000
    Anything.device = "cuda"
    assert list(pool[0].begin(items)) == items
    assert early == [True] * starts


@pytest.mark.parametrize(
    ("size", "count", "starts"),
    [(100, 299, 0), (40_000, 1499, 0), (40_000, 1500, 1), (9_000_000, 299, 0), (9_000_000, 300, 1)],
)
def test_large_files_are_more_work(
    pool: tuple[WorkerProcesses, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    size: int,
    count: int,
    starts: int,
) -> None:
    class Anything:
        device = "cpu"

    file = tmp_path / "a.png"
    with file.open("wb") as stream:
        stream.truncate(size)
    pool[0]._worker = Anything()  # type: ignore[assignment]
    monkeypatch.setattr(WorkerProcesses, "_start", lambda self, count, **how: pool[1].append(count))
    items = [reference(str(file))] * count
    assert list(pool[0].begin(items)) == items
    assert pool[1] == [1] * starts


@pytest.fixture
def ten_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images are enough for processes to start early."""
    monkeypatch.setattr(processes, "LEAST_EARLY", 10)
    monkeypatch.setattr(processes, "EACH_EARLY", 5)
    monkeypatch.setattr(processes, "EARLY_SECONDS", 60)
    monkeypatch.setattr(processes, "free_memory", lambda: None)
    monkeypatch.setattr(run, "processors", lambda: 2)


@pytest.mark.usefixtures("ten_are_enough")
def test_what_starts_early_makes_what_threads_make(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(relabel(options(folder_of_digits, tmp_path / "one", processes=False)))
    steps: list[str] = []
    begin, check, ask = WorkerProcesses._start, Worker.check, processes._Process.ask

    def start(self: WorkerProcesses, count: int, **how: bool) -> bool:
        steps.append("start")
        return begin(self, count, **how)

    def load(self: Worker) -> None:
        steps.append("load")
        check(self)

    def hand_over(self: processes._Process, method: str, args: tuple[object, ...]) -> tuple[bool, object]:
        steps.append("hand over")
        return ask(self, method, args)

    def work_for(self: WorkerProcesses, *args: Any, **how: bool) -> None:
        bind(self, *args, **how)
        wait_for(self)

    bind = WorkerProcesses.work_for
    monkeypatch.setattr(WorkerProcesses, "_start", start)
    monkeypatch.setattr(WorkerProcesses, "work_for", work_for)
    monkeypatch.setattr(Worker, "check", load)
    monkeypatch.setattr(processes._Process, "ask", hand_over)
    assert list(relabel(options(folder_of_digits, tmp_path / "two"))) == expected
    assert steps[:2] == ["start", "load"]
    assert "hand over" in steps
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


@pytest.mark.usefixtures("ten_are_enough")
def test_what_started_early_ends_where_nothing_can_be_drawn(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[WorkerProcesses] = []
    shutdown = WorkerProcesses.shutdown

    def ended(self: WorkerProcesses, *how: bool, **more: bool) -> None:
        pools.append(self)
        shutdown(self, *how, **more)

    monkeypatch.setattr(WorkerProcesses, "shutdown", ended)
    with pytest.raises(errors.UserError, match="fp16"):
        relabel(options(folder_of_digits, tmp_path / "out", precision="fp16"))
    # Nor where the run is given up before its first image,
    jobs = relabel(options(folder_of_digits, tmp_path / "out"))
    monkeypatch.setattr(run, "drawn_by", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(jobs)
    # before its manifest,
    jobs = relabel(options(folder_of_digits, tmp_path / "out"))
    monkeypatch.setattr(run, "manifest_of", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(jobs)
    # or before it has begun.
    relabel(options(folder_of_digits, tmp_path / "out")).close()  # type: ignore[attr-defined]
    for pool in pools:
        (process,) = pool._processes
        assert not process._process.is_alive()
    assert len(set(map(id, pools))) == 4


def test_what_waits_is_dropped_with_a_run_that_is_dropped(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    draw = Worker.relabel

    def slowly(self: Worker, items: Any) -> Any:
        time.sleep(0.3)
        groups.append(len(items))
        return draw(self, items)

    monkeypatch.setattr(Worker, "relabel", slowly)
    monkeypatch.setattr(run, "_GROUPS_WAITING", 20)  # all six are handed out at once
    monkeypatch.setattr(run, "processors", lambda: 2)
    jobs = relabel(options(folder_of_digits, tmp_path / "out"))
    next(jobs)
    del jobs
    assert len(groups) <= 4


def test_no_more_is_looked_at_in_advance_than_a_slow_disk_allows(
    pool: tuple[WorkerProcesses, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    class Anything:
        device = "cpu"

    def items() -> Iterator[ImageRef]:
        for number in range(40):
            taken.append(number)
            time.sleep(0.01)
            yield reference(f"{number}.png")

    pool[0]._worker = Anything()  # type: ignore[assignment]
    monkeypatch.setattr(processes, "LEAST_EARLY", 30)
    monkeypatch.setattr(processes, "EARLY_SECONDS", 0.05)
    rest = pool[0].begin(items())
    assert 0 < len(taken) < 20
    assert pool[1] == []
    assert len(list(rest)) == 40


def test_where_images_are_slow_the_missing_processes_come_later(
    pool: tuple[WorkerProcesses, list[int]],
) -> None:
    pool[0]._count = 9
    pool[0]._processes = [object()] * 3  # type: ignore[list-item]
    items = [reference(f"{number}.png") for number in range(90)]
    assert list(pool[0].watch(items)) == items
    assert pool[1] == [5]
    pool[0]._processes *= 3
    assert list(pool[0].watch(items)) == items
    assert pool[1] == [5]


def test_half_of_the_free_memory_counts_once(
    pool: tuple[WorkerProcesses, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Anything:
        device = "cpu"

    def start(self: WorkerProcesses, count: int, *, imports_torch: bool = False) -> bool:
        self._processes += [object()] * max(0, count)  # type: ignore[list-item]
        return True

    free = iter([8_000_000_000, 4_500_000_000, 4_500_000_000])
    monkeypatch.setattr(processes, "free_memory", lambda: next(free))
    monkeypatch.setattr(WorkerProcesses, "_start", start)
    pool[0]._worker, pool[0]._count = Anything(), 20  # type: ignore[assignment]
    items = [reference(f"{number}.png") for number in range(9000)]
    assert list(pool[0].watch(pool[0].begin(items))) == items
    assert len(pool[0]._processes) == 5
    # None at all is known, too.
    pool[0]._processes, pool[0]._memory = [], None
    monkeypatch.setattr(processes, "free_memory", lambda: 0)
    assert list(pool[0].watch(pool[0].begin(items))) == items
    assert pool[0]._processes == []


def test_what_is_not_read_is_no_work(pool: tuple[WorkerProcesses, list[int]]) -> None:
    passed = [replace(reference(f"{number}.heic"), passed_over="no") for number in range(90)]
    broken = [replace(reference(f"{number}.png"), problem="no") for number in range(90)]
    items = [reference("0.png"), *passed, *broken]
    assert list(pool[0].watch(items)) == items
    assert pool[1] == []


@pytest.mark.long
def test_torch_is_not_imported_before_early_processes_start(folder_of_digits: Path, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from cvae_cli.relabelling import processes, run
from cvae_cli.relabelling.options import RelabelOptions

def start(self, *, imports_torch):
    print(imports_torch, "torch" in sys.modules)
    raise OSError

processes._Process.__init__ = start
processes.LEAST_EARLY = processes.EACH_EARLY = 3
processes.EARLY_SECONDS = 60
processes.free_memory = lambda: None
run.processors = lambda: 8
run.default_workers = lambda: 8
options = RelabelOptions(sources=(Path(sys.argv[1]),), out=Path(sys.argv[2]), device="cpu", processes=True)
jobs = run.relabel(options)
print("torch" in sys.modules, next(jobs).status)
jobs.close()
"""
    command = [sys.executable, "-c", script, str(folder_of_digits), str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    # One that cannot be started is not tried again and again.
    assert said.splitlines() == ["True False", "True done"]
    # Where some are finished, it is imported for the first that is not.
    next(folder_of_digits.rglob("d9.png")).touch()
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said.splitlines()[-1] == "False skipped"


def test_images_that_come_one_by_one_are_not_waited_for(pool: tuple[WorkerProcesses, list[int]]) -> None:
    taken: list[int] = []

    def items() -> Iterator[ImageRef]:
        for number in range(130):
            taken.append(number)
            yield reference(f"{number}.png")

    pool[0]._streamed = True
    assert list(pool[0].begin(items())) == list(items())  # not a place to look ahead
    taken.clear()
    watched = pool[0].watch(items())
    for number in range(130):
        next(watched)
        assert len(taken) == number + 1
        assert pool[1] == ([1] if number >= processes._STREAMED else [])


def test_images_of_other_machines_are_left_to_threads(
    pool: tuple[WorkerProcesses, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [reference(f"s3://bucket/{number}.png") for number in range(30)]
    assert list(pool[0].watch(items)) == items
    assert pool[1] == []

    class Nothing:
        parts = None

    before: Any = Nothing()
    here = RelabelOptions(sources=(Path("imgs"),), out=Path("out"), processes=True)
    monkeypatch.setattr(run, "processors", lambda: 96)
    assert run._in_processes(here, before)
    assert run._in_processes(replace(here, workers=96), before)
    assert not run._in_processes(replace(here, workers=97), before)
    assert not run._in_processes(replace(here, workers=1), before)
    assert not run._in_processes(replace(here, processes=False), before)
    assert not run._in_processes(replace(here, out=storage.locate("s3://bucket/out")), before)
    monkeypatch.setattr(run, "processors", lambda: 1)
    assert not run._in_processes(here, before)


def test_no_more_processes_than_memory_allows(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def start(*, imports_torch: bool) -> None:
        made.append(1)
        if len(made) == 6:
            raise OSError("no more processes")

    def shutdown(self: WorkerProcesses, *how: bool, **more: bool) -> None:
        assert self._threads is not None
        self._threads.shutdown()

    monkeypatch.setattr(processes, "_Process", start)
    monkeypatch.setattr(WorkerProcesses, "shutdown", shutdown)
    monkeypatch.setattr(WorkerProcesses, "_own_process", lambda self: None)
    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "WORTH", 1)
    monkeypatch.setattr(run, "processors", lambda: 8)
    for number, (memory, count) in enumerate([(None, 6), (5_000_000_000, 3), (1_300_000_000, 0)]):
        made.clear()
        monkeypatch.setattr(processes, "free_memory", lambda memory=memory: memory)
        asked = options(folder_of_digits, tmp_path / str(number), workers=8)
        assert {one.status for one in relabel(asked)} == {"done"}
        assert len(made) == count


@pytest.mark.long
@needs_proc
@pytest.mark.skipif(processors() < 2, reason="one processor")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 6.0])  # while the process starts, and while it draws
def test_a_long_run_that_is_ended_leaves_no_process(
    digit: Callable[[int], np.ndarray], tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    source, out = tmp_path / "imgs", tmp_path / "out"
    source.mkdir()
    Image.fromarray(digit(0)).save(source / "first.png")
    for index in range(30_000):
        os.link(source / "first.png", source / f"{index:05}.png")
    command = [sys.executable, "-m", "cvae_cli", "relabel", str(source), "--out", str(out), "--targets", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    group = process.pid
    children: list[int] = []
    end = time.monotonic() + 120
    while not children:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
        children = spawned(process.pid)
    time.sleep(seconds)
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
    pictures = [name for name in tree(out) if not Path(name).name.startswith(".")]
    assert pictures or seconds < 6
    if number != signal.SIGKILL and pictures:
        done = [line for line in manifest_lines(out) if line["status"] == "done"]
        # What was in flight is written; its outcomes are those of the next run.
        assert 0 < len(done) <= len(pictures)


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
