from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from cvae_cli.inference import threads
from cvae_cli.inference.threads import (
    cpu_quota,
    default_workers,
    free_memory,
    one_core_per_thread,
    seems_without_gpu,
)


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
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert default_workers() == workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert default_workers() == workers
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers() == 2


def test_a_gpu_is_a_file_or_may_be_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threads, "_GPUS", (tmp_path / "one", tmp_path / "other"))
    assert seems_without_gpu("auto")
    (tmp_path / "other").touch()
    assert not seems_without_gpu("auto")
    assert not seems_without_gpu("cuda:1")
    assert seems_without_gpu("cpu")
    monkeypatch.setattr(sys, "platform", "darwin")
    (tmp_path / "other").unlink()
    assert not seems_without_gpu("auto")
    assert seems_without_gpu("cpu")


@pytest.mark.parametrize(("quota", "workers"), [(None, 12), (0.5, 2), (2.5, 3), (40.0, 12)])
def test_a_container_that_may_use_less_has_fewer(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert default_workers() == workers


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        (
            "0::/a/b",
            {"cpu.max": "max 100000", "a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"},
            0.5,
        ),
        (
            "0::/a/b",
            {"cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"},
            2.0,
        ),
        # The path of the host, which a container does not see.
        ("0::/docker/123", {"cpu.max": "300000 100000"}, 3.0),
        ("0::/", {"cpu.max": "what 100000"}, None),
        (
            "12:memory:/x\n4:cpu,cpuacct:/x\n0::/",
            {"cpu/x/cpu.cfs_quota_us": "250000", "cpu/x/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("nothing", {"cpu.max": "150000 100000"}, None),
        (None, {"cpu.max": "150000 100000"}, None),
    ],
)
def test_the_quota_of_a_container_is_that_of_its_control_groups(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: str | None,
    files: dict[str, str],
    quota: float | None,
) -> None:
    monkeypatch.setattr(threads, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert cpu_quota() == quota


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        ("0::/", {}, 8_192_000),
        ("0::/", {"memory.max": "max", "memory.current": "1000"}, 8_192_000),
        ("0::/", {"memory.max": "5000", "memory.current": "2000"}, 3000),
        (
            "0::/a",
            {
                "memory.max": "5000",
                "memory.current": "4500",
                "a/memory.max": "4000",
                "a/memory.current": "3900",
                "a/memory.stat": "anon 3000\ninactive_file 300\nactive_file 600",
            },
            400,
        ),
        ("0::/", {"memory.max": "5000", "memory.current": "6000"}, 0),
        (
            "3:memory:/x\n0::/",
            {
                "memory/x/memory.limit_in_bytes": "7000",
                "memory/x/memory.usage_in_bytes": "2000",
                "memory/x/memory.stat": "cache 900\ntotal_inactive_file 500",
            },
            5500,
        ),
    ],
)
def test_memory_that_is_left_is_that_of_the_control_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str], free: int
) -> None:
    monkeypatch.setattr(threads, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(threads, "_MEMORY", tmp_path / "meminfo")
    (tmp_path / "own").write_text(own + "\n")
    (tmp_path / "meminfo").write_text("MemTotal: 16000 kB\nMemAvailable:    8000 kB\n")
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert free_memory() == free
    # Other systems.
    (tmp_path / "own").unlink()
    (tmp_path / "meminfo").unlink()
    assert free_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delattr(os, "sysconf")
    assert free_memory() is None
