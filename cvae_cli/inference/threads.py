"""How many threads work, and on how many cores each of them runs its networks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cvae_cli import storage

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Control groups of Linux, and those of this process."""


@contextmanager
def one_core_per_thread() -> Iterator[Callable[[], None]]:
    """Let threads run their networks on one core each, instead of every network on all cores.

    Yields:
        A function that each thread calls once, before it runs a network.
    """
    import torch  # not before there is something to compute

    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(before)


def default_workers() -> int:
    """Threads for all the work: one for each processor that this process may use, from 2 to 64.

    Which these are the affinity of the process says, and in a container its quota.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota = cpu_quota()
    if quota is not None:
        count = min(count, math.ceil(quota))
    return min(64, max(2, count))


def cpu_quota() -> float | None:
    """Processors' worth of time that control groups of Linux allow; ``None`` without a limit.

    The least of the process's own group and those above it (https://docs.kernel.org/admin-guide/cgroup-v2.html,
    ``cpu.max``; of version 1 ``cpu.cfs_quota_us`` over ``cpu.cfs_period_us``).
    """
    try:
        groups = [line.split(":", 2) for line in storage.read_text(_OWN_GROUPS).splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in (group for group in groups if len(group) == 3):
        is_v2 = controllers == ""
        if not is_v2 and "cpu" not in controllers.split(","):
            continue
        root = _GROUPS if is_v2 else _GROUPS / "cpu"
        own = root / path.lstrip("/")
        # In a container the path may be that of the host, and its root the container's own group.
        for folder in (own, *own.parents):
            quota = _quota_v2(folder) if is_v2 else _quota_v1(folder)
            if quota is not None:
                found.append(quota)
            if folder == root:
                break
    return min(found, default=None)


def _quota_v2(folder: Path) -> float | None:
    text = _numbers(folder / "cpu.max")
    return None if len(text) < 2 or text[0] is None or not text[1] else text[0] / text[1]


def _quota_v1(folder: Path) -> float | None:
    quota, period = _numbers(folder / "cpu.cfs_quota_us"), _numbers(folder / "cpu.cfs_period_us")
    return quota[0] / period[0] if quota and period and quota[0] and quota[0] > 0 and period[0] else None


def _numbers(file: Path) -> list[int | None]:
    """The numbers of a file, ``None`` for other words; nothing if it cannot be read."""
    try:
        words = storage.read_text(file).split()
    except (OSError, UnicodeDecodeError):
        return []
    return [int(word) if word.lstrip("-").isdecimal() else None for word in words]
