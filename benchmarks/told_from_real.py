"""Whether viewers can tell tiles from photographs: fifty pairs of the same class, one of them drawn.

    python benchmarks/told_from_real.py pairs.png --data-dir data
    python benchmarks/told_from_real.py pairs.png --answers answers.txt

The first writes a sheet of numbered pairs, and beside it, as ``pairs.csv``, on which side the tile is:
whoever looks must not see that. The second compares what they said, 50 times ``left`` or ``right``, with it.
Half are told right by guessing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from cvae_cli.data import datasets
from cvae_cli.images.captions import font
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry

PAIRS, COLUMNS, SCALE, GAP = 50, 5, 3, 12


def main() -> None:
    """Write the sheet, or count."""
    parser = argparse.ArgumentParser(description="Pairs of a photograph and a tile of the same class.")
    parser.add_argument("sheet", type=Path, help="the picture; its answers go beside it, as .csv")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, help="what somebody said: 50 words, left or right")
    arguments = parser.parse_args()
    key = arguments.sheet.with_suffix(".csv")
    if arguments.answers:
        said = arguments.answers.read_text().split()
        truth = key.read_text().split()
        right = sum(one.casefold() == other for one, other in zip(said, truth, strict=True))
        print(f"{right} of {len(truth)} told right; by guessing {len(truth) / 2:.0f}")
        return
    data = datasets.load("cifar10", arguments.data_dir, train=False)
    relabeller = Relabeller(registry.resolve(arguments.model))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(arguments.seed)).tolist()
    random = np.random.default_rng(arguments.seed)
    side = SCALE * data.images.shape[-1]
    cell = (2 * side + 3 * GAP + 2 * GAP, side + 2 * GAP)
    sheet = Image.new("RGB", (COLUMNS * cell[0], PAIRS // COLUMNS * cell[1]), "white")
    draw, sides, originals = ImageDraw.Draw(sheet), [], iter(order[PAIRS:])
    for number, index in enumerate(order[:PAIRS]):
        target = int(data.labels[index])
        # Of a photograph of another class, which is in no other pair.
        original = next(one for one in originals if int(data.labels[one]) != target)
        tile = relabeller.draw(
            data.images[original][None].numpy(), data.labels[original][None].numpy(), np.array([[target]])
        )[0, 0]
        pictures = [data.images[index].numpy(), tile]
        drawn_first = bool(random.integers(2))
        sides.append("left" if drawn_first else "right")
        left, top = number % COLUMNS * cell[0], number // COLUMNS * cell[1] + GAP
        draw.text((left + 4, top), str(number + 1), "black", font(11))
        for place, pixels in enumerate(reversed(pictures) if drawn_first else pictures):
            large = Image.fromarray(pixels.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(large, (left + 2 * GAP + place * (side + GAP), top))
    sheet.save(arguments.sheet)
    key.write_text("\n".join(sides) + "\n")
    print(f"{PAIRS} pairs -> {arguments.sheet}; which are drawn -> {key}")


if __name__ == "__main__":
    main()
