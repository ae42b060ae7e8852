"""What somebody would write without cvae: a folder of classes, batches, a grid of tiles for each image.

    python benchmarks/plain_script.py FOLDER OUT --model mnist

torchvision's ImageFolder, torch's DataLoader with a worker per core, ``make_grid`` and ``save_image``, and
the model's own networks in fp32 on all cores. No captions, no checks, nothing is resumed. ``engine.py``
measures cvae against it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.utils import make_grid, save_image

from cvae_cli.model import registry, weights
from cvae_cli.model.canvas import to_canvas


def main() -> None:
    """Write a grid for each image of a folder."""
    parser = argparse.ArgumentParser(description="Relabel a folder of classes, as plainly as it goes.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--convolutions", action="store_true", help="tiles by the convolutional decoder")
    arguments = parser.parse_args()
    model, card = weights.load(registry.resolve(arguments.model))
    spec = card.spec
    if arguments.convolutions:
        model.tiles = None
    steps = [v2.Grayscale()] if spec.channels == 1 else []
    images = ImageFolder(arguments.source, v2.Compose([v2.PILToTensor(), *steps, v2.Resize(spec.image_size)]))
    own = torch.tensor([spec.classes.index(name) for name in images.classes])
    loader = DataLoader(images, batch_size=64, num_workers=len(os.sched_getaffinity(0)))
    files = iter(images.samples)
    with torch.inference_mode():
        for batch, classes in loader:
            y, x = own[classes], to_canvas(batch, spec.canvas_size)
            others = (y[:, None] + torch.arange(1, spec.num_classes)) % spec.num_classes
            tiles = model.relabel(model.infer(x, y, with_maps=spec.map_carry > 0), y, others)
            for original, drawn in zip(x, tiles, strict=True):
                file = Path(next(files)[0])
                grid = make_grid(torch.cat([original[None], drawn]), nrow=spec.num_classes)
                place = arguments.out / file.parent.name / f"{file.stem}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                save_image(grid, place)


if __name__ == "__main__":
    main()
