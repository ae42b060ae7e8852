"""``cvae train``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae_cli import storage
from cvae_cli.cli import completion, options
from cvae_cli.cli.console import make_console, print_warning, shown_path, verbosity, visible
from cvae_cli.cli.progress import PLAIN_SECONDS, ProgressDisplay
from cvae_cli.cli.signals import StopRequest
from cvae_cli.data.catalogue import DEFAULT_SIZE, LARGEST_UNASKED, NAMES, SIZES

if TYPE_CHECKING:
    from rich.console import Console

    from cvae_cli.data.folders import DatasetSummary
    from cvae_cli.data.pairs import Pairing
    from cvae_cli.training.options import TrainOptions
    from cvae_cli.training.run import TrainResult

_MAX_NAMED_FILES = 20
_TIMED_STEPS = 20
"""Steps after the first by which it is known how long the training will take."""
_QUICK_IMAGES = 1000
"""Test images of the short evaluation."""
_OUT_VARIABLE = "CVAE_TRAIN_OUT"


@click.command("train", short_help="Train a model.")
@click.option(
    "--data",
    type=options.Text(),
    default="mnist",
    show_default=True,
    metavar="|".join([*NAMES, "FOLDER"]),
    shell_complete=completion.data_sets,
    help="A data set known by name, or a folder of your own images: FOLDER/train/CLASS/*, with test and val "
    "if they exist, or FOLDER/CLASS/*, of which one image in ten is held out for testing; or Parquet files.",
)
@options.data_dir
@click.option(
    "--pairs",
    type=click.Choice(["auto", "never"]),
    default="auto",
    show_default=True,
    help="auto: where files of the same name in several class folders of FOLDER show the same thing, tiles "
    "are trained to look like their true counterparts. never: names mean nothing.",
)
@click.option(
    "--image-size",
    type=click.Choice([str(size) for size in SIZES]),
    callback=lambda ctx, param, value: value and int(value),
    help="Height and width in pixels of what the model of a FOLDER draws.  [default: that of the images "
    f"up to {LARGEST_UNASKED}, else {DEFAULT_SIZE}]",
)
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    callback=lambda ctx, param, value: value and int(value),
    help="Grey (1) or RGB (3), for a FOLDER.  [default: as its images are]",
)
@click.option(
    "--from",
    "start",
    type=options.Text(),
    metavar="NAME|FILE",
    shell_complete=completion.models,
    help="Go on from the weights of this model, whose networks must have the same shapes, instead of random "
    "ones. Its classifier is trained anew, unless the model was trained on the same images.",
)
@click.option(
    "--distill",
    type=options.Text(),
    metavar="NAME|FILE",
    shell_complete=completion.models,
    help="Teach a fast decoder of tiles to draw what this model draws; all else of the model stays as it is. "
    "For digits, clothes, and other small strokes and silhouettes.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Passes over the training images.  [default: 30; 16 for a FOLDER of up to 500 images; 40 with "
    "--distill; 50 for --arch resnet18 on mnist]",
)
@click.option(
    "--arch",
    type=click.Choice(["auto", "resnet18"]),
    default="auto",
    show_default=True,
    help="auto: networks that suit the images. resnet18: those of the prior work, which need the extra "
    "[bolts].",
)
@click.option(
    "--label-blind",
    is_flag=True,
    help="With --arch resnet18: do not give the label to the decoder, as in the prior work; a baseline.",
)
@click.option(
    "--out",
    type=options.FilePath(),
    metavar="DIR",
    help="The run folder.  [default: runs/DATA, or the next free name]",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out, or the latest one of this data set.")
@click.option("--seed", type=options.SEED, default=0, show_default=True, help="Of everything random.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Images per step, over all processes.  [default: the recipe's]",
)
@click.option(
    "--learning-rate", type=options.Number(0, min_open=True), help="Peak rate.  [default: the recipe's]"
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of GPUs, or of processes on the CPU.",
)
@click.option("--num-nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of machines.")
@click.option(
    "--strategy",
    default="auto",
    show_default=True,
    help="One of Lightning's, such as ddp. auto is ddp for several processes.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto is bf16 where the hardware supports it, else fp16 with scaled losses on NVIDIA GPUs that do, "
    "else fp32.",
)
@click.pass_context
def command(ctx: click.Context, /, **asked: Any) -> None:
    """Train a model whose label decides what is drawn, and export its best weights.

    The run folder holds checkpoints, TensorBoard logs (logs/) and, after each epoch that is the best
    so far, model.safetensors with model.json, which --model of the other commands takes. Ctrl-C ends
    a run early and keeps the best weights; --resume continues it.

    A model of a FOLDER is measured at the end, by a short form of cvae evaluate.
    """
    console = make_console()
    if verbosity() >= 0:
        console.print(f"preparing {visible(asked['data'])} and the networks ...", markup=False)
    from cvae_cli.training.options import TrainOptions, resolve
    from cvae_cli.training.run import train

    asked["data"] = asked["data"] if asked["data"] in NAMES else os.path.normpath(asked["data"])
    job = TrainOptions(**asked)
    with StopRequest() as stop, _Observer(console, stop) as observer:
        recipe, data, folder = resolve(job, observer)
        # Lightning starts further processes by repeating this command: they must find this folder.
        with _variable(_OUT_VARIABLE, str(folder)):
            result = train(recipe, data, folder, job.trainer(recipe), observer, stop)
    if not result.main_process:
        return
    _print_result(console, result, job)
    if job.data not in NAMES and result.weights is not None and not result.interrupted:
        _print_quality(console, result.weights, job.data, job.device)
    if result.interrupted:
        ctx.exit(128 + result.interrupted)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _Observer:
    """Shows a run: bars for the epoch and for all epochs, lines elsewhere."""

    def __init__(self, console: Console, stop: StopRequest) -> None:
        self.console, self.stop = console, stop
        self.display = ProgressDisplay(console)
        self.began = self.last = time.monotonic()
        self.steps = self.epochs = 0
        self.first_step: int | None = None

    def __enter__(self) -> _Observer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.__exit__(*exception)

    def found(self, summary: DatasetSummary) -> None:
        profile = summary.profile
        size, kind = profile.image_size, f"{'grey' if profile.channels == 1 else 'RGB'} {profile.kind.value}"
        resized = ", resized" if profile.resized else ""
        if verbosity() >= 0:
            counts = ", ".join(f"{visible(name)} {count}" for name, count in summary.counts.items())
            self.console.print(
                f"{visible(str(summary.folder))}: {len(summary.counts)} classes, "
                f"{size}x{size} {kind}{resized}\n"
                f"training images: {counts}; validation images: {summary.validation}; "
                f"test images: {summary.test}",
                markup=False,
            )
            if summary.pairing is not None:
                self.console.print(_about_pairs(summary.pairing), markup=False)
        for file, reason in summary.left_out[:_MAX_NAMED_FILES]:
            print_warning(self.console, f"left out {visible(str(file))}: {reason}")
        if len(summary.left_out) > _MAX_NAMED_FILES:
            more = len(summary.left_out) - _MAX_NAMED_FILES
            print_warning(self.console, f"and {more} more files were left out")
        for text in summary.warnings:
            print_warning(self.console, text)

    def fell_back(self, reason: str) -> None:
        if verbosity() >= 0:
            self.console.print(reason, markup=False)

    def pretraining(self, done: int, steps: int) -> None:
        self.display.update("pre-training the classifier", done, steps, unit="steps")

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        # Again: Lightning has meanwhile put a handler of its own on SIGTERM.
        self.stop.install()
        self.epochs, self.steps = epochs, steps
        self.began = time.monotonic()
        if verbosity() >= 0:
            begun = f", from epoch {first_epoch + 1}" if first_epoch else ""
            self.console.print(
                f"run {visible(str(folder))}: {epochs} epochs of {steps} steps{begun}", markup=False
            )

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        done, total = epoch * self.steps + step, self.epochs * self.steps
        if self.first_step is None:
            # From here, since pre-training tells nothing of how fast the steps are.
            self.first_step, self.began = done, time.monotonic()
        if done - self.first_step == _TIMED_STEPS and verbosity() >= 0:
            minutes = (time.monotonic() - self.began) / _TIMED_STEPS * (total - done) / 60
            self.console.print(f"this will take about {_duration(minutes)}", markup=False)
        if self.display.live:
            names = ("imitation", "recon_loss", "kl", "target")
            losses = "  ".join(f"{name} {terms[name]:.3g}" for name in names if name in terms)
            self.display.update("all epochs", done, total)
            title = f"epoch {epoch + 1}/{self.epochs}"
            self.display.update("epoch", step, self.steps, detail=losses, title=title)
            return
        now = time.monotonic()
        if verbosity() >= 0 and done > self.first_step and now - self.last >= PLAIN_SECONDS:
            self.last = now
            speed = (done - self.first_step) / max(now - self.began, 1e-6)
            left = (total - done) / max(speed, 1e-6)
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}, step {step}/{self.steps}: "
                f"{_told(terms)}, about {left / 60:.0f} min left",
                markup=False,
            )

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        if verbosity() >= 0:
            self.console.print(
                f"epoch {epoch + 1:3d}/{self.epochs}  elbo {metrics['elbo']:8.2f}  "
                f"recon_loss {metrics['recon_loss']:7.2f}  kl {metrics['kl']:5.2f}  "
                f"effectiveness {metrics['effectiveness']:6.2%}  label effect {metrics['label_effect']:5.1f}"
                + (f"  imitation {metrics['imitation']:.2f}" if "imitation" in metrics else "")
                + ("  (best)" if best else ""),
                markup=False,
            )


def _told(terms: dict[str, float]) -> str:
    """The one term that a line has room for."""
    name = "elbo" if "elbo" in terms else "imitation"
    return f"{name} {terms.get(name, float('nan')):.1f}"


def _duration(minutes: float) -> str:
    """A time in words."""
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _about_pairs(pairing: Pairing) -> str:
    """What is said of files of the same name in several class folders."""
    found = (
        f"{pairing.names} file names occur in several classes, and an image is more like its namesake than "
        f"like another image of that class in {pairing.nearer:.0%} of the cases"
    )
    if pairing.used:
        return f"pairs: {found}; tiles are trained to look like their namesakes (--pairs never for not)."
    if pairing.believed:
        return f"pairs: {found}; they are not used."
    return f"no pairs: {found}, which may be chance; the names are taken for numbers."


def _print_result(console: Console, result: TrainResult, job: TrainOptions) -> None:
    if result.interrupted and not result.complete:
        begun = "" if job.start is None else f" --from {shown_path(storage.shown(job.start))}"
        begun += "" if job.distill is None else f" --distill {shown_path(storage.shown(job.distill))}"
        console.print(
            f"stopped early after {result.epochs} whole epochs; continue with "
            f"cvae train --data {shown_path(job.data)}{begun} --resume --out {shown_path(result.folder)}",
            markup=False,
        )
    elif result.interrupted:
        console.print("stopped after the last epoch: the training is complete, but was not measured.")
    if result.patience_ended and verbosity() >= 0:
        console.print(f"ended after {result.epochs} epochs, since nothing got better any more.")
    if result.weights is None:
        console.print("nothing was exported.")
        return
    if verbosity() >= 0:
        console.print(
            f"best weights -> {visible(str(result.weights))}\n"
            f"try them: cvae grid --model {shown_path(result.weights)} --out sheet.png",
            markup=False,
        )
    if result.warning:
        print_warning(console, result.warning)


def _print_quality(console: Console, file: Path, data: str, device: str) -> None:
    """How good a model of one's own is, in short; if that cannot be measured, training has not failed."""
    from cvae_cli.cli.tables import print_metrics
    from cvae_cli.errors import UserError
    from cvae_cli.evaluation.run import EvaluateOptions, evaluate

    if verbosity() >= 0:
        console.print("measuring it on the test images ...", markup=False)
    try:
        with ProgressDisplay(console) as display:
            asked = EvaluateOptions(model=str(file), data=data, limit=_QUICK_IMAGES, device=device)
            found = evaluate(asked, display.update)
    except UserError as error:
        print_warning(console, f"it could not be measured: {error}")
        return
    print_metrics(found, short=True)
    if verbosity() >= 0:
        console.print(f"all of it: cvae evaluate --model {shown_path(file)}", markup=False)
