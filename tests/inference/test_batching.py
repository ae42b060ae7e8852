from __future__ import annotations

from itertools import chain

import pytest
import torch

from cvae_cli.errors import UserError
from cvae_cli.inference.batching import AdaptiveBatcher

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
]


def test_every_image_is_worked_on_once_in_batches_of_one_size() -> None:
    calls: list[tuple[int, int, int]] = []

    def work(part: slice, size: int) -> list[int]:
        calls.append((part.start, part.stop, size))
        return list(range(part.start, part.stop))

    results = AdaptiveBatcher(4).run(10, work)
    assert list(chain(*results)) == list(range(10))
    assert calls == [(0, 4, 4), (4, 8, 4), (8, 10, 4)]
    assert AdaptiveBatcher(4).run(0, work) == []


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered(error: RuntimeError) -> None:
    sizes: list[int] = []

    def work(part: slice, size: int) -> list[int]:
        sizes.append(size)
        if size > 3:
            raise error
        return list(range(part.start, part.stop))

    batcher = AdaptiveBatcher(9)
    assert list(chain(*batcher.run(7, work))) == list(range(7))
    assert sizes == [9, 5, 3, 3, 3]
    assert batcher.size == 3
    batcher.run(3, work)
    assert sizes[5:] == [3]


def test_one_image_that_does_not_fit_is_a_clear_message() -> None:
    def work(part: slice, size: int) -> None:
        raise OUT_OF_MEMORY[0]

    with pytest.raises(UserError, match="not even one image fits"):
        AdaptiveBatcher(4).run(5, work)


def test_other_errors_are_not_taken_for_it() -> None:
    tried: list[int] = []

    def work(part: slice, size: int) -> None:
        tried.append(size)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        AdaptiveBatcher(4).run(5, work)
    assert tried == [4]
