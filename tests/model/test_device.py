from __future__ import annotations

import warnings
from unittest.mock import Mock

import pytest
import torch

from cvae_cli import storage
from cvae_cli.errors import UserError
from cvae_cli.model import device
from cvae_cli.model.device import (
    all_devices,
    bf16_is_fast,
    fp16_is_fast,
    resolve_device,
    seeded,
    use_full_fp32,
)


def machine(monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_the_fastest_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, chosen in (({}, "cpu"), ({"mps": True}, "mps"), ({"mps": True, "gpus": 1}, "cuda")):
        machine(monkeypatch, **there)
        assert resolve_device("auto") == torch.device(chosen)


def test_a_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpus=2, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert resolve_device(name) == torch.device(name)
    with pytest.raises(UserError, match=r"--device cuda:2: this machine has 2 CUDA GPU\(s\)"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cuda", "torch finds no CUDA GPU on this machine; use --device cpu or auto"),
        ("cuda:99", "--device cuda:99: torch finds no CUDA GPU"),
        ("mps", "this machine has no Apple GPU"),
        ("tpu", "not one of auto, cpu, cuda, cuda:N, mps"),
        ("cuda:", "not one of"),
        ("cpu:0", "not one of"),
        ("", "not one of"),
    ],
)
def test_no_such_device(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    machine(monkeypatch)
    with pytest.raises(UserError, match=says):
        resolve_device(name)


def test_fp32_is_fp32_on_a_gpu_and_settings_stay_where_there_is_none() -> None:
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        use_full_fp32(torch.device("cpu"))
        assert [switch.allow_tf32 for switch in switches] == [True, True]
        use_full_fp32(torch.device("cuda"))
        assert [switch.allow_tf32 for switch in switches] == [False, False]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags : fpu sse2 avx512f avx512_bf16 amx_tile", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu sse2", False),
    ],
)
def test_bf16_is_fast_where_the_processor_says_so(
    monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    monkeypatch.setattr(storage, "read_text", lambda *_, **__: flags)
    assert bf16_is_fast(torch.device("cpu")) is fast
    assert not bf16_is_fast(torch.device("mps"))


def test_bf16_is_not_fast_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(device.storage, "read_text", gone)
    assert not bf16_is_fast(torch.device("cpu"))


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]), ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 3, ["cuda:1"]),
        ("cuda", 1, ["cuda"]), ("auto", 0, ["auto"]), ("cpu", 4, ["cpu"]),
    ],
)  # fmt: skip
def test_all_gpus_unless_one_is_named(
    asked: str, gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    assert all_devices(asked) == expected
    monkeypatch.setenv("LOCAL_RANK", "4")  # one of several processes of this machine takes one
    assert all_devices(asked) == ([f"cuda:{4 % gpus}"] if len(expected) > 1 else expected)


@pytest.mark.parametrize(("capability", "fast"), [((6, 1), False), ((7, 0), True), ((7, 5), True)])
def test_fp16_is_fast_on_gpus_with_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    assert fp16_is_fast(torch.device("cuda")) is fast
    assert not fp16_is_fast(torch.device("cpu"))
    assert not fp16_is_fast(torch.device("mps"))


def test_a_seed_holds_inside_and_the_state_from_before_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)[1]
    torch.manual_seed(5)
    torch.rand(1)
    with seeded(1):
        first = torch.rand(3)
    assert torch.rand(1) == expected
    with seeded(1):
        assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(("in_use", "restored"), [(False, []), (True, [0, 1])])
def test_gpus_that_are_not_in_use_are_not_started_up(
    monkeypatch: pytest.MonkeyPatch, in_use: bool, restored: list[int]
) -> None:
    """Stands in for a machine with two GPUs."""
    read = Mock(return_value=torch.get_rng_state())
    for name, value in {
        "cuda.is_initialized": lambda: in_use,
        "cuda.device_count": lambda: 2,
        "cuda.get_rng_state": read,
        "cuda.set_rng_state": Mock(),
        "accelerator.current_accelerator": lambda: torch.device("cuda"),
    }.items():
        monkeypatch.setattr(f"torch.{name}", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with seeded(0):
            pass
    assert [call.args[0] for call in read.call_args_list] == restored
