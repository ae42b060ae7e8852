"""Whether the recipes train as well in fp16 with loss scaling as in fp32 and bfloat16.

    python benchmarks/half_precision.py --data-dir data --data mnist

``cvae train`` takes fp16 by itself on NVIDIA's GPUs that multiply in it, but not in bfloat16 (Volta, Turing).
This trains a recipe in every precision from the same seed on the CPU, whose fp16 is the same, though what is
kept in fp32 beside it is not quite what it is on a GPU, and prints what the validation images say of the
result, and how many steps were left out since a gradient overflowed. ``--from`` goes on from the weights of a
model, as a whole training would be too long for photographs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision

from cvae_cli.data import datasets
from cvae_cli.data.labelled import hold_out
from cvae_cli.model import registry
from cvae_cli.training import compat, run
from cvae_cli.training.callbacks import SilentObserver
from cvae_cli.training.recipes import RECIPES

VALIDATION_IMAGES = 1000
METRICS = ("objective", "elbo", "recon_loss", "kl", "effectiveness", "label_effect")


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
        plugins = [*options.pop("plugins"), MixedPrecision("16-mixed", "cpu", scaler)]
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
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{arguments.images} images of {arguments.data}, {arguments.epochs} epochs, torch {torch.__version__}"
    )
    print("\n| precision | " + " | ".join(METRICS) + " | steps left out | minutes |")
    print("|---|" + "---|" * (len(METRICS) + 2))
    for precision in ("fp32", "bf16", "fp16"):
        metrics, scaler, minutes = train_in(precision, arguments)
        values = " | ".join(f"{metrics[name]:.4g}" for name in METRICS)
        print(f"| {precision} | {values} | {scaler.left_out} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
