"""Training a model from images and a recipe, and exporting its best weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, Sampler, WeightedRandomSampler

from cvae_cli import storage
from cvae_cli.data.drawn_digits import draw_digits
from cvae_cli.data.labelled import LabelledImages, together
from cvae_cli.data.pairs import WithCounterparts
from cvae_cli.errors import DataError, UserError
from cvae_cli.model import registry, weights
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.device import resolve_device, seeded, use_full_fp32
from cvae_cli.model.spec import ModelSpec
from cvae_cli.storage import Location
from cvae_cli.training import compat
from cvae_cli.training.callbacks import (
    Checkpoints,
    ExportBest,
    Report,
    SilentObserver,
    StopOnRequest,
    Stopped,
    TrainObserver,
    UpdateEma,
)
from cvae_cli.training.compat import pl
from cvae_cli.training.module import TrainingModule
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.resident import ResidentImages
from cvae_cli.training.run_folder import (
    CHECKPOINT,
    LOGS,
    WEIGHTS,
    check_run_folder,
    create_run_folder,
    describe_run,
)

_EVEN = 1.5
"""Up to this ratio of the largest to the smallest class, all images are seen equally often."""
_VALIDATION_BATCH = 500


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        name: what the model will be called.
        data_set: the name of the data set, or its folder.
        training: images to train on.
        validation: images that the best weights are chosen on.
    """

    name: str
    data_set: str
    training: LabelledImages
    validation: LabelledImages


@dataclass(frozen=True)
class TrainerOptions:
    """How a recipe is run.

    Attributes:
        epochs: in all, over all sessions of the run; ``None`` for the recipe's.
        seed: of everything random.
        resume: continue the run of the folder.
        start: weights of a model to go on from, instead of random ones.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: GPUs, or processes on the CPU.
        num_nodes: machines.
        strategy: Lightning's, or ``auto``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        checkpoint_steps: steps between two checkpoints.
        train_command: what repeats this training, for the metadata.
    """

    epochs: int | None = None
    seed: int = 0
    resume: bool = False
    start: Location | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    checkpoint_steps: int = 400
    train_command: str = ""

    @property
    def processes(self) -> int:
        """Processes that train together."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        folder: the run folder.
        weights: the exported ``model.safetensors``; ``None`` if there was nothing to export.
        epochs: whole epochs trained, over all sessions of the run.
        metrics: of the exported weights, on validation images.
        interrupted: the signal that ended the run early, or ``None``.
        complete: whether all epochs are done, or nothing got better any more.
        patience_ended: whether the latter ended it.
        warning: what is wrong with the model, for the user to read; empty if nothing is.
        main_process: whether this process speaks for the run, where several train together.
    """

    folder: Path
    weights: Path | None
    epochs: int
    metrics: dict[str, float]
    interrupted: int | None = None
    complete: bool = True
    patience_ended: bool = False
    warning: str = ""
    main_process: bool = True


def train(
    recipe: Recipe,
    data: TrainingData,
    run_folder: Path,
    options: TrainerOptions = TrainerOptions(),
    observer: TrainObserver = SilentObserver(),  # noqa: B008 - has no state
    should_stop: Callable[[], int | None] = lambda: None,
) -> TrainResult:
    """Train a model and export its best weights.

    Nothing is left behind in the process: neither seeds, log levels, warning filters and signal handlers
    nor environment variables and a process group.

    Args:
        recipe: what to train, and how.
        data: what to train on.
        run_folder: where checkpoints, logs and weights go; new or empty, unless the run is resumed.
        options: how to run it.
        observer: told how the run goes on.
        should_stop: asked after every step; a signal's number ends the run with a checkpoint.

    Raises:
        DataError: too few images.
        OutputError: the run folder cannot be written.
        UserError: options that do not work together or on this machine, a folder of another run, or a
            training that diverged.
    """
    _check(recipe, data, options)
    data = replace(data, training=_with_drawn_digits(data.training, recipe, options.seed))
    start = None if options.start is None else weights.load(options.start)
    if recipe.spec.tile_widths:
        assert start is not None
        _check_teacher(start[1], recipe)
    description = describe_run(data.data_set, options.seed, recipe, start and start[1].sha256)
    main_process = compat.is_main_process()
    if main_process:
        check_run_folder(run_folder, description, resume=options.resume)
    epochs = options.epochs or recipe.epochs
    checkpoints = Checkpoints(run_folder, options.checkpoint_steps)
    stop = StopOnRequest(should_stop, checkpoints)
    export = ExportBest(
        run_folder / WEIGHTS,
        observer,
        name=data.name,
        data_set=data.data_set,
        train_command=options.train_command,
        epochs=epochs,
        teacher=None if start is None or not recipe.spec.tile_widths else start[1].raw,
    )
    callbacks = [UpdateEma(), export, Report(observer, run_folder, epochs), checkpoints, stop]
    with compat.restored(), compat.quiet(), seeded(options.seed):
        use_full_fp32(resolve_device(options.device))
        module = TrainingModule(
            recipe,
            data.training,
            stop.watched(observer.pretraining),
            seed=options.seed,
            validation=data.validation,
        )
        if start is not None:
            module.start_from(start[0], same_images=_is_of(start[1], data, recipe))
        trainer = _trainer(recipe, options, epochs, run_folder, callbacks)
        if main_process:
            create_run_folder(run_folder, description, resume=options.resume)
        checkpoint = run_folder / CHECKPOINT
        at_once = images_at_once(_VALIDATION_BATCH, recipe.spec.canvas_size)
        try:
            with suppress(Stopped):
                trainer.fit(
                    module,
                    _loader(data.training, recipe, options),
                    DataLoader(data.validation, at_once, collate_fn=_as_is),  # type: ignore[arg-type]
                    ckpt_path=str(checkpoint) if options.resume and storage.exists(checkpoint) else None,
                )
            if stop.signal and trainer.is_global_zero and not export.metrics:
                export.export(trainer, module, module.measure(data.validation))
        except FloatingPointError as error:
            kept = f"; the best weights before are in {run_folder / WEIGHTS}" if export.metrics else ""
            raise UserError(
                f"the training diverged in epoch {trainer.current_epoch + 1}: {error}{kept}. Train again "
                f"into another --out, with --learning-rate {recipe.optimizer.learning_rate / 3:.1g} or "
                "--precision fp32."
            ) from error
    file = run_folder / WEIGHTS
    return TrainResult(
        folder=run_folder,
        weights=file if storage.exists(file) else None,
        epochs=len(export.history),
        metrics=export.metrics,
        interrupted=stop.signal,
        complete=export.patience_ended or len(export.history) >= epochs,
        patience_ended=export.patience_ended,
        warning=_warning(file),
        main_process=main_process,
    )


