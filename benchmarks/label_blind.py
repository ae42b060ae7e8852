"""The prior work's model beside the same with the label given to its decoder: same images, same budget.

    pip install '.[bolts,bench]'
    python benchmarks/label_blind.py --data-dir data --out label-blind

Trains both with ``cvae train --arch resnet18`` on part of MNIST, measures both with ``cvae evaluate`` and
the shipped judge, and writes a sheet of each (``blind.png``, ``ours.png``) and their course
(``curves.png``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from commands import cvae, write_class_folders
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cvae_cli.data import datasets
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.model import registry

ROWS = 10
FLAGS: dict[str, list[str]] = {"blind": ["--label-blind"], "ours": []}


def write_images(data_dir: Path, folder: Path, count: int) -> None:
    """The first ``count`` training images of each digit, one in ten more to validate on, and a test image."""
    data = datasets.load("mnist", data_dir, train=True)
    test = datasets.load("mnist", data_dir, train=False)
    write_class_folders(first(data, 0, count), folder / "train")
    write_class_folders(first(data, count, count + count // 10), folder / "val")
    write_class_folders(first(test, 0, 1), folder / "test")


def first(data: LabelledImages, start: int, stop: int) -> LabelledImages:
    """Of each class the images from ``start`` to before ``stop``."""
    each = [(data.labels == label).nonzero()[start:stop, 0] for label in range(len(data.classes))]
    return data.subset(torch.cat(each))


def main() -> None:
    """Train and measure both, and print the table."""
    parser = argparse.ArgumentParser(description="The prior work's model, and with its label in the decoder.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("label-blind"))
    parser.add_argument("--images", type=int, default=320, help="of each digit")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--limit", type=int, default=100, help="test images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    _, axes = pyplot.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "digits"
        write_images(arguments.data_dir, folder, arguments.images)
        for name, flags in FLAGS.items():
            run = Path(scratch) / name
            asked = ("--arch", "resnet18", *flags, "--epochs", arguments.epochs)
            # In so few steps the prior work's rate, a tenth of it, moves next to nothing.
            asked += ("--learning-rate", arguments.learning_rate)
            cvae("train", "--data", folder, "--image-size", 28, "--channels", 1, "--out", run, *asked)
            where = ("--data", "mnist", "--data-dir", arguments.data_dir, "--limit", arguments.limit)
            judge = registry.shipped("judge")["mnist-judge"]
            found[name] = json.loads(cvae("evaluate", "--model", run, *where, "--judge", judge, "--json"))
            sheet = arguments.out / f"{name}.png"
            cvae("grid", folder / "test", "--model", run, "--rows", ROWS, "--out", sheet)
            logs = EventAccumulator(str(run / "logs"))
            logs.Reload()
            for axis, term in zip(axes, ("recon_loss", "kl", "val_effectiveness"), strict=True):
                points = logs.Scalars(term)
                axis.plot([point.step for point in points], [point.value for point in points], label=name)
    for axis, title in zip(axes, ("recon_loss, nats", "kl, nats", "effectiveness (validation)"), strict=True):
        axis.set(title=title, xlabel="step")
        axis.legend()
    pyplot.savefig(arguments.out / "curves.png", dpi=100)
    print("| metric | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for metric in next(iter(found.values()))["metrics"]:
        values = (result["metrics"][metric] for result in found.values())
        print(
            f"| {metric} | " + " | ".join("-" if value is None else f"{value:.4g}" for value in values) + " |"
        )


if __name__ == "__main__":
    main()
