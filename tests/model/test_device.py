from __future__ import annotations

import pytest
import torch

from cvae_cli import storage
from cvae_cli.errors import UserError
from cvae_cli.model import device
from cvae_cli.model.device import all_devices, bf16_is_fast, resolve_device, use_full_fp32


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