def _check(recipe: Recipe, data: TrainingData, options: TrainerOptions) -> None:
    device = resolve_device(options.device)
    if options.precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16 needs a GPU; use bf16 or fp32 on the CPU.")
    if recipe.batch_size % options.processes:
        raise UserError(
            f"the batch of {recipe.batch_size} images cannot be shared by {options.processes} processes; "
            "choose --batch-size accordingly."
        )
    if len(data.training) < recipe.batch_size and not recipe.min_steps:
        raise DataError(
            f"{len(data.training)} training images do not fill one batch of {recipe.batch_size}; "
            "choose a smaller --batch-size."
        )


def _check_teacher(card: registry.ModelCard, recipe: Recipe) -> None:
    def trained(spec: ModelSpec) -> ModelSpec:
        """Without what is measured at the end, or distilled."""
        return replace(
            spec,
            latent_norm=None,
            label_temperature=1.0,
            tile_widths=(),
            tile_maps=False,
            auto_precision="fp32",
        )

    if trained(card.spec) != trained(recipe.spec):
        raise UserError(
            f"--distill {card.name}: this model was not trained on such images, or by another version; name "
            "the data that it was trained on with --data."
        )


def _with_drawn_digits(training: LabelledImages, recipe: Recipe, seed: int) -> LabelledImages:
    """Training images, and digits drawn by a program if the recipe asks for some."""
    count = round(recipe.augmentation.drawn_digits * len(training))
    return together(training, draw_digits(count, seed)) if count else training


def _trainer(recipe: Recipe, options: TrainerOptions, epochs: int, folder: Path, callbacks: list[Any]) -> Any:
    try:
        return pl.Trainer(
            accelerator=compat.accelerator(options.device),
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=compat.strategy(options.strategy, options.processes),
            precision=compat.precision(options.precision, options.device),
            max_epochs=epochs,
            gradient_clip_val=recipe.optimizer.max_gradient or None,
            logger=compat.TensorBoardLogs(folder / LOGS),
            callbacks=callbacks,
            plugins=[compat.WholeCheckpoints()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=50,
            num_sanity_val_steps=0,
        )
    except compat.UNUSABLE as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"these options do not work on this machine (--devices, --num-nodes, --strategy): {reason}"
        ) from error


def _loader(data: LabelledImages, recipe: Recipe, options: TrainerOptions) -> DataLoader[Any]:
    # Processes that train together take turns in one order.
    shared = torch.Generator().manual_seed(options.seed) if options.processes > 1 else None
    # Batches are slices of one tensor in memory: worker processes would only copy them around.
    source: Any = data if data.counterparts is None else WithCounterparts(data)
    device = resolve_device(options.device)
    if device.type == "cuda" and data.counterparts is None:
        source = ResidentImages(data, device)
    return DataLoader(
        source,
        batch_size=recipe.batch_size // options.processes,
        sampler=_sampler(data, recipe, shared),
        drop_last=True,
        collate_fn=_as_is,  # type: ignore[arg-type]
    )


def _sampler(data: LabelledImages, recipe: Recipe, generator: torch.Generator | None = None) -> Sampler[int]:
    """The order of an epoch: each image once, or those of rare classes more often.

    Their weight is the square root of what would make all classes equal (Mahajan et al. 2018,
    "Exploring the limits of weakly supervised pretraining", section 2.2): with the full weight the few
    images of a rare class are memorised.
    """
    counts = torch.bincount(data.labels, minlength=recipe.spec.num_classes)
    least = recipe.min_steps * recipe.batch_size
    if not least or (len(data) >= least and counts.max() <= _EVEN * counts.min()):
        return RandomSampler(data, generator=generator)  # type: ignore[arg-type]
    weights = counts.double().rsqrt()[data.labels]
    return WeightedRandomSampler(weights.tolist(), max(len(data), least), generator=generator)


def _as_is(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return batch


def _is_of(card: registry.ModelCard, data: TrainingData, recipe: Recipe) -> bool:
    """Whether a model was trained on these very images."""
    return card.raw["data_set"] == data.data_set and card.spec.classes == recipe.spec.classes


def _warning(file: Path) -> str:
    """What is wrong with an exported model."""
    if not storage.exists(file) or not (card := registry.read_card(file)).ignores_label:
        return ""
    remedy = "Train it longer, or give the term 'target' in training/recipes.py more weight."
    if not card.spec.label_in_decoder:
        remedy = "This is expected: --label-blind keeps the label from the decoder."
    metrics = card.raw["metrics"]
    return (
        "this model ignores its label. When only the label changes, the tile changes by "
        f"{metrics['label_effect']:.2f} of 255 grey levels, and {metrics['effectiveness']:.1%} of the tiles "
        f"are recognised as their label. {remedy}"
    )
