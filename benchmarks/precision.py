"""What bfloat16 changes in the tiles of a model, and how much faster it is on one core.

    python benchmarks/precision.py weights/cifar10.safetensors --data-dir data

``cvae train`` measures the change when it exports, rounds the weights where that makes bfloat16 right, and
writes what is right into the spec, as ``auto_precision``; ``--write`` does so for weights that were exported
before there was any, and so may change their tensors. Only training images are read.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cvae_cli.data import datasets, folders
from cvae_cli.data.catalogue import NAMES
from cvae_cli.data.labelled import LabelledImages, hold_out
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import weights
from cvae_cli.model.precision import fit_to_bf16, measure_precisions
from cvae_cli.model.registry import ModelCard

HELD_OUT, IMAGES = 5000, 320


def images_of(card: ModelCard, data_dir: Path) -> LabelledImages:
    """Images of the model's own data set: those that training held out, where it is known by name."""
    name = card.raw["data_set"]
    if name in NAMES:
        return hold_out(datasets.load(name, data_dir, train=True), HELD_OUT)[1]
    return folders.read(folders.scan(Path(name)), "train", card.spec)[0]


def milliseconds(file: Path, precision: str, data: LabelledImages) -> float:
    """To draw an image under all other labels, on one core."""
    relabeller = Relabeller(file, device="cpu", precision=precision)
    classes = relabeller.spec.num_classes
    images, labels = data.images[:IMAGES].numpy(), data.labels[:IMAGES].numpy()
    targets = (labels[:, None] + np.arange(1, classes)) % classes
    relabeller.draw(images[:8], labels[:8], targets[:8])
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        relabeller.draw(images, labels, targets)
        best = min(best, time.process_time() - began)
    return 1000 * best / len(images)


def microseconds_of_decoders(file: Path) -> tuple[float, float]:
    """For each tile of a usual batch: the model's own decoder in fp32, and that of tiles in ``auto``."""
    slow, fast = (Relabeller(file, device="cpu", precision=each) for each in ("fp32", "auto"))
    spec = fast.spec
    assert fast.model.tiles is not None
    took = []
    for decoder, images in ((slow.model.decoder, slow.batch_size), (fast.model.tiles, fast.batch_size)):
        y = torch.arange(images * (spec.num_classes - 1)) % spec.num_classes
        z = torch.randn(len(y), spec.latent_dim, generator=torch.Generator().manual_seed(0))
        best = float("inf")
        with torch.inference_mode():
            for _ in range(100):
                began = time.process_time()
                decoder(z, y)
                best = min(best, (time.process_time() - began) / len(y))
        took.append(1e6 * best)
    return took[0], took[1]


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description="What bfloat16 changes, and what it gains.")
    parser.add_argument("models", type=Path, nargs="+", help=".safetensors files")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--write", action="store_true", help="write the model anew, as cvae train does")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for file in arguments.models:
        model, card = weights.load(file)
        data = images_of(card, arguments.data_dir)
        exact = milliseconds(file, "fp32", data)
        print(f"{file}: fp32 {exact:.2f} ms an image")
        for name, found in measure_precisions(model, data.images, data.labels).items():
            print(f"  {name}: {found.share:.2%} of the pixels more than two grey levels off, ", end="")
            print(f"at most {found.most}" + (" (right)" if found.is_right else ""))
        if arguments.write:
            rounded, right = fit_to_bf16(model, data.images, data.labels)
            kept = ("name", "data_set", "metrics", "train_command", "versions", "training", "licence")
            spec = replace(card.spec, auto_precision=right).to_dict()
            weights.export(rounded, file, spec=spec, **{key: card.raw[key] for key in kept})
        used = weights.load(file)[1].spec.auto_precision
        print(f"  auto ({used}): {milliseconds(file, 'auto', data):.2f} ms an image")
        if model.tiles is not None:
            own, fast = microseconds_of_decoders(file)
            print(f"  a tile: {own:.0f} us by its own, {fast:.0f} by that of tiles, {own / fast:.1f} times")


if __name__ == "__main__":
    main()
