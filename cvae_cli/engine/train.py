"""Training: resolve the options, build what learns, run it under Lightning, export.

The only module that knows pytorch-lightning. It runs on 1.9 and on 2.x.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shlex
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, Sampler, WeightedRandomSampler

from cvae_cli import __version__
from cvae_cli.engine import datasets, folders, recipes
from cvae_cli.engine.device import bf16_is_fast, resolve_device
from cvae_cli.engine.draw import image_target
from cvae_cli.engine.objective import Objective
from cvae_cli.engine.recipes import RECIPES, Recipe
from cvae_cli.errors import CvaeError, DataError, OutputError, UserError
from cvae_cli.model import weights
from cvae_cli.model.canvas import from_canvas, to_canvas
from cvae_cli.outcomes import FolderFound, TrainResult

with warnings.catch_warnings():
    # Lightning 1.9 imports what its setuptools warns of.
    warnings.simplefilter("ignore")
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import TensorBoardLogger

CHECKPOINT = "last.ckpt"
_DESCRIPTION = "run.json"
_CHECKPOINT_STEPS = 400
_PICTURE_ROWS = 10
_CLASS_IMAGES = 20_000
"""Training images from which the style and the codes of each class are known."""
_EVEN = 1.5
"""Where the largest class has no more times the images of the smallest, all are seen equally often."""


class TrainObserver(Protocol):
    """What a caller may want to hear of a run while it goes on; all on the main process."""

    def found(self, found: FolderFound) -> None:
        """The images of one's own that the model will learn; not called for known data sets."""

    def teaching(self, done: int, steps: int) -> None:
        """So many steps are done in which the classifier learns alone, before the first epoch."""

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        """The run begins: ``steps`` an epoch, ``first_epoch`` > 0 when it is resumed."""

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        """A step is done; ``terms`` are smoothed and may be empty on most steps."""

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        """An epoch was validated; ``best`` if its weights are the best so far."""


@dataclass(frozen=True)
class TrainOptions:
    """What the user asked for; ``None`` and ``auto`` are resolved from the recipe and machine."""

    data: str = "mnist"
    data_dir: Path = Path("data")
    epochs: int | None = None
    out: Path | None = None
    resume: bool = False
    seed: int = 0
    batch_size: int | None = None
    learning_rate: float | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    image_size: int | None = None
    channels: int | None = None
    arch: str = "compact"
    label_blind: bool = False

    @property
    def name(self) -> str:
        """What the model is called: as its data set, or the folder of it."""
        return self.data if self.data in RECIPES else Path(self.data).resolve().name or "folder"

    def command(self, epochs: int) -> str:
        """The command line that repeats this training, of so many epochs, on any machine."""
        data = shlex.quote(self.data)
        parts = [f"cvae train --data {data} --epochs {epochs} --seed {self.seed}"]
        if self.arch != "compact":
            parts.append(f"--arch {self.arch}" + " --label-blind" * self.label_blind)
        if self.image_size is not None:
            parts.append(f"--image-size {self.image_size}")
        if self.channels is not None:
            parts.append(f"--channels {self.channels}")
        if self.batch_size is not None:
            parts.append(f"--batch-size {self.batch_size}")
        if self.learning_rate is not None:
            parts.append(f"--learning-rate {self.learning_rate:g}")
        if self.precision != "auto":
            parts.append(f"--precision {self.precision}")
        if self.devices * self.num_nodes > 1:
            parts.append(f"--devices {self.devices} --num-nodes {self.num_nodes}")
        return " ".join(parts)


