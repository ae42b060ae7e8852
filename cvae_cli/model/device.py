"""Which device a network runs on, and what that device is good at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cvae_cli import storage
from cvae_cli.errors import UserError


def resolve_device(asked: str) -> torch.device:
    """The device of ``--device``: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UserError: this machine has no such device, or there is no device of that name.
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


def all_devices(asked: str) -> list[str]:
    """The devices that a run may share its batches among: all GPUs, unless one of them is asked for.

    Of several processes that torchrun or srun started on a machine, each takes one.
    """
    count = torch.cuda.device_count() if asked in ("auto", "cuda") and torch.cuda.is_available() else 0
    if count < 2:
        return [asked]
    rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or ""
    if rank.isdecimal():
        return [f"cuda:{int(rank) % count}"]
    return [f"cuda:{index}" for index in range(count)]


def use_full_fp32(device: torch.device) -> None:
    """Have fp32 on a device computed in fp32; a setting of the whole process.

    By default convolutions on NVIDIA's Ampere and later round what they multiply to the ten bits of TF32, and
    pictures would differ from those of other machines by more than a grey level.
    """
    if device.type == "cuda":
        # By the older switches: once the newer ones are set, reading the older is an error.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators, and restore them afterwards; nothing here uses others.

    Those of GPUs are restored if the process has used its GPUs before.
    """
    # By default torch would start up every GPU, even with --device cpu, and warn that it does.
    used = torch.cuda.is_initialized()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if used else []):
        torch.manual_seed(seed)
        yield


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bf16()


def fp16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in fp16 natively: NVIDIA's from Volta on, with their tensor cores."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def _cpu_has_bf16() -> bool:
    try:
        flags = storage.read_text(Path("/proc/cpuinfo"), errors="ignore")
    except OSError:
        return False
    # AVX512-BF16 and AMX on x86, BF16 on ARM.
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
