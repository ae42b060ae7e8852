"""Any number of images through a network in batches of one shape, smaller ones if memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from cvae_cli.errors import UserError

_T = TypeVar("_T")


class AdaptiveBatcher:
    """Runs images through a network in batches, and halves the batch size if memory runs out.

    Attributes:
        size: the batch size. The network always sees this many images; the last batch is padded.
    """

    def __init__(self, size: int) -> None:
        """Start with batches of ``size`` images."""
        self.size = size

    def run(self, count: int, work: Callable[[slice, int], _T]) -> list[_T]:
        """Call ``work`` with each slice of ``count`` images, and the size to pad its batch to.

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
            # Outside the except clause, which would keep alive what the failed attempt allocated.
            if size == 1:
                raise UserError("not even one image fits in the memory of this device; use another --device.")
            self.size = min(self.size, -(-size // 2))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU, MPS, and the CUDA libraries each have their own wording.
    phrases = ("allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(phrase in str(error) for phrase in phrases)