def train(options: TrainOptions, observer: TrainObserver) -> TrainResult:
    """Train a model and export its best weights.

    Raises:
        DataError: the data set cannot be had.
        OutputError: the run folder cannot be written, or holds another run.
        UserError: options that do not fit each other or this machine.
    """
    if options.label_blind and options.arch != "resnet18":
        raise UserError("--label-blind is the prior work's model: add --arch resnet18.")
    device = resolve_device(options.device)
    if options.precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16 needs a GPU; use bf16 or fp32 on the CPU.")
    recipe, training, validation = _known(options) if options.data in RECIPES else _own(options, observer)
    processes = options.devices * options.num_nodes
    if recipe.batch_size % processes:
        raise UserError(
            f"the batch of {recipe.batch_size} images cannot be shared by {processes} processes; "
            "choose --batch-size accordingly."
        )
    per_process = recipe.batch_size // processes
    if len(training) < recipe.batch_size and not recipe.least_steps:
        raise DataError(
            f"{len(training)} training images do not fill one batch of {recipe.batch_size}; "
            "choose a smaller --batch-size."
        )
    _quiet_lightning()
    folder = _resolve_folder(options, recipe)
    pl.seed_everything(options.seed)
    module = RelabelModule(recipe, training)
    module.teaching = observer.teaching
    epochs = options.epochs or recipe.epochs
    reporting = _Reporting(options, epochs, folder, observer)
    try:
        trainer = pl.Trainer(
            accelerator=_accelerator(options.device),
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=_strategy(options),
            precision=_precision(options),
            max_epochs=epochs,
            logger=TensorBoardLogger(str(folder), name="", version="logs"),
            callbacks=[reporting],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=50,
            num_sanity_val_steps=0,
        )
    except Exception as error:  # Lightning has several for devices and strategies that do not fit
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"this machine cannot train so (--devices, --num-nodes, --strategy): {reason}"
        ) from error
    if _is_main_process():
        _make_folder(folder, options, recipe)
    checkpoint = folder / CHECKPOINT
    with _SignalNotes(reporting):
        try:
            trainer.fit(
                module,
                _loader(training, per_process, _sampler(training, recipe)),
                DataLoader(validation, 500, collate_fn=_as_is),  # type: ignore[arg-type]
                ckpt_path=str(checkpoint) if options.resume and checkpoint.exists() else None,
            )
        except _StoppedBySignal:
            if trainer.is_global_zero and not reporting.exported:
                reporting.export(module, _measure(module, validation))
    return reporting.result(module)


