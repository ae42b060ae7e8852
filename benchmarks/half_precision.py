"""Whether the recipes train as well in fp16 with loss scaling as in fp32 and bfloat16.

    python benchmarks/half_precision.py --data-dir data --data mnist

``cvae train`` takes fp16 by itself on NVIDIA's GPUs that multiply in it, but not in bfloat16 (Volta, Turing).
This trains a recipe in every precision from the same seed, and prints what the validation images say of the
result, and how many steps were left out since a gradient overflowed. fp16 is imitated on the CPU, whose own
takes a thousand times as long in training: what goes into products and convolutions, what comes out of them,
and their gradients are rounded to it, while sums are kept in fp32, as tensor cores do. What lies between them
stays in fp32. ``--from`` goes on from the weights of a model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cvae_cli.data import datasets
from cvae_cli.data.labelled import hold_out
from cvae_cli.model import registry
from cvae_cli.training import compat, run
from cvae_cli.training.callbacks import SilentObserver
from cvae_cli.training.recipes import RECIPES

VALIDATION_IMAGES = 1000
METRICS = ("objective", "elbo", "recon_loss", "kl", "effectiveness", "label_effect")


ROUNDED = (
    F.conv2d, torch.conv2d, F.conv_transpose2d, F.linear, torch.matmul, torch.Tensor.matmul,
    torch.Tensor.__matmul__, torch.bmm, torch.mm, torch.einsum,
)  # fmt: skip
"""What autocast computes in fp16."""


class Imitated(TorchFunctionMode):
    """fp16 with sums in fp32; casting there and back rounds gradients too, and lets them overflow."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func not in ROUNDED or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            kwargs = {name: rounded(each) for name, each in (kwargs or {}).items()}
            return rounded(func(*map(rounded, args), **kwargs))


def rounded(value: Any) -> Any:
    """A tensor as fp16 can hold it; anything else, and doubles, which autocast leaves alone, as it is."""
    is_single = isinstance(value, torch.Tensor) and value.dtype is torch.float32
    return value.half().float() if is_single else value


class Imitation(MixedPrecision):
    """Lightning's mixed precision, imitated."""

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """What a step is computed in."""
        # What autocast would round is rounded before it can; it is on where it would be on a GPU.
        with torch.autocast("cpu", torch.bfloat16), Imitated():
            yield


class CountingScaler(torch.amp.GradScaler):
    """Scales losses, and counts the steps that it leaves out."""

    left_out = 0

    def update(self, new_scale: Any = None) -> None:
        """Choose the next factor."""
        before = self.get_scale()
        super().update(new_scale)
        self.left_out += self.get_scale() < before


def train_in(precision: str, arguments: argparse.Namespace) -> tuple[dict[str, float], CountingScaler, float]:
    """Train in a precision: metrics on validation images, the scaler, and minutes."""
    recipe = RECIPES[arguments.data]
    training, validation = hold_out(
        datasets.load(arguments.data, arguments.data_dir, train=True), recipe.validation_images
    )
    training = training.subset(torch.arange(min(arguments.images, len(training))))
    validation = validation.subset(torch.arange(VALIDATION_IMAGES))
    data = run.TrainingData(arguments.data, arguments.data, training, validation)
    scaler, began = CountingScaler("cpu"), time.monotonic()
    trainer = compat.pl.Trainer

    def with_fp16(**options: Any) -> Any:
        """Lightning's trainer, which would refuse fp16 on a CPU by its name."""
        del options["precision"]
        plugins = [*options.pop("plugins"), Imitation("16-mixed", "cpu", scaler)]
        return trainer(**options, plugins=plugins)

    with tempfile.TemporaryDirectory() as folder:
        options = run.TrainerOptions(
            epochs=arguments.epochs,
            start=None if arguments.start is None else registry.resolve(arguments.start),
            device="cpu",
            precision="fp32" if precision == "fp16" else precision,
        )
        try:
            if precision == "fp16":
                compat.pl.Trainer = with_fp16
            result = run.train(recipe, data, Path(folder) / "run", options, SilentObserver())
        finally:
            compat.pl.Trainer = trainer
    return result.metrics, scaler, (time.monotonic() - began) / 60


def main() -> None:
    """Train in every precision and print the table."""
    parser = argparse.ArgumentParser(description="Training in fp16, bf16 and fp32.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--data", default="mnist", choices=list(RECIPES))
    parser.add_argument("--from", dest="start", help="a model to go on from")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "fp16"])
    arguments = parser.parse_args()
    print(
        f"{arguments.images} images of {arguments.data}, {arguments.epochs} epochs, torch {torch.__version__}"
    )
    print("\n| precision | " + " | ".join(METRICS) + " | steps left out | minutes |")
    print("|---|" + "---|" * (len(METRICS) + 2))
    for precision in arguments.precisions:
        metrics, scaler, minutes = train_in(precision, arguments)
        values = " | ".join(f"{metrics[name]:.4g}" for name in METRICS)
        print(f"| {precision} | {values} | {scaler.left_out} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
