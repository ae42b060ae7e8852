"""What tiles do for a classifier of few, unevenly spread images: the guide in docs/augmenting.md, measured.

    python benchmarks/augment.py --data-dir data

Takes a small part of Fashion-MNIST's training images, with half of the classes rare, and trains the
same classifier on it in several ways: as it is; with the rare images repeated; and with tiles of the rare
classes drawn from all others, by a model that was trained on that small part alone, and by the shipped
one, which has seen the whole training set and so knows more than such a user would. Prints the accuracy
on all real test images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from commands import cvae, write_class_folders
from PIL import Image
from torch import Tensor

from cvae_cli.data import datasets
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.judge.predict import Judge
from cvae_cli.judge.train import train_judge

RARE = ("dress", "coat", "sandal", "shirt", "ankle-boot")


def part_of(data: LabelledImages, many: int, few: int) -> LabelledImages:
    """The first images of each class, few of the rare ones."""
    counts = [few if name in RARE else many for name in data.classes]
    chosen = [(data.labels == label).nonzero()[:count, 0] for label, count in enumerate(counts)]
    return data.subset(torch.cat(chosen))


def tiles_of(folder: Path, model: object, confidence: float, wanted: int, out: Path) -> dict[str, Tensor]:
    """Tiles of each rare class, as many as are wanted, or as there are: (N, 1, H, W) uint8."""
    asked = ("--labels", "folder", "--targets", ",".join(RARE), "--write", "tiles")
    cvae("-q", "relabel", folder, "--model", model, *asked, "--min-confidence", confidence, "--out", out)
    random, found = np.random.default_rng(0), {}
    for name in RARE:
        files = sorted((out / "tiles" / name).rglob("*.png"))
        chosen = random.permutation(len(files))[:wanted]
        pixels = [np.asarray(Image.open(files[index]).convert("L")) for index in chosen]
        if pixels:
            found[name] = torch.from_numpy(np.stack(pixels))[:, None]
        print(f"  {name}: {len(files)} tiles were certain enough, {len(chosen)} taken", flush=True)
    return found


def joined(data: LabelledImages, more: dict[str, Tensor]) -> LabelledImages:
    """Images and, of some classes, more of them."""
    labels = [torch.full((len(images),), data.classes.index(name)) for name, images in more.items()]
    images = torch.cat([data.images, *more.values()])
    return LabelledImages(images, torch.cat([data.labels, *labels]), data.classes)


def repeated(data: LabelledImages, count: int) -> LabelledImages:
    """Images, those of each class as often as it takes to have ``count``."""
    chosen = []
    for label in range(len(data.classes)):
        own = (data.labels == label).nonzero()[:, 0]
        chosen.append(own.repeat(-(-count // len(own)))[:count])
    return data.subset(torch.cat(chosen))


def accuracies(data: LabelledImages, test: LabelledImages, seeds: int, scratch: Path) -> list[list[float]]:
    """Of classifiers of each seed: the share of test images read right, in all and of rare classes."""
    rare = torch.isin(test.labels, torch.tensor([test.classes.index(name) for name in RARE])).numpy()
    rows = []
    for seed in range(seeds):
        file = scratch / "classifier.safetensors"
        train_judge(data, file, name="classifier", data_set="part", command="none", seed=seed)
        read = Judge(file).predict(test.images.numpy()).probabilities.argmax(axis=1)
        right = read == test.labels.numpy()
        rows.append([float(right.mean()), float(right[rare].mean()), float(right[~rare].mean())])
    return rows


def main() -> None:
    """Make the part, the models and the tiles, train the classifiers, and print the table."""
    parser = argparse.ArgumentParser(description="What tiles do for a classifier of few, uneven images.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, help="keep images, model and tiles in this new folder")
    parser.add_argument("--many", type=int, default=400, help="images of a frequent class")
    parser.add_argument("--few", type=int, default=20, help="images of a rare class")
    parser.add_argument("--epochs", type=int, default=8, help="of the model of that part")
    parser.add_argument("--min-confidence", type=float, default=0.9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-shipped", action="store_true", help="leave out the shipped model")
    arguments = parser.parse_args()
    whole = datasets.load("fashion", arguments.data_dir, train=True)
    test = datasets.load("fashion", arguments.data_dir, train=False)
    part = part_of(whole, arguments.many, arguments.few)
    wanted = arguments.many - arguments.few
    ways = {"as it is": part, "rare images repeated": repeated(part, arguments.many)}
    with tempfile.TemporaryDirectory() as name:
        scratch = arguments.out or Path(name)
        folder = scratch / "clothes"
        write_class_folders(part, folder / "train")
        # What the model of the part is measured on is of no account here.
        write_class_folders(test.subset(torch.arange(200)), folder / "test")
        run = scratch / "run"
        cvae("train", "--data", folder, "--epochs", arguments.epochs, "--out", run)
        models: dict[str, object] = {"tiles of a model of this part": run}
        if not arguments.without_shipped:
            models["tiles of the shipped model"] = "fashion"
        for what, model in models.items():
            print(what, flush=True)
            out = scratch / what.replace(" ", "-")
            tiles = tiles_of(folder / "train", model, arguments.min_confidence, wanted, out)
            ways[what] = joined(part, tiles)
        results = {what: accuracies(data, test, arguments.seeds, scratch) for what, data in ways.items()}
    print(json.dumps({what: [[round(x, 4) for x in row] for row in rows] for what, rows in results.items()}))
    print(f"\n{len(part)} images: {arguments.many} of each frequent class, {arguments.few} of each rare one")
    print("| trained on | all classes | rare classes | frequent classes |\n|---|---|---|---|")
    for what, rows in results.items():
        mean, spread = np.mean(rows, axis=0), np.ptp(rows, axis=0) / 2
        shown = (f"{100 * a:.1f}% (± {100 * b:.1f})" for a, b in zip(mean, spread, strict=True))
        print(f"| {what} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main()
