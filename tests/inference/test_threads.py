from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from cvae_cli.inference.threads import default_workers, one_core_per_thread


def test_each_thread_has_one_core_and_the_number_comes_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_core_per_thread() as initialise, ThreadPoolExecutor(1, initializer=initialise) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        with suppress(KeyError), one_core_per_thread() as initialise:
            initialise()
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("processors", "workers"), [(1, 2), (2, 2), (12, 12), (300, 64)])
def test_a_worker_for_each_processor_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert default_workers() == workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert default_workers() == workers
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers() == 2
