"""Processes that work for the threads of a run which is long enough to be worth starting them.

Threads hold Python's lock in turns, and wait for it: two of them draw a quarter less than two processes, and
dozens of them little more than four. But a process takes a second or two to start, most of it for importing
torch, in which threads draw one or two thousand digits. So each thread but one gets a process of its own, and
hands it work as soon as it is ready; without one, or once it is lost, the thread does the work itself. The
last thread has this process to itself.

Where a run can be seen in time to be long, its processes start before torch is imported here: then all
import it at once, on cores that have nothing else to do.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from itertools import chain, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeGuard, TypeVar

from cvae_cli import storage
from cvae_cli.errors import ProcessLostWarning
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.output import OutputFolder
from cvae_cli.inference.threads import free_memory, seems_without_gpu
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.earlier import FINISHED
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.relabelling.worker import Before, Worker
from cvae_cli.storage import RemotePath

EARLY_SECONDS = 0.3
"""How long images are looked for before torch is imported here: a slow disk must not hold up the run."""
LEAST_EARLY, EACH_EARLY = 3000, 1000
"""Images from which processes start before torch is imported here: in all, and for each process. On two cores
they break even at 2,500 digits."""
_SAMPLE, _LARGE_BYTES, _MOST_TIMES = 32, 40_000, 10
"""Every 40 KB of a file count as the work of one more digit, up to ten digits in all; judged by the first
images."""
ALONE_SECONDS = 1.0
"""Otherwise: how long threads work alone."""
WORTH = 40
"""Processes are started if there are this many times as many images left as were handed out by then."""
_MOST_AHEAD, _SLACK = 20_000, 256
"""Images that are looked at for that, and how many more of them may be finished than not."""
_STREAMED = 100
"""Where the images come from another program: how many have to have come by then."""
_MEMORY = {True: 700_000_000, False: 200_000_000}
"""Bytes that a process takes, with one of the shipped models and without."""
_PATIENCE = 5.0
"""Seconds in which processes are to end by themselves."""


_Item = TypeVar("_Item", bound=ImageRef | ImageOutcome)


class WorkerProcesses(Executor):
    """Calls methods of a :class:`Worker` in threads, which have it done by processes once these are ready."""

    def __init__(self, worker: Worker, count: int, *, streamed: bool) -> None:
        """Nothing is started yet.

        Args:
            worker: what the threads work with; each process gets one of its own, of the same plan.
            count: of threads. There is a process less, and no more than half of the free memory holds.
            streamed: whether the images come from another program, so that looking ahead would wait for it.
        """
        self._worker, self._count, self._streamed = worker, count, streamed
        self._threads: Executor | None = None
        self._draws = True
        self._memory: int | None = None
        self._setting: bytes | None = None
        self._setting_lock = threading.Lock()
        self._processes: list[_Process] = []
        self._unclaimed: list[_Process] = []
        self._of_thread = threading.local()

    def begin(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, after processes are started if so many are left that this will be worth it.

        To be called once, before torch is imported here. Processes started here are meant to draw on the CPU:
        none is started where there may be a GPU. Where images are found or drawn slowly, the rest may start
        later (:meth:`watch`).

        Args:
            items: what is to be handed out, none of it in an object store.
        """
        rest = iter(items)
        if self._streamed or not seems_without_gpu(self._worker.device):
            return rest
        until = time.monotonic() + EARLY_SECONDS
        ahead, _ = _look_ahead(rest, _SAMPLE, until=until)
        files = (item.file for item in ahead if _is_work(item))
        sizes = [storage.size_of(file) or 0 for file in files if time.monotonic() < until]
        times = min(_MOST_TIMES, 1 + sum(sizes) / max(1, len(sizes)) / _LARGE_BYTES)
        for number in range(1, self._most_more() + 1):
            wanted = int(max(LEAST_EARLY, EACH_EARLY * number) / times) - len(ahead)
            left, worth = _look_ahead(rest, max(0, wanted), until=until)
            ahead += left
            if not (worth and self._start(1, imports_torch=True)):
                break
        return chain(ahead, rest)

    def work_for(self, threads: Executor, *, draws: bool) -> None:
        """Say which threads hand out work.

        Args:
            threads: as many as were announced.
            draws: whether the processes are to load the model.
        """
        self._threads, self._draws = threads, draws

    def watch(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, while the processes that are missing are started when that is worth it.

        It is not as long as all images are those of an object store: threads wait for that as well.
        """
        if len(self._processes) >= self._count - 1:
            yield from items
            return
        began, count, looked, rest = time.monotonic(), 0, 0, iter(items)
        for item in rest:
            yield item
            if not _is_work(item) or isinstance(item.file, RemotePath):
                continue
            count += 1
            if time.monotonic() - began < ALONE_SECONDS:
                continue
            if count < (_STREAMED if self._streamed else 2 * looked):
                continue
            if self._streamed:
                break
            looked = count
            left, worth = _look_ahead(rest, min(WORTH * count, _MOST_AHEAD))
            if worth:
                rest = chain(left, rest)
                break
            yield from left
            count += sum(map(_is_work, left))
        else:
            return
        self._start(self._most_more())
        yield from rest

    def _most_more(self) -> int:
        """How many more processes there may be."""
        if self._memory is None:
            # Once, before there are any: afterwards it is they that have taken it.
            free = free_memory()
            self._memory = _MEMORY[True] * 2 * self._count if free is None else free
        by_memory = self._memory // 2 // _MEMORY[self._draws]
        return min(self._count - 1, by_memory) - len(self._processes)

    def _start(self, count: int, *, imports_torch: bool = False) -> bool:
        """Start processes, and say whether all could be; threads go on by themselves until they are ready."""
        # Where none can be started, threads do the work.
        with suppress(OSError, RuntimeError, AssertionError), _without_interrupts():
            for _ in range(count):
                process = _Process(imports_torch=imports_torch)
                self._processes.append(process)
                self._unclaimed.append(process)
            return True
        return False

    def setting(self) -> bytes:
        """What a process needs to know, pickled once: a table of labels may be large."""
        with self._setting_lock:
            if self._setting is None:
                worker = self._worker
                self._setting = pickle.dumps(
                    _Setting(worker.plan, worker.device, worker.batch_size, self._draws)
                )
            return self._setting

    @property
    def ready(self) -> int:
        """How many processes take work."""
        return sum(process.is_ready for process in self._processes)

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a method of the worker called, in this process or another one."""
        assert self._threads is not None
        return self._threads.submit(self._do, work, *args, **kwargs)

    def _do(self, work: Callable[..., Any], *args: Any) -> Any:
        process = self._own_process()
        if process is None or not process.listen(self.setting):
            return work(*args)
        try:
            done, result = process.ask(work.__name__, args)
        except (EOFError, OSError):
            process.is_ready, process.is_lost = False, True
            warnings.warn(
                "a worker process ended unexpectedly, perhaps for lack of memory; a thread goes on for it.",
                ProcessLostWarning,
                stacklevel=2,
            )
            return list(map(_of_this_run, work(*args)))
        if not done:
            raise result
        return result

    def _own_process(self) -> _Process | None:
        """The process of this thread, if there is one for it."""
        own: _Process | None = getattr(self._of_thread, "process", None)
        if own is None:
            with suppress(IndexError):
                own = self._of_thread.process = self._unclaimed.pop()
        return own

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End threads and processes; what was begun is finished. It may be called again."""
        try:
            if self._threads is not None:
                self._threads.shutdown(wait, cancel_futures=cancel_futures)
        finally:
            for process in self._processes:
                process.end()
            for process in self._processes:
                process.join()


def _is_work(item: ImageRef | ImageOutcome) -> TypeGuard[ImageRef]:
    return isinstance(item, ImageRef) and not item.passed_over and not item.problem


def _look_ahead(rest: Iterator[_Item], wanted: int, *, until: float = math.inf) -> tuple[list[_Item], bool]:
    """The next items, and whether there are as many as wanted, about half of them work at least.

    Args:
        rest: where they come from.
        wanted: how many.
        until: when ``time.monotonic`` is past this, they are not there.
    """
    left: list[_Item] = []
    work = 0
    for item in islice(rest, wanted):
        left.append(item)
        work += _is_work(item)
        if len(left) - work > work + _SLACK or time.monotonic() > until:
            return left, False
    return left, len(left) == wanted and 2 * work >= wanted


def _of_this_run(result: Any) -> Any:
    """What was done again: finished by the process that was lost is done, not finished before."""
    if isinstance(result, ImageOutcome) and result.reason == FINISHED:
        return result.updated(status="done", reason="")
    return result


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in processes that are started: the first one decides what is still finished."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # With the first process it would start this one, and then let Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Setting(NamedTuple):
    """What a process needs to know."""

    plan: RelabelPlan
    device: str
    batch_size: int | None
    draws: bool


class _Process:
    """A process as the thread sees it that it works for.

    Attributes:
        is_ready: whether it takes work.
        is_lost: whether it has ended by itself.
    """

    def __init__(self, *, imports_torch: bool) -> None:
        """Start it; nothing here waits for it.

        Args:
            imports_torch: before it asks for its setting.
        """
        # Not a fork: threads that hold locks would be missing in it.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, imports_torch), daemon=True)
        self._process.start()
        theirs.close()  # so that what is waited for here fails when the process has ended
        self.is_ready = self.is_lost = False

    def listen(self, setting: Callable[[], bytes]) -> bool:
        """Whether it takes work, after all that it has said.

        Args:
            setting: what it needs to know; sent when it asks for it.
        """
        try:
            while not self.is_ready and not self.is_lost and self._connection.poll():
                if self._connection.recv() == _READY:
                    self.is_ready = True
                else:
                    self._connection.send_bytes(setting())
        except (EOFError, OSError):
            self.is_lost = True
        return self.is_ready

    def ask(self, method: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
        """Whether a method of its worker returned, and what; or else what it raised.

        Raises:
            EOFError, OSError: the process has ended.
        """
        self._connection.send((method, args))
        done, result = self._connection.recv()
        return done, result

    def end(self) -> None:
        """Let it end; it has nothing to do."""
        self._connection.close()
        if not self.is_ready:
            self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


# In a process of its own

_HELLO, _READY = "hello", "ready"


def _serve(connection: Connection, imports_torch: bool) -> None:
    """Do what the thread at the other end asks for, until it closes the connection or its process ends."""
    # Ctrl-C and what is sent to all processes of a terminal or a job are for the first of them.
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if imports_torch:
        import cvae_cli.inference.relabeller  # noqa: F401
    with suppress(EOFError, OSError):
        connection.send(_HELLO)
        worker = _make_worker(pickle.loads(connection.recv_bytes()))
        connection.send(_READY)
        while True:
            method, args = connection.recv()
            try:
                answer = (True, getattr(worker, method)(*args))
            except Exception as error:
                answer = (False, error)
            connection.send(answer)
    # All that it wrote is written. Tearing torch down takes half a second, for which the run would wait.
    os._exit(0)


def _make_worker(setting: _Setting) -> Worker:
    """The worker of this process, with the model if it is to draw."""
    # What looks abandoned may be in use by another process, and what is finished was left out before.
    folder = OutputFolder(setting.plan.out, clear=False)
    folder.create()
    before = Before(setting.plan, look=False)
    worker = Worker(setting.plan, folder, before, device=setting.device, batch_size=setting.batch_size)
    if setting.draws:
        import torch

        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first process has said so
            _ = worker.copies
    return worker