class RelabelModule(pl.LightningModule):
    """Lightning's view of an :class:`Objective`: steps, logs and the optimiser."""

    def __init__(self, recipe: Recipe, training: datasets.LabelledImages) -> None:
        """Build the networks of a recipe.

        Args:
            recipe: what to train, and how.
            training: real training images, from which it knows the classes.
        """
        super().__init__()
        self.recipe = recipe
        self.training_images = training
        self.class_images = training.subset(torch.arange(min(_CLASS_IMAGES, len(training))))
        self.objective = Objective(recipe)
        self.objective.measure_classes(self.class_images.images, self.class_images.labels)
        self.terms: dict[str, Tensor] = {}
        self.teaching: Callable[[int, int], None] = lambda done, steps: None

    def on_fit_start(self) -> None:
        """Have the classifier learn first, where the recipe says so and the run is new."""
        if not self.recipe.classifier_epochs or self.objective.updates > 0:
            return
        data, classifier = self.training_images, self.objective.model.classifier
        if self.trainer.is_global_zero:
            bf16 = "bf16" in str(self.trainer.precision)
            self.objective.teach_classifier(data.images, data.labels, bf16=bf16, progress=self.teaching)
        taught = self.trainer.strategy.broadcast(classifier.state_dict())
        classifier.load_state_dict(taught)
        self.objective.averaged.classifier.load_state_dict(taught)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step's loss."""
        # Not when an epoch begins: a run that is resumed within one does not hear of that.
        begins = self.recipe.finish_begins(int(self.trainer.max_epochs or 0))
        if self.current_epoch >= begins:
            self.objective.finish(self.class_images.images, self.class_images.labels)
        terms = self.objective.training_terms(*batch)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self.log_dict(self.terms)
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        """Fit the common code of the averaged weights, which are validated and exported."""
        self.objective.fit_average(self.class_images.images, self.class_images.labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the averaged weights' terms, as ``val_NAME``, over all validation images."""
        terms = self.objective.validation_terms(*batch)
        self.log_dict(
            {f"val_{name}": value.float() for name, value in terms.items()},
            sync_dist=True,
            batch_size=len(batch[1]),
        )
        if batch_idx == 0 and self.trainer.is_global_zero:
            self._log_pictures(*batch)

    def configure_optimizers(self) -> Any:
        """Adam; linear warm-up, then half a cosine down to zero."""
        optimizer = torch.optim.Adam(self.objective.parameter_groups(), betas=self.recipe.betas)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = min(self.recipe.warmup_steps, max(1, total // 10))

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @torch.no_grad()
    def _log_pictures(self, images: Tensor, y: Tensor) -> None:
        """``reconstruction``: originals over their reconstructions; ``relabelled``: a row each."""
        writer = getattr(self.logger, "experiment", None)
        if writer is None or not hasattr(writer, "add_image"):
            return
        spec, model = self.recipe.spec, self.objective.averaged
        images, y = images[:_PICTURE_ROWS], y[:_PICTURE_ROWS]
        mu, _ = model.encode(to_canvas(images, spec.canvas_size), y)
        every = torch.arange(spec.num_classes, device=y.device).expand(len(y), -1)
        tiles = from_canvas(model.relabel(mu, every), spec.image_size)  # (N, K, C, H, W)
        own = tiles[torch.arange(len(y)), y]
        rows = torch.cat([images[:, None], tiles], dim=1)
        epoch = self.current_epoch
        writer.add_image("reconstruction", _mosaic(torch.stack([images, own])), epoch)
        writer.add_image("relabelled", _mosaic(rows), epoch)


class _StoppedBySignal(Exception):  # noqa: N818 - nothing went wrong
    """Unwinds Lightning's loops after the step in which a signal came."""


class _Reporting(pl.Callback):
    """Checkpoints, exports the best weights, tells the observer, and ends on a signal."""

    def __init__(self, options: TrainOptions, epochs: int, folder: Path, observer: TrainObserver) -> None:
        self.options, self.epochs, self.folder, self.observer = options, epochs, folder, observer
        self.signal: int | None = None
        self.stopped: int | None = None
        self.best = math.inf
        self.best_metrics: dict[str, float] = {}
        self.epochs_done = 0
        self.smoothed: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.began = time.monotonic()
        self.seconds_before = 0.0
        self.install_signals: Callable[[], None] = lambda: None

    @property
    def exported(self) -> bool:
        return bool(self.best_metrics)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_metrics": self.best_metrics,
            "history": self.history,
            "seconds": self.seconds_before + time.monotonic() - self.began,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.best_metrics = state_dict["best_metrics"]
        self.history = state_dict["history"]
        self.seconds_before = state_dict["seconds"]
        self.epochs_done = len(self.history)
        try:
            weights.load(self.folder / "model.safetensors")
        except CvaeError:  # killed between its two files: the next epoch writes both again
            self.best, self.best_metrics = math.inf, {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Again, because Lightning has meanwhile put a handler of its own on SIGTERM.
        self.install_signals()
        if trainer.is_global_zero:
            steps = int(trainer.num_training_batches)
            self.observer.started(self.folder, self.epochs, trainer.current_epoch, steps)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: RelabelModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Here and not in the module, whose own hook comes after a checkpoint would be written.
        pl_module.objective.update_average()
        if batch_idx % 10 == 0 or not self.smoothed:
            for name, value in pl_module.terms.items():
                before = self.smoothed.get(name, float(value))
                self.smoothed[name] = 0.8 * before + 0.2 * float(value)
        if trainer.is_global_zero:
            self.observer.step(trainer.current_epoch, batch_idx + 1, self.smoothed)
        if trainer.global_step % _CHECKPOINT_STEPS == 0:
            self.checkpoint(trainer)
        stop = self.signal is not None
        if trainer.world_size > 1:
            # All processes leave after the same step, or the others would wait for ever.
            votes = torch.tensor(float(stop), device=pl_module.device)
            stop = bool(trainer.strategy.reduce(votes, reduce_op="sum") > 0)
        if stop:
            self.stopped = self.signal or signal.SIGINT
            self.checkpoint(trainer)
            raise _StoppedBySignal

    def on_validation_end(self, trainer: pl.Trainer, pl_module: RelabelModule) -> None:
        metrics = {
            name.removeprefix("val_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val_")
        }
        self.history.append({name: round(value, 5) for name, value in metrics.items()})
        self.epochs_done = len(self.history)
        # In the last part the latest is the best: what still gets better there, how real tiles look, no
        # term of held-out images tells.
        finishing = trainer.current_epoch >= pl_module.recipe.finish_begins(self.epochs)
        best = finishing or metrics["objective"] <= self.best
        if best and trainer.is_global_zero:
            self.export(pl_module, metrics)
        if best:
            self.best, self.best_metrics = metrics["objective"], metrics
        if trainer.is_global_zero:
            self.observer.epoch(trainer.current_epoch, metrics, best)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.checkpoint(trainer)

    def checkpoint(self, trainer: pl.Trainer) -> None:
        """Replace the checkpoint by one of now; a kill in between leaves the old one whole."""
        temporary = self.folder / f".{CHECKPOINT}.tmp"
        trainer.save_checkpoint(str(temporary))
        if trainer.is_global_zero:
            os.replace(temporary, self.folder / CHECKPOINT)

    def export(self, pl_module: RelabelModule, metrics: dict[str, float]) -> None:
        """Write the averaged weights as the model of this run."""
        self.best_metrics = metrics
        minutes = (self.seconds_before + time.monotonic() - self.began) / 60
        weights.export(
            pl_module.objective.averaged,
            self.folder / "model.safetensors",
            spec=pl_module.recipe.spec.to_dict(),
            name=self.options.name,
            data_set=self.options.data,
            metrics=metrics,
            train_command=self.options.command(self.epochs),
            versions={
                "cvae": __version__,
                "torch": torch.__version__,
                "pytorch-lightning": pl.__version__,
                "python": platform.python_version(),
            },
            training={
                "epochs": max(1, self.epochs_done),
                "minutes": round(minutes, 1),
                "precision": str(pl_module.trainer.precision),
                "processes": pl_module.trainer.world_size,
                "recipe": pl_module.recipe.to_dict(),
                "validation": self.history,
            },
            licence="MIT",
        )

    def result(self, pl_module: RelabelModule) -> TrainResult:
        """What the run left behind."""
        file = self.folder / "model.safetensors"
        warning = ""
        if file.exists() and (card := weights.read_card(file)).ignores_label:
            remedy = "Train it longer, or give the term 'target' in engine/recipes.py more weight."
            if not card.spec.label_in_decoder:
                remedy = "As was asked for: --label-blind keeps the label from the decoder."
            warning = (
                "this model ignores its label. When only the label changes, the picture changes by "
                f"{card.raw['metrics']['label_effect']:.2f} of 255 grey levels, and "
                f"{card.raw['metrics']['effectiveness']:.1%} of the pictures are read as what their label "
                f"says. {remedy}"
            )
        return TrainResult(
            folder=self.folder,
            weights=file if file.exists() else None,
            epochs=self.epochs_done,
            metrics=self.best_metrics,
            interrupted=self.stopped,
            warning=warning,
            main_process=_is_main_process(),
        )


def _known(options: TrainOptions) -> tuple[Recipe, datasets.LabelledImages, datasets.LabelledImages]:
    """A data set known by its name: recipe, training and validation images."""
    if options.image_size is not None or options.channels is not None:
        raise UserError(
            f"--image-size and --channels are for a folder of one's own; {options.data} has its own."
        )
    recipe = _with_options(RECIPES[options.data], options)
    full = datasets.load(options.data, options.data_dir, train=True)
    return recipe, *datasets.hold_out(full, recipe.validation_images)


def _own(
    options: TrainOptions, observer: TrainObserver
) -> tuple[Recipe, datasets.LabelledImages, datasets.LabelledImages]:
    """A folder of classes: recipe, training and validation images."""
    folder = Path(options.data)
    files = folders.scan(folder)
    seen = folders.look(files, image_size=options.image_size, channels=options.channels)
    recipe = recipes.for_images(seen.kind, files.classes, seen.image_size, seen.channels)
    recipe = _with_options(recipe, options)
    parts, left_out = {}, []
    for part in files.parts:
        parts[part], bad = folders.read(files, part, image_target(recipe.spec))
        left_out += bad
    training, validation = parts["train"], parts.get("val")
    folders.check_counts(training, folder)
    if validation is None or not len(validation):
        training, validation = datasets.hold_out(training, recipe.validation_images)
    else:
        # Not class by class, as they were read: the first of them are taken for a sample of all.
        # The same order for every seed and in every process, which share it out by numbers.
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(20240229))
        training = training.subset(order)
    if _is_main_process():
        observer.found(
            folders.describe(
                folder,
                seen,
                training,
                validation=len(validation),
                test=len(parts["test"]),
                left_out=left_out,
            )
        )
    return recipe, training, validation


def _with_options(recipe: Recipe, options: TrainOptions) -> Recipe:
    if options.arch == "resnet18":
        recipe = recipes.resnet18(recipe, options.data, label_blind=options.label_blind)
    if options.batch_size is not None:
        recipe = replace(recipe, batch_size=options.batch_size)
    if options.learning_rate is not None:
        recipe = replace(recipe, learning_rate=options.learning_rate)
    return recipe


def _is_main_process() -> bool:
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def _resolve_folder(options: TrainOptions, recipe: Recipe) -> Path:
    """The run folder: asked for, or the next free one below ``runs/``; checked, not yet made."""
    if options.out is None:
        runs = [
            Path("runs") / options.name,
            *(Path("runs") / f"{options.name}-{n}" for n in range(2, 10_000)),
        ]
        taken = [run for run in runs if run.exists()]
        if options.resume and not taken:
            raise UserError(f"there is no run of {options.data} below runs/ to resume; leave out --resume.")
        folder = taken[-1] if options.resume else next(run for run in runs if not run.exists())
    else:
        folder = options.out
    if not _is_main_process():
        return folder
    if options.resume:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such run to resume; leave out --resume.")
        try:
            found = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"{folder}: not a run folder of cvae train (no valid {_DESCRIPTION}).") from None
        # Through JSON, so that tuples and lists compare equal.
        if found != json.loads(json.dumps(_description(options, recipe))):
            raise UserError(
                f"{folder}: this run was started with other data, seed, batch size, learning rate or "
                "recipe; repeat its command, with --resume added."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: add --resume to go on with that run, or name another --out.")
    return folder


def _make_folder(folder: Path, options: TrainOptions, recipe: Recipe) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not options.resume:
            text = json.dumps(_description(options, recipe), indent=2) + "\n"
            (folder / _DESCRIPTION).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the run folder cannot be written: {error.strerror or error}") from error
    # Lightning starts further processes by repeating this command: they must find this folder.
    os.environ["CVAE_TRAIN_OUT"] = str(folder)


def _description(options: TrainOptions, recipe: Recipe) -> dict[str, Any]:
    return {"data": options.data, "seed": options.seed, "recipe": recipe.to_dict()}


def _loader(data: datasets.LabelledImages, batch_size: int, sampler: Sampler[int]) -> DataLoader[Any]:
    # Batches are slices of one tensor in memory: worker processes would only copy them about.
    return DataLoader(
        data,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        drop_last=True,
        collate_fn=_as_is,  # type: ignore[arg-type]
    )


def _sampler(data: datasets.LabelledImages, recipe: Recipe) -> Sampler[int]:
    """The order of an epoch: each image once, or where a class has far fewer, those more often.

    Their weight is the square root of what would make all classes equal (Mahajan et al. 2018,
    "Exploring the limits of weakly supervised pretraining", section 2.2): with the full weight the few
    images of a rare class are learned by heart.
    """
    counts = torch.bincount(data.labels, minlength=recipe.spec.num_classes)
    least = recipe.least_steps * recipe.batch_size
    if not least or (len(data) >= least and counts.max() <= _EVEN * counts.min()):
        return RandomSampler(data)  # type: ignore[arg-type]
    weights_ = counts.double().rsqrt()[data.labels]
    return WeightedRandomSampler(weights_.tolist(), max(len(data), least))


def _as_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch


def _measure(module: RelabelModule, data: datasets.LabelledImages) -> dict[str, float]:
    module.eval()
    module.on_validation_epoch_start()
    terms = module.objective.validation_terms(
        data.images[:2000].to(module.device), data.labels[:2000].to(module.device)
    )
    return {name: float(value) for name, value in terms.items()}


def _mosaic(tiles: Tensor) -> Tensor:
    """(R, K, C, H, W) uint8 to one picture (C, R*H, K*W)."""
    rows, columns, channels, height, width = tiles.shape
    return tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width).cpu()


def _accelerator(device: str) -> str:
    return {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device]


def _strategy(options: TrainOptions) -> Any:
    if options.strategy != "auto":
        return options.strategy
    if options.devices * options.num_nodes > 1:
        return "ddp"
    return "auto" if _lightning_major() >= 2 else None


def _precision(options: TrainOptions) -> Any:
    """Lightning 1.9 and 2 spell precisions differently."""
    asked = options.precision
    if asked == "auto":
        asked = "bf16" if bf16_is_fast(resolve_device(options.device)) else "fp32"
    if _lightning_major() >= 2:
        return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[asked]
    return {"fp32": 32, "bf16": "bf16", "fp16": 16}[asked]


def _lightning_major() -> int:
    return int(pl.__version__.split(".")[0])


def _quiet_lightning() -> None:
    """Lightning's advice is for its own users; what ours must know, cvae says itself."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|lightning_fabric)\b.*")
    # A checkpoint holds tensors, numbers and strings; whatever else it held is not executed.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")


class _SignalNotes:
    """Ctrl-C and SIGTERM end the run after the current step; a second one at once."""

    def __init__(self, reporting: _Reporting) -> None:
        self.reporting = reporting
        self.before: dict[int, Any] = {}
        reporting.install_signals = self.install

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous = signal.signal(number, self.note)
                self.before.setdefault(number, previous)

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.reporting.signal is not None:
            os._exit(128 + number)
        self.reporting.signal = number

    def __enter__(self) -> None:
        self.install()

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
