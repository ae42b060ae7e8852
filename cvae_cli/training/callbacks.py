"""What happens beside the training itself: the EMA, checkpoints, exports, reports, an early stop."""

from __future__ import annotations

import math
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from cvae_cli import __version__
from cvae_cli.data.folders import DatasetSummary
from cvae_cli.errors import CvaeError
from cvae_cli.model import weights
from cvae_cli.training.compat import pl
from cvae_cli.training.module import TrainingModule
from cvae_cli.training.run_folder import CHECKPOINT

_SMOOTHING_INTERVAL = 10
"""Steps between two looks at the terms, each of which waits for the device."""


class TrainObserver(Protocol):
    """What a caller may want to know of a run while it goes on; called on the main process only."""

    def found(self, summary: DatasetSummary) -> None:
        """The user's own images were read; not called for data sets known by name."""

    def fell_back(self, reason: str) -> None:
        """Something that the recipe would use is not installed; training goes on without."""

    def pretraining(self, done: int, steps: int) -> None:
        """``done`` of ``steps`` of the classifier's pre-training, before the first epoch, are done."""

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        """The run starts: ``steps`` per epoch; ``first_epoch`` > 0 when it is resumed."""

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        """A step is done; ``terms`` are smoothed and may be empty on most steps."""

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        """An epoch was validated; ``best`` if its weights are the best so far."""


class SilentObserver:
    """An observer that ignores everything."""

    def found(self, summary: DatasetSummary) -> None:
        """Ignored."""

    def fell_back(self, reason: str) -> None:
        """Ignored."""

    def pretraining(self, done: int, steps: int) -> None:
        """Ignored."""

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        """Ignored."""

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        """Ignored."""

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        """Ignored."""


class UpdateEma(pl.Callback):  # type: ignore[misc]
    """Moves the EMA after each step; in a callback, so that checkpoints of the step hold it."""

    def on_train_batch_end(self, trainer: Any, pl_module: TrainingModule, *_: Any) -> None:
        """Move it."""
        pl_module.objective.networks.update_ema()


class Checkpoints(pl.Callback):  # type: ignore[misc]
    """Replaces the checkpoint every few steps and at the end of every epoch.

    Lightning's ``ModelCheckpoint`` would write it under a path that it may misread: see
    :class:`cvae_cli.training.compat.WholeCheckpoints`.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        """Write to a folder every ``interval`` steps."""
        self.file, self.interval = folder / CHECKPOINT, interval

    def save(self, trainer: Any) -> None:
        """Replace the checkpoint by one of now."""
        trainer.save_checkpoint(str(self.file))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Save every few steps."""
        if trainer.global_step % self.interval == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        """Save at the end of an epoch."""
        self.save(trainer)


