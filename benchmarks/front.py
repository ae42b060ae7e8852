"""What each part of the MNIST recipe does: short trainings that differ from it in one thing.

    python benchmarks/front.py --data-dir data --epochs 2

Effectiveness, style, composition and leakage pull against each other; this is where the recipe
was chosen. Every point is trained from scratch on the training images and measured on held-out
*training* images, by a judge of its own (another seed than the shipped one's, trained on the same
images as the models): the test set and the shipped judge take no part in choosing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from cvae_cli.data import datasets
from cvae_cli.data.labelled import hold_out
from cvae_cli.evaluation.measure import measure
from cvae_cli.evaluation.run import batch_size
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.predict import Judge
from cvae_cli.judge.train import train_judge
from cvae_cli.training.recipe import AlignmentRecipe, AugmentationRecipe, Recipe
from cvae_cli.training.recipes import MNIST
from cvae_cli.training.run import TrainerOptions, TrainingData, train

JUDGE_SEED = 5
JUDGE_EPOCHS = 4


def weights(**changes: float) -> Recipe:
    """The recipe with other weights of its terms."""
    return replace(MNIST, loss=replace(MNIST.loss, **changes))


POINTS = {
    "the recipe": MNIST,
    "means aligned only": replace(MNIST, alignment=AlignmentRecipe(strength=0.0)),
    "full alignment": replace(MNIST, alignment=AlignmentRecipe(strength=1.0)),
    "kl 1, sharpness 0: the plain bound": weights(kl=1.0, sharpness=0.0),
    "kl 0.5": weights(kl=0.5),
    "no style term": weights(style=0.0),
    "no discriminator": weights(realism=0.0),
    "no cycle": weights(cycle=0.0),
    "target 2": weights(target=2.0),
    "no square of the cross-entropy": replace(MNIST, classifier=replace(MNIST.classifier, square=0.0)),
    "no distorted images": replace(MNIST, augmentation=AugmentationRecipe()),
    "no drawn digits": replace(MNIST, augmentation=replace(MNIST.augmentation, drawn_digits=0.0)),
    "all images with their maps": replace(MNIST, map_dropout=0.0),
    "no latent maps": replace(MNIST, spec=replace(MNIST.spec, latent_maps=()), map_dropout=0.0),
    "discriminator at the model's rate": replace(
        MNIST, discriminator=replace(MNIST.discriminator, learning_rate_factor=1.0)
    ),
    "latent 16": replace(MNIST, spec=replace(MNIST.spec, latent_dim=16)),
}
COLUMNS = {
    "effectiveness": "eff. %",
    "effectiveness_lowest_pair": "lowest %",
    "style_thickness": "r thick",
    "style_slant": "r slant",
    "style_width": "r width",
    "composition": "comp.",
    "reversibility": "rev.",
    "leakage": "leak %",
    "realism": "realism",
    "diversity": "divers.",
    "precision": "prec. %",
    "recall": "recall %",
}
SHARES = {"effectiveness", "effectiveness_lowest_pair", "leakage", "precision", "recall"}


def main() -> None:
    """Train and measure the points, and print one row for each."""
    parser = argparse.ArgumentParser(description="What each part of the MNIST recipe does.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000, help="held-out images to measure on")
    parser.add_argument("--only", nargs="*", default=list(POINTS), help="names of points")
    arguments = parser.parse_args()
    full = datasets.load("mnist", arguments.data_dir, train=True)
    training, validation = hold_out(full, MNIST.validation_images)
    some = validation.subset(torch.arange(min(arguments.images, len(validation))))
    print(f"{arguments.epochs} epochs, {len(some)} held-out training images, torch {torch.__version__}")
    print("| point | " + " | ".join(COLUMNS.values()) + " | minutes |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judge.safetensors"
        train_judge(
            training,
            file,
            name="front",
            data_set="mnist",
            command="",
            epochs=JUDGE_EPOCHS,
            seed=JUDGE_SEED,
        )
        judge = Judge(file)
        for number, name in enumerate(arguments.only):
            began = time.monotonic()
            out = Path(folder) / str(number)
            data = TrainingData("mnist", "mnist", training, validation)
            train(POINTS[name], data, out, TrainerOptions(epochs=arguments.epochs))
            minutes = (time.monotonic() - began) / 60
            relabeller = Relabeller(out / "model.safetensors", batch_size=batch_size(MNIST.spec))
            _, metrics = measure(relabeller, judge, some, training)
            values = {metric.name: metric.value for metric in metrics}
            cells = [f"{100 * values[key]:.2f}" if key in SHARES else f"{values[key]:.3f}" for key in COLUMNS]
            print(f"| {name} | " + " | ".join(cells) + f" | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
