"""``cvae train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.console import PLAIN_SECONDS, make_console, print_warning, verbosity, visible
from cvae_cli.cli.evaluate import EvaluateProgress, print_figures
from cvae_cli.engine.recipes import DEFAULT_SIZE, RECIPES, SIZES
from cvae_cli.outcomes import FolderFound, TrainResult

if TYPE_CHECKING:
    from rich.console import Console

_NAMED = 20
"""Files that are left out and named."""
_QUICK = 1000
"""Test images of the short evaluation."""


@click.command("train", short_help="Train a model.")
@click.option(
    "--data",
    default="mnist",
    show_default=True,
    metavar="|".join([*RECIPES, "FOLDER"]),
    help="A data set known by name, or a folder of one's own images: FOLDER/train/CLASS/*, with test and val "
    "where they are there, or FOLDER/CLASS/*, of which one in ten is held out.",
)
@options.data_dir
@click.option(
    "--image-size",
    type=click.Choice([str(size) for size in SIZES]),
    callback=lambda ctx, param, value: value and int(value),
    help=f"Height and width in pixels of what the model of a FOLDER draws.  [default: that of the images, "
    f"else {DEFAULT_SIZE}]",
)
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    callback=lambda ctx, param, value: value and int(value),
    help="Grey (1) or RGB (3), of a FOLDER.  [default: as its images are]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Passes over the training images.  [default: the recipe's: 30; 50 for --arch resnet18 on mnist]",
)
@click.option(
    "--arch",
    type=click.Choice(["compact", "resnet18"]),
    default="compact",
    show_default=True,
    help="resnet18: the prior work's networks, which need the extra [bolts].",
)
@click.option(
    "--label-blind",
    is_flag=True,
    help="With --arch resnet18: keep the label from the decoder, as the prior work did; a baseline.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run folder.  [default: runs/DATA, or the next that is free]",
)
@click.option("--resume", is_flag=True, help="Go on with the run of --out, or the latest of this data set.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Over all processes.  [default: the recipe's]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="[default: the recipe's]")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option(
    "--devices", type=click.IntRange(1), default=1, show_default=True, help="GPUs, or processes on the CPU."
)
@click.option("--num-nodes", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--strategy", default="auto", show_default=True, help="Lightning's, such as ddp; auto: ddp for several."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto is bf16 where the hardware has it, else fp32.",
)
@click.pass_context
def command(ctx: click.Context, /, **asked: Any) -> None:
    """Train a model whose label decides what is drawn, and export its best weights.

    The run folder gets checkpoints, TensorBoard logs (logs/), and after each epoch that is the
    best so far model.safetensors with model.json, which --model of the other commands takes.
    Ctrl-C ends a run early and keeps the best weights; --resume goes on with it.

    A model of a FOLDER is measured at the end: a short form of cvae evaluate.
    """
    console = make_console()
    if verbosity() >= 0:
        console.print(f"preparing {asked['data']} and the network ...", markup=False)
    from cvae_cli.engine.train import TrainOptions, train

    with _Progress(console) as progress:
        result = train(TrainOptions(**asked), progress)
    if not result.main_process:
        return
    _print_result(console, result)
    if asked["data"] not in RECIPES and result.weights is not None and not result.interrupted:
        _print_quality(console, result.weights, asked["data"], asked["device"])
    if result.interrupted:
        ctx.exit(128 + result.interrupted)


class _Progress:
    """A rich bar over the steps of an epoch and one over the epochs; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and verbosity() >= 0
        self.bar: Any = None
        self.began = self.last = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def found(self, found: FolderFound) -> None:
        size, kind = found.image_size, f"{'grey' if found.channels == 1 else 'RGB'} {found.kind}"
        resized = ", resized" if found.resized else ""
        if verbosity() >= 0:
            counts = ", ".join(f"{visible(name)} {count}" for name, count in found.counts.items())
            self.console.print(
                f"{visible(str(found.folder))}: {len(found.counts)} classes, {size}x{size} {kind}{resized}\n"
                f"to train on: {counts}; to choose by: {found.validation}; to measure on: {found.test}",
                markup=False,
            )
        for file, reason in found.left_out[:_NAMED]:
            print_warning(self.console, f"left out {visible(str(file))}: {reason}")
        if len(found.left_out) > _NAMED:
            print_warning(self.console, f"and {len(found.left_out) - _NAMED} more files were left out")
        for text in found.warnings:
            print_warning(self.console, text)

    def teaching(self, done: int, steps: int) -> None:
        now = time.monotonic()
        if verbosity() >= 0 and (done == steps or now - self.last >= PLAIN_SECONDS):
            self.last = now
            self.console.print(
                f"the classifier learns first: step {done}/{steps}",
                markup=False,
                end="\r" if self.live and done < steps else "\n",
            )

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        self.epochs, self.steps, self.first_epoch = epochs, steps, first_epoch
        self.began = time.monotonic()
        self.first_step: int | None = None
        if verbosity() >= 0:
            begun = f", from epoch {first_epoch + 1}" if first_epoch else ""
            self.console.print(f"run {folder}: {epochs} epochs of {steps} steps{begun}", markup=False)
        if not self.live:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self.console,
            transient=True,
        )
        self.bar.start()
        self.over_all = self.bar.add_task("all", total=epochs * steps, losses="")
        self.one_epoch = self.bar.add_task("epoch", total=steps, losses="")

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        done = epoch * self.steps + step
        if self.first_step is None:
            self.first_step = done - 1
        if self.bar is not None:
            names = ("recon_loss", "kl", "target")
            losses = "  ".join(f"{name} {terms[name]:.3g}" for name in names if name in terms)
            self.bar.update(self.over_all, completed=done)
            self.bar.update(
                self.one_epoch, completed=step, losses=losses, description=f"epoch {epoch + 1}/{self.epochs}"
            )
            return
        now = time.monotonic()
        if verbosity() >= 0 and now - self.last >= PLAIN_SECONDS:
            self.last = now
            speed = (done - self.first_step) / max(now - self.began, 1e-6)
            left = (self.epochs * self.steps - done) / max(speed, 1e-6)
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}, step {step}/{self.steps}: "
                f"elbo {terms.get('elbo', float('nan')):.1f}, about {left / 60:.0f} min left",
                markup=False,
            )

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        if verbosity() >= 0:
            self.console.print(
                f"epoch {epoch + 1:3d}/{self.epochs}  elbo {metrics['elbo']:8.2f}  "
                f"recon_loss {metrics['recon_loss']:7.2f}  kl {metrics['kl']:5.2f}  "
                f"effectiveness {metrics['effectiveness']:6.2%}  label effect {metrics['label_effect']:5.1f}"
                + ("  (best)" if best else ""),
                markup=False,
            )


def _print_result(console: Console, result: TrainResult) -> None:
    if result.interrupted:
        console.print(
            f"stopped early after {result.epochs} whole epochs; go on with --resume --out {result.folder}",
            markup=False,
        )
    if result.weights is None:
        console.print("nothing was exported.")
        return
    if verbosity() >= 0:
        console.print(
            f"best weights -> {result.weights}\ntry them: cvae grid --model {result.weights} --out sheet.png",
            markup=False,
        )
    if result.warning:
        print_warning(console, result.warning)


def _print_quality(console: Console, file: Path, data: str, device: str) -> None:
    """How good a model of one's own is, in short; what cannot be measured is no failure of training."""
    from cvae_cli.engine.evaluate import EvaluateOptions, evaluate
    from cvae_cli.errors import UserError

    if verbosity() >= 0:
        console.print("measuring it on the test images ...", markup=False)
    try:
        with EvaluateProgress(console) as progress:
            found = evaluate(
                EvaluateOptions(model=str(file), data=data, limit=_QUICK, device=device), progress
            )
    except UserError as error:
        print_warning(console, f"it could not be measured: {error}")
        return
    print_figures(found, short=True)
    if verbosity() >= 0:
        console.print(f"all of it: cvae evaluate --model {file}", markup=False)
