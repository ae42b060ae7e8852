from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

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


@pytest.mark.parametrize(
    ("bf16", "fp16", "expected"),
    [(True, True, "bf16"), (True, False, "bf16"), (False, True, "fp16"), (False, False, "fp32")],
)
def test_precision_is_half_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, fp16: bool, expected: str
) -> None:
    monkeypatch.setattr(compat, "bf16_is_fast", lambda device: bf16)
    monkeypatch.setattr(compat, "fp16_is_fast", lambda device: fp16)
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
