from __future__ import annotations

import math
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from helpers import Recorder

from cvae_cli.training.callbacks import Checkpoints, ExportBest, Report, StopOnRequest, Stopped


def fake_trainer(**changes: object) -> SimpleNamespace:
    """As much of Lightning's trainer as the callbacks look at."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=9))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    values = {
        "is_global_zero": True, "world_size": 1, "current_epoch": 0, "global_step": 1, "fit_loop": loop,
        "save_checkpoint": Mock(), "callback_metrics": {},
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_checkpoints_are_written_every_few_steps(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 4)
    trainer = fake_trainer()
    for step in range(1, 10):
        trainer.global_step = step
        checkpoints.on_train_batch_end(trainer)
    assert trainer.save_checkpoint.call_count == 2
    checkpoints.on_train_epoch_end(trainer)
    assert trainer.save_checkpoint.call_count == 3
    trainer.save_checkpoint.assert_called_with(str(tmp_path / "last.ckpt"))


def test_a_stop_is_checked_after_every_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    asked: list[int | None] = [None, signal.SIGTERM]
    stop = StopOnRequest(lambda: asked.pop(0), Checkpoints(tmp_path, 400))
    trainer = fake_trainer(num_training_batches=3)
    stop.on_train_batch_end(trainer, Mock(), None, None, 0)
    trainer.save_checkpoint.assert_not_called()
    with pytest.raises(Stopped):
        stop.on_train_batch_end(trainer, Mock(), None, None, 1)
    trainer.save_checkpoint.assert_called_once()
    assert stop.signal == signal.SIGTERM


def test_a_stop_in_the_last_step_of_an_epoch_waits_for_its_validation(tmp_path: Path) -> None:
    stop, trainer = StopOnRequest(lambda: signal.SIGINT, Checkpoints(tmp_path, 400)), fake_trainer()
    trainer.num_training_batches = 3
    stop.on_train_batch_end(trainer, Mock(), None, None, 2)
    with pytest.raises(Stopped):
        stop.on_train_epoch_end(trainer)
    assert stop.signal == signal.SIGINT


def test_all_processes_stop_when_one_is_asked_to(tmp_path: Path) -> None:
    stop = StopOnRequest(lambda: None, Checkpoints(tmp_path, 400))
    strategy = SimpleNamespace(reduce=lambda votes, reduce_op: votes + 1)  # the other one was
    with pytest.raises(Stopped):
        stop.on_train_batch_end(
            fake_trainer(world_size=2, strategy=strategy, num_training_batches=3),
            Mock(device=torch.device("cpu")), None, None, 1,
        )  # fmt: skip
    assert stop.signal == signal.SIGINT


def test_terms_are_smoothed_and_steps_are_counted_from_one() -> None:
    seen: list[tuple[int, int, float]] = []
    observer = Mock(step=lambda epoch, step, terms: seen.append((epoch, step, terms["kl"])))
    report = Report(observer, Path("run"), 1)
    for index in range(11):
        module = Mock(terms={"kl": torch.tensor(0.0 if index else 10.0)})
        report.on_train_batch_end(fake_trainer(), module, None, None, index)
    assert seen[0] == (0, 1, pytest.approx(10.0))
    assert seen[9] == (0, 10, pytest.approx(10.0))  # the device is not waited for in between
    assert seen[10] == (0, 11, pytest.approx(8.0))
    report.on_train_batch_end(fake_trainer(is_global_zero=False), Mock(), None, None, 0)
    assert len(seen) == 11


def export_best(file: Path, observer: Recorder, exported: list[float]) -> ExportBest:
    export = ExportBest(file, observer, name="a", data_set="a", train_command="", epochs=4)
    export.export = lambda trainer, module, metrics: exported.append(metrics["objective"])  # type: ignore[method-assign]
    return export


def test_the_best_epoch_is_exported_and_while_fine_tuning_the_latest(tmp_path: Path) -> None:
    exported: list[float] = []
    observer = Recorder()
    export = export_best(tmp_path / "model.safetensors", observer, exported)
    module = Mock()
    module.recipe.fine_tuning_begins = lambda epochs: 3
    for epoch, objective in enumerate((5.0, 6.0, 4.0, 9.0)):
        metrics = {"val_objective": torch.tensor(objective), "loss": torch.tensor(1.0)}
        export.on_validation_end(fake_trainer(current_epoch=epoch, callback_metrics=metrics), module)
    assert exported == [5.0, 4.0, 9.0]
    assert [metrics["objective"] for metrics in export.history] == [5.0, 6.0, 4.0, 9.0]
    assert observer.epochs[0] == {"objective": 5.0}


def test_an_epoch_without_a_finite_objective_ends_the_training(tmp_path: Path) -> None:
    exported: list[float] = []
    export = export_best(tmp_path / "model.safetensors", Recorder(), exported)
    metrics = {"val_objective": torch.tensor(math.nan)}
    with pytest.raises(FloatingPointError, match="not a finite number"):
        export.on_validation_end(fake_trainer(callback_metrics=metrics), Mock())
    assert (exported, export.history) == ([], [])


def test_a_validation_before_the_first_step_of_an_epoch_does_not_count(tmp_path: Path) -> None:
    exported: list[float] = []
    export = export_best(tmp_path / "model.safetensors", Recorder(), exported)
    trainer = fake_trainer()
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 0
    export.on_validation_end(trainer, Mock())
    assert (export.history, exported) == ([], [])


def test_an_export_that_is_broken_is_written_again(small_model: Path) -> None:
    state = {"best": 1.0, "metrics": {"objective": 1.0}, "history": [{"objective": 1.0}], "seconds": 60.0}
    export = export_best(small_model, Recorder(), [])
    export.load_state_dict(state)
    assert (export.best, export.metrics) == (1.0, {"objective": 1.0})
    assert export.state_dict()["seconds"] >= 60
    small_model.write_bytes(b"half")
    export.load_state_dict(state)
    assert (export.best, export.metrics) == (math.inf, {})
    assert len(export.history) == 1
