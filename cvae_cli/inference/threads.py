"""What this machine has for threads and processes, and on how many cores each thread runs its networks."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvae_cli import storage

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Control groups of Linux, and those of this process."""
_GPUS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""Files that exist where torch may find a GPU: NVIDIA's, AMD's, or either under WSL."""
_MEMORY = Path("/proc/meminfo")
_LIMIT_V1, _USED_V1 = "memory.limit_in_bytes", "memory.usage_in_bytes"
_CACHED = ("inactive_file", "total_inactive_file")


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
    """Threads for all the work: one for each processor that this process may use, from 2 to 64."""
    return min(64, max(2, processors()))


def processors() -> int:
    """How many processors this process may use, by its affinity and, in a container, its quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else min(count, math.ceil(quota))


def seems_without_gpu(device: str) -> bool:
    """Whether networks will run on the CPU, as far as that can be told without importing torch.

    On Linux GPUs have device files: true if there are none. Elsewhere only if the CPU is asked for.

    Args:
        device: as ``--device``.
    """
    return device == "cpu" or (
        device == "auto" and sys.platform == "linux" and not any(map(storage.exists, _GPUS))
    )


def cpu_quota() -> float | None:
    """Processors' worth of time that control groups of Linux allow; ``None`` without a limit.

    The least of the process's own group and those above it (https://docs.kernel.org/admin-guide/cgroup-v2.html,
    ``cpu.max``; of version 1 ``cpu.cfs_quota_us`` over ``cpu.cfs_period_us``).
    """
    quotas = (_quota_v2(folder) if is_v2 else _quota_v1(folder) for folder, is_v2 in _own_groups("cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def free_memory() -> int | None:
    """Bytes of memory that are left, for this machine and by its control groups; ``None`` if it does not say.

    What files are cached in counts as left (``MemAvailable``, and the ``inactive_file`` of a group). Other
    systems than Linux tell only how much there is in all.
    """
    found = []
    with suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError, IndexError):
        lines = storage.read_text(_MEMORY).splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for folder, is_v2 in _own_groups("memory"):
        names = ("memory.max", "memory.current") if is_v2 else (_LIMIT_V1, _USED_V1)
        limit, used = (next(iter(_numbers(folder / name)), None) for name in names)
        if limit is not None and used is not None:
            found.append(max(0, limit - used + _cached(folder)))
    return min(found, default=None)


def _own_groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """The control groups of this process, each with those above it, and whether these are version 2."""
    try:
        groups = [line.split(":", 2) for line in storage.read_text(_OWN_GROUPS).splitlines()]
    except OSError:
        return
    for _, controllers, path in (group for group in groups if len(group) == 3):
        is_v2 = controllers == ""
        if not is_v2 and controller not in controllers.split(","):
            continue
        root = _GROUPS if is_v2 else _GROUPS / controller
        own = root / path.lstrip("/")
        # In a container the path may be that of the host, and its root the container's own group.
        for folder in (own, *own.parents):
            yield folder, is_v2
            if folder == root:
                break


def _quota_v2(folder: Path) -> float | None:
    text = _numbers(folder / "cpu.max")
    return None if len(text) < 2 or text[0] is None or not text[1] else text[0] / text[1]


def _quota_v1(folder: Path) -> float | None:
    quota, period = _numbers(folder / "cpu.cfs_quota_us"), _numbers(folder / "cpu.cfs_period_us")
    return quota[0] / period[0] if quota and period and quota[0] and quota[0] > 0 and period[0] else None


def _cached(folder: Path) -> int:
    """Bytes of files that a group's memory holds and would give up."""
    with suppress(OSError, ValueError, IndexError):
        lines = storage.read_text(folder / "memory.stat").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] in _CACHED)
    return 0


def _numbers(file: Path) -> list[int | None]:
    """The numbers of a file, ``None`` for other words; nothing if it cannot be read."""
    try:
        words = storage.read_text(file).split()
    except (OSError, UnicodeDecodeError):
        return []
    return [int(word) if word.lstrip("-").isdecimal() else None for word in words]