class Report(pl.Callback):  # type: ignore[misc]
    """Tells the observer how the run goes on."""

    def __init__(self, observer: TrainObserver, folder: Path, epochs: int) -> None:
        """Tell ``observer``."""
        self.observer, self.folder, self.epochs = observer, folder, epochs
        self.smoothed: dict[str, float] = {}

    def on_train_start(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Tell that the run starts."""
        if trainer.is_global_zero:
            steps = int(trainer.num_training_batches)
            self.observer.started(self.folder, self.epochs, trainer.current_epoch, steps)

    def on_train_batch_end(
        self, trainer: Any, pl_module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell that a step is done."""
        if not trainer.is_global_zero:
            return
        if batch_idx % _SMOOTHING_INTERVAL == 0 or not self.smoothed:
            for name, value in pl_module.terms.items():
                before = self.smoothed.get(name, float(value))
                self.smoothed[name] = 0.8 * before + 0.2 * float(value)
        self.observer.step(trainer.current_epoch, batch_idx + 1, self.smoothed)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Unwinds Lightning's loops after the step in which a stop was asked for."""


class StopOnRequest(pl.Callback):  # type: ignore[misc]
    """Ends the run after the step in which the caller asks for it, with a checkpoint.

    After the last step of an epoch, once the epoch is validated: a run that goes on from its checkpoint
    would not make up for that.

    Attributes:
        signal: the signal that asked for it, or ``None``.
    """

    def __init__(self, should_stop: Callable[[], int | None], checkpoints: Checkpoints) -> None:
        """Ask ``should_stop`` after every step."""
        self.should_stop, self.checkpoints = should_stop, checkpoints
        self.signal: int | None = None
        self._trainer: Any = None

    def on_train_start(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Be ready to stop while the classifier is pre-trained."""
        self._trainer = trainer

    def watched(self, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """A progress callback of the pre-training that also ends it if asked to."""

        def report(done: int, steps: int) -> None:
            progress(done, steps)
            # Alone: other processes wait for the classifier, and would wait for ever.
            if self._trainer.world_size == 1 and (asked := self.should_stop()) is not None:
                self.signal = asked
                self.checkpoints.save(self._trainer)
                raise Stopped

        return report

    def on_train_batch_end(
        self, trainer: Any, pl_module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to."""
        asked = self.should_stop()
        stop = asked is not None
        if trainer.world_size > 1:
            # All processes leave after the same step, or the others would wait for ever.
            votes = torch.tensor(float(stop), device=pl_module.device)
            stop = bool(trainer.strategy.reduce(votes, reduce_op="sum") > 0)
        if stop:
            self.signal = asked or signal.SIGINT
            if batch_idx + 1 < trainer.num_training_batches:
                self.checkpoints.save(trainer)
                raise Stopped

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        """Stop if asked to in the last step; ``Checkpoints`` has saved the epoch."""
        if self.signal is not None:
            raise Stopped


class ExportBest(pl.Callback):  # type: ignore[misc]
    """Exports the EMA whenever an epoch is the best so far.

    Attributes:
        metrics: of the exported weights, on validation images; empty as long as nothing is exported.
        patience_ended: whether the run ends because nothing got better for long enough.
        history: the metrics of every whole epoch, over all sessions of the run.
    """

    def __init__(
        self,
        file: Path,
        observer: TrainObserver,
        *,
        name: str,
        data_set: str,
        train_command: str,
        epochs: int,
        teacher: dict[str, Any] | None = None,
    ) -> None:
        """Export to a file, with what its metadata should say.

        Args:
            file: where the weights go.
            observer: told of every epoch.
            name: of the model.
            data_set: what it is trained on.
            train_command: what repeats the training.
            epochs: of the run.
            teacher: metadata of the model whose decoder of tiles is trained, if there is one.
        """
        self.file, self.observer = file, observer
        self.name, self.data_set, self.train_command = name, data_set, train_command
        self.epochs, self.teacher = epochs, teacher
        self.best = math.inf
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.patience_ended = False
        self._began = time.monotonic()
        self._seconds_before = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "best": self.best,
            "metrics": self.metrics,
            "history": self.history,
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.best, self.metrics = state_dict["best"], state_dict["metrics"]
        self.history, self._seconds_before = state_dict["history"], state_dict["seconds"]
        try:
            weights.load(self.file)
        except CvaeError:  # killed between its two files: the next epoch writes both again
            self.best, self.metrics = math.inf, {}

    def on_validation_end(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Compare the epoch with the best so far. Raises :class:`FloatingPointError` if it diverged."""
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready == 0:
            # Lightning 1.9 validates before it trains when a run is resumed after an epoch's first step.
            return
        metrics = {
            name.removeprefix("val_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val_")
        }
        _check_finite(metrics)
        self.history.append({name: round(value, 5) for name, value in metrics.items()})
        # While fine-tuning the latest epoch is the best: what still improves then, how real tiles look,
        # shows in no validation term.
        fine_tuning = trainer.current_epoch >= pl_module.recipe.fine_tuning_begins(self.epochs)
        fine_tuning = fine_tuning or self.teacher is not None
        best = fine_tuning or metrics["objective"] <= self.best
        if best:
            self.best = metrics["objective"]
            self.export(trainer, pl_module, metrics)
        if trainer.is_global_zero:
            self.observer.epoch(trainer.current_epoch, metrics, best)
        patience = pl_module.recipe.patience
        objectives = [each["objective"] for each in self.history]
        since_best = len(objectives) - 1 - objectives.index(min(objectives))
        if patience and not pl_module.recipe.fine_tuning and since_best >= patience:
            self.patience_ended = True
            trainer.should_stop = True

    def export(self, trainer: Any, pl_module: TrainingModule, metrics: dict[str, float]) -> None:
        """Write the EMA as the model of this run, on the main process.

        Raises:
            FloatingPointError: the training has diverged.
        """
        _check_finite(metrics)
        self.metrics = metrics
        if not trainer.is_global_zero:
            return
        model, spec = pl_module.exported()
        weights.export(
            model,
            self.file,
            spec=spec.to_dict(),
            name=self.name,
            data_set=self.data_set,
            metrics=metrics,
            train_command=self.train_command,
            versions={
                "cvae": __version__,
                "torch": torch.__version__,
                "pytorch-lightning": pl.__version__,
                "python": platform.python_version(),
            },
            training={
                "epochs": max(1, len(self.history)),
                "minutes": round(self._seconds() / 60, 1),
                "precision": str(trainer.precision),
                "processes": trainer.world_size,
                "recipe": pl_module.recipe.to_dict(),
                "validation": self.history,
                **self._taught_by(),
            },
            licence="MIT",
        )

    def _taught_by(self) -> dict[str, Any]:
        """How all but the decoder of tiles was trained, if that is all that this run trains."""
        if self.teacher is None:
            return {}
        if (before := self.teacher.get("training", {}).get("teacher")) is not None:
            return {"teacher": before}
        told = ("train_command", "sha256", "metrics", "training")
        return {"teacher": {key: self.teacher.get(key) for key in told}}

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began


def _check_finite(metrics: dict[str, float]) -> None:
    if not math.isfinite(metrics["objective"]):
        raise FloatingPointError("an objective that is not a finite number")
