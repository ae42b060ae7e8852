"""How many threads work, and on how many cores each of them runs its networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_core_per_thread() -> Iterator[Callable[[], None]]:
    """Let threads run their networks on one core each, instead of every network on all cores.

    Yields:
        A function that each thread calls once, before it runs a network.
    """
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(before)


def default_workers() -> int:
    """Threads for all the work: one for each processor that this process may use, from 2 to 64."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return min(64, max(2, count))
