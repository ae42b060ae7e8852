from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from cvae_cli.errors import UserError
from cvae_cli.training import compat


@pytest.mark.parametrize(
    ("major", "precisions", "one_process"),
    [(1, [32, "bf16", 16], None), (2, ["32-true", "bf16-mixed", "16-mixed"], "auto")],
)
def test_options_in_the_words_of_each_lightning(
    monkeypatch: pytest.MonkeyPatch, major: int, precisions: list[object], one_process: str | None
) -> None:
    monkeypatch.setattr(compat, "_MAJOR", major)
    assert [compat.precision(asked, "cpu") for asked in ("fp32", "bf16", "fp16")] == precisions
    assert compat.strategy("auto", 1) == one_process
    for together in (compat.strategy("auto", 2), compat.strategy("ddp", 2)):
        assert type(together).__name__ == "DDPStrategy"
        assert together._timeout.total_seconds() > 3600
    unused = compat.strategy("ddp_find_unused_parameters_true", 2)
    assert unused._ddp_kwargs["find_unused_parameters"] is True
    assert unused._timeout.total_seconds() > 3600
    assert compat.strategy("fsdp", 1) == "fsdp"
    with pytest.raises(UserError, match="use ddp"):
        compat.strategy("ddp_spawn", 2)


def test_precision_is_bf16_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(compat, "bf16_is_fast", lambda device, fast=fast: fast)
        assert compat.precision("auto", "cpu") == compat.precision(expected, "cpu")


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_one_process_speaks_for_the_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value, speaks in (("0", True), ("", True), ("1", False)):
        monkeypatch.setenv(name, value)
        assert compat.is_main_process() is speaks


@pytest.mark.parametrize("value", ["", pytest.param("x", marks=pytest.mark.long)])
def test_lightning_can_be_imported_with_a_rank_that_is_no_number(value: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from cvae_cli.training import compat; print(compat.is_main_process())"],
        env={**os.environ, **dict.fromkeys(("RANK", "LOCAL_RANK", "SLURM_PROCID"), value)},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "True\n", run.stderr


def test_lightning_is_silent_inside_and_as_before_outside() -> None:
    logger = logging.getLogger("pytorch_lightning")
    level, filters = logger.level, list(warnings.filters)
    with compat.quiet():
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.level == level
    assert warnings.filters == filters


def test_a_seed_holds_inside_and_the_state_from_before_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)[1]
    torch.manual_seed(5)
    torch.rand(1)
    with compat.seeded(1):
        first = torch.rand(3)
    assert torch.rand(1) == expected
    with compat.seeded(1):
        assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(("in_use", "restored"), [(False, []), (True, [0, 1])])
def test_gpus_that_are_not_in_use_are_not_started_up(
    monkeypatch: pytest.MonkeyPatch, in_use: bool, restored: list[int]
) -> None:
    """Stands in for a machine with two GPUs."""
    read = Mock(return_value=torch.get_rng_state())
    for name, value in {
        "cuda.is_available": lambda: True,
        "cuda.is_initialized": lambda: in_use,
        "cuda.device_count": lambda: 2,
        "cuda.get_rng_state": read,
        "cuda.set_rng_state": Mock(),
        "accelerator.current_accelerator": lambda: torch.device("cuda"),
    }.items():
        monkeypatch.setattr(f"torch.{name}", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with compat.seeded(0):
            pass
    assert [call.args[0] for call in read.call_args_list] == restored


@pytest.mark.bolts
def test_environment_and_process_group_are_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"CHANGED": "before", "DELETED": "before"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = dict(os.environ)
    with suppress(KeyError), compat.restored():
        os.environ["LOCAL_RANK"] = "0"
        os.environ["CHANGED"] = "after"
        del os.environ["DELETED"]
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
        )
        raise KeyError
    assert dict(os.environ) == before
    assert not torch.distributed.is_initialized()


def test_a_checkpoint_is_read_without_executing_anything(tmp_path: Path) -> None:
    checkpoints, file = compat.WholeCheckpoints(), tmp_path / "a::b.ckpt"
    checkpoints.save_checkpoint({"step": 3, "values": torch.arange(4)}, file)
    loaded = checkpoints.load_checkpoint(file)
    assert loaded["step"] == 3
    assert torch.equal(loaded["values"], torch.arange(4))
    torch.save({"step": Path("anything")}, file)
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.load_checkpoint(file)
    checkpoints.remove_checkpoint(file)
    assert list(tmp_path.iterdir()) == []
