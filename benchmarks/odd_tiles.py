"""How many broken tiles the mark "odd" finds, and how many sound ones it marks.

    python benchmarks/odd_tiles.py

Draws the 216 tiles of ``examples/digits`` and compares the mark with a list that was made by eye:
``odd_tiles.csv``, which names tiles that are broken, and others that are slightly so, which count neither
way. Prints a row for each sign alone, and one for both.

The list belongs to one model: with another, make another. ``--sheet`` writes the tiles, enlarged and
named, to make one from. ``--random N`` draws N random test tiles instead, each of another image, for
which there is no list: they are counted, and the sheet has the marked ones first.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cvae_cli.data import datasets
from cvae_cli.images.discover import iter_images
from cvae_cli.images.load import load_image
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.files import find_judge
from cvae_cli.judge.marks import ODD
from cvae_cli.judge.predict import Judge, Predictions
from cvae_cli.model import registry
from cvae_cli.relabelling.labels import LabelRule

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "digits"
ENLARGED = 4
COLUMNS = 9


def draw_examples(relabeller: Relabeller) -> tuple[NDArray[np.uint8], list[tuple[str, int]]]:
    """All tiles of the examples, (N, 1, 28, 28), and what each is: its source and its target."""
    rule = LabelRule.parse("auto", relabeller.spec.classes)
    tiles, names = [], []
    for ref in iter_images((EXAMPLES,), exclude=HERE):
        if ref.passed_over:
            continue
        native = load_image(ref.file, relabeller.spec).native[None]
        label = rule.label_of(ref, None)
        own = int(relabeller.classify(native)[0][0]) if label is None else label.index
        targets = [index for index in range(relabeller.spec.num_classes) if index != own]
        tiles.append(relabeller.draw(native, np.array([own]), np.array([targets]))[0])
        names += [(ref.relative, target) for target in targets]
    return np.concatenate(tiles), names


def draw_random(
    relabeller: Relabeller, count: int, data_dir: Path
) -> tuple[NDArray[np.uint8], list[tuple[str, int]]]:
    """Tiles of random test images, each as one random other class, and what each is."""
    test = datasets.load("mnist", data_dir, train=False)
    dice = np.random.default_rng(0)
    chosen = dice.permutation(len(test))[:count]
    labels = test.labels.numpy()[chosen]
    targets = (labels + dice.integers(1, 10, count)) % 10
    tiles = relabeller.draw_each(test.images.numpy()[chosen], labels, targets)
    return tiles, [
        (f"{image} ({label})", int(t)) for image, label, t in zip(chosen, labels, targets, strict=True)
    ]


def signs(judge: Judge, found: Predictions, targets: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which tiles are odd by the first sign alone, by the second alone, and by both: (N,) each."""
    bank = judge.bank
    assert bank is not None
    both = judge.realism(found, targets) < ODD
    shares = bank.shares(found.features, found.blemishes, targets)  # (signs, N)
    names = ("distance to the fifth nearest", "network for blemishes")
    alone = {name: share < ODD for name, share in zip(names, shares, strict=False)}
    return {**alone, "the mark": both}


def write_sheet(file: Path, tiles: NDArray[np.uint8], captions: list[str]) -> None:
    """The tiles, (N, 1, H, W), enlarged, with a caption above each."""
    side, height = ENLARGED * tiles.shape[-1], ENLARGED * tiles.shape[-1] + 18
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (side + 6), rows * (height + 4)), 40)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = number % COLUMNS * (side + 6), number // COLUMNS * (height + 4)
        draw.text((x + 2, y + 2), caption, 255, font)
        sheet.paste(Image.fromarray(tile[0]).resize((side, side), Image.Resampling.NEAREST), (x, y + 18))
    sheet.save(file)


def main() -> None:
    """Draw, judge and compare."""
    parser = argparse.ArgumentParser(description="The mark for odd tiles beside a list made by eye.")
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--list", type=Path, default=HERE / "odd_tiles.csv")
    parser.add_argument("--sheet", type=Path, help="write the tiles as a picture")
    parser.add_argument("--random", type=int, metavar="N", help="random test tiles instead of the examples")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    card = registry.read_card(registry.resolve(arguments.model))
    relabeller, judge = Relabeller(card.file, device="cpu"), Judge(find_judge(card), device="cpu")
    if arguments.random:
        tiles, names = draw_random(relabeller, arguments.random, arguments.data_dir)
    else:
        tiles, names = draw_examples(relabeller)
    targets = np.array([target for _, target in names])
    marked = signs(judge, judge.predict(tiles), targets)
    if arguments.sheet:
        order = np.argsort(~marked["the mark"], kind="stable") if arguments.random else np.arange(len(tiles))
        captions = [
            f"{'* ' if marked['the mark'][i] else ''}{names[i][0][-14:]} > {names[i][1]}" for i in order
        ]
        write_sheet(arguments.sheet, tiles[order], captions)
    if arguments.random:
        for name, odd in marked.items():
            print(f"{name}: {odd.sum()} of {len(odd)}")
        return
    with arguments.list.open(newline="") as file:
        listed = {(row["source"], int(row["target"])): row["degree"] for row in csv.DictReader(file)}
    degrees = np.array([listed.get(name, "sound") for name in names])
    print(f"{len(tiles)} tiles of {card.name} ({card.sha256[:12]}), judge {judge.sha256[:12]}\n")
    print(
        "| sign | broken tiles found | slightly broken ones marked | sound ones marked |\n|---|---|---|---|"
    )
    for name, odd in marked.items():
        cells = [
            f"{odd[degrees == each].sum()} of {(degrees == each).sum()}"
            for each in ("broken", "slight", "sound")
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
