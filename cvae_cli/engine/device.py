"""Where the network runs, and in which precision."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from cvae_cli.errors import UserError


def resolve_device(asked: str) -> torch.device:
    """The device of ``--device``: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UserError: this machine has no such device, or the name is none.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if asked == "cpu":
        return torch.device("cpu")
    if asked == "mps":
        if not mps:
            raise UserError("--device mps: this machine has no Apple GPU; use --device cpu or auto.")
        return torch.device("mps")
    if match := re.fullmatch(r"cuda(?::(\d+))?", asked):
        if not cuda:
            raise UserError(
                f"--device {asked}: torch finds no CUDA GPU on this machine; use --device cpu or auto."
            )
        if int(match[1] or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {asked}: this machine has {torch.cuda.device_count()} CUDA GPU(s).")
        return torch.device(asked)
    raise UserError(f"--device {asked}: not one of auto, cpu, cuda, cuda:N, mps.")


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in bf16 by itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    # AVX512-BF16 and AMX on x86, BF16 on ARM.
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def one_core_a_thread() -> Iterator[Callable[[], None]]:
    """While it lasts, threads can ask for one core each instead of all cores for every network.

    Yields:
        A function that each thread calls once, before it runs a network.
    """
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(before)


_T = TypeVar("_T")


class Portions:
    """Images go through a network so many at once; half as many where those do not fit in memory.

    Attributes:
        size: how many at once: the network always sees this many, padded where fewer are left.
    """

    def __init__(self, size: int) -> None:
        """Begin with ``size`` images at once."""
        self.size = size

    def run(self, count: int, work: Callable[[slice, int], _T]) -> list[_T]:
        """Call ``work`` with each slice that ``count`` images fall into, and the size to pad it to.

        Raises:
            UserError: not even one image fits in memory.
        """
        done: list[_T] = []
        start = 0
        while start < count:
            size = self.size  # another thread may halve it meanwhile
            part = slice(start, min(count, start + size))
            try:
                done.append(work(part, size))
                start = part.stop
                continue
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            # Out of the clause, which would keep alive what the failed attempt has allocated.
            if size == 1:
                raise UserError("not even one image fits in the memory of this device; use another --device.")
            self.size = min(self.size, -(-size // 2))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU, MPS, and the libraries of CUDA say it each in their own words.
    said = ("allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)
