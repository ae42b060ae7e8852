"""Processes that take over from the threads of a run which is long enough to be worth starting them.

Threads hold Python's lock in turns, and wait for it: two of them draw a sixth less than two processes, and
dozens of them little more than four. But a process takes seconds to start, in which threads draw a thousand
digits.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from itertools import islice
from typing import Any

from cvae_cli.images.discover import ImageRef
from cvae_cli.images.output import OutputFolder
from cvae_cli.inference.threads import free_memory
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.relabelling.worker import Before, Worker
from cvae_cli.storage import RemotePath

ALONE_SECONDS = 1.0
"""How long threads work alone."""
WORTH = 16
"""Processes are started if, of this many times as many images as were handed out by then, most are work."""
_MEMORY = 700_000_000
"""Bytes that a process takes, at most, with one of the shipped models."""


class WorkerProcesses(Executor):
    """Does what a :class:`Worker` is asked to: in threads at first, in processes once these are ready.

    Where processes cannot be started, or one of them dies, threads do the work.
    """

    def __init__(self, worker: Worker, count: int, threads: Executor, *, draws: bool) -> None:
        """Nothing is started yet.

        Args:
            worker: what the threads work with; each process gets one of its own, of the same plan.
            count: of processes, at most: no more than memory allows.
            threads: what does the work before.
            draws: whether the processes are to load the model.
        """
        self._worker, self._count, self._threads, self._draws = worker, count, threads, draws
        self._processes: ProcessPoolExecutor | None = None
        self._started: list[Future[None]] = []

    def watch(
        self, items: Iterable[ImageRef | ImageOutcome], *, peek: bool
    ) -> Iterator[ImageRef | ImageOutcome]:
        """The items, while the processes are started when that is worth it.

        It never is for images of an object store: threads wait for that as well as processes.

        Args:
            items: what is to be handed out.
            peek: whether to make sure that enough items are left, which waits for them where they come
                from another program.
        """
        began, count, rest = time.monotonic(), 0, iter(items)
        for item in rest:
            count += isinstance(item, ImageRef)
            yield item
            if isinstance(item, ImageRef) and isinstance(item.file, RemotePath):
                break
            if count and time.monotonic() - began >= ALONE_SECONDS:
                left = list(islice(rest, WORTH * count)) if peek else []
                # Others are finished; no more is read ahead than this, however many of these there are.
                if not peek or 2 * sum(isinstance(each, ImageRef) for each in left) >= WORTH * count:
                    self.start()
                yield from left
                break
        yield from rest

    def start(self) -> None:
        """Start the processes; threads go on until they are ready."""
        worker = self._worker
        memory = free_memory()
        count = self._count if memory is None else min(self._count, memory // _MEMORY)
        if count < 2:
            return
        # Not a fork: threads that hold locks would be missing in it.
        context = multiprocessing.get_context("spawn")
        given = (worker.plan, worker.device, worker.batch_size, self._draws)
        try:
            self._processes = ProcessPoolExecutor(count, context, _begin, given)
            self._started = [self._processes.submit(_greet) for _ in range(count)]
        except (OSError, BrokenExecutor):  # no semaphores on this machine, or no more processes
            self._processes = None

    @property
    def ready(self) -> bool:
        """Whether processes take work."""
        return any(each.done() and not each.cancelled() and not each.exception() for each in self._started)

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a method of the worker called, here or in a process."""
        processes = self._processes  # another thread may give them up meanwhile
        if processes is None or not self.ready:
            return self._threads.submit(work, *args, **kwargs)
        result: Future[Any] = Future()
        try:
            asked = processes.submit(_call, work.__name__, args, kwargs)
        except BrokenExecutor:
            self._processes = None
            return self._threads.submit(work, *args, **kwargs)

        def take(done: Future[Any]) -> None:
            if not done.cancelled() and isinstance(done.exception(), BrokenExecutor):
                self._processes = None
                try:
                    self._threads.submit(work, *args, **kwargs).add_done_callback(
                        lambda own: _copy(own, result)
                    )
                except RuntimeError as error:  # shut down meanwhile
                    result.set_exception(error)
            else:
                _copy(done, result)

        asked.add_done_callback(take)
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End threads and processes; what was begun is finished."""
        if self._processes is not None:
            self._processes.shutdown(wait, cancel_futures=cancel_futures)
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def _copy(done: Future[Any], result: Future[Any]) -> None:
    if done.cancelled():
        result.cancel()
    elif (error := done.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(done.result())


# In a process of its own

_own: list[Worker] = []
"""The worker of this process."""


def _begin(plan: RelabelPlan, device: str, batch_size: int | None, draws: bool) -> None:
    """Make this process ready: its worker, with the model if it is to draw."""
    # Ctrl-C goes to all processes of a terminal; the first of them decides what is still finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What looks abandoned may be in use by another process, and what is finished was left out before.
    folder = OutputFolder(plan.out, clear=False)
    folder.create()
    worker = Worker(plan, folder, Before(plan, look=False), device=device, batch_size=batch_size)
    if draws:
        import torch

        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first process has said so
            _ = worker.copies
    _own.append(worker)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _greet() -> None:
    """Nothing; who answers is ready."""


def _call(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return getattr(_own[0], method)(*args, **kwargs)
