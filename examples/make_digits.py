"""Draw the images of ``examples/digits``: digits as pen strokes, none from a data set.

``python examples/make_digits.py`` writes them again, the same ones: the hand is a seeded
generator that shifts, slants and bends the strokes of ``cvae_cli/images/pen.py``.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from cvae_cli.images.pen import ink


def on_dark(coverage: Image.Image) -> Image.Image:
    """White chalk on black."""
    return coverage


def on_paper(coverage: Image.Image, hand: random.Random) -> Image.Image:
    """Blue-black ink on paper, lit from one side and a little grainy."""
    width, height = coverage.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = hand.uniform(-1, 1)
    light = 226 + 22 * (x / width * angle + y / height * (1 - abs(angle)) - 0.5)
    grain_size = (max(1, width // 6), max(1, height // 6))
    grain = np.frombuffer(hand.randbytes(grain_size[0] * grain_size[1]), np.uint8).reshape(grain_size[::-1])
    soft = Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC)
    paper = light + (np.asarray(soft, np.float32) - 127.5) / 50
    alpha = np.asarray(coverage, np.float32)[:, :, None] / 255
    tinted = paper[:, :, None] * np.array([1.0, 0.985, 0.95], np.float32)
    pen = np.array([38, 44, 74], np.float32)
    return Image.fromarray(np.clip(tinted * (1 - alpha) + pen * alpha, 0, 255).astype(np.uint8))


def main() -> None:
    """Write two dozen images and ``labels.csv``."""
    folder = Path(__file__).parent / "digits"
    hand = random.Random(28)
    truth: list[tuple[str, str]] = []

    def save(name: str, digit: str, image: Image.Image) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, **({"quality": 70} if file.suffix == ".jpg" else {"optimize": True}))
        truth.append((name, digit))

    # As MNIST has them: 28x28, light on dark. Loose, so that the classifier has to tell.
    for number, digit in enumerate("0123456789"):
        image = on_dark(ink(digit, (28, 28), 20, hand.uniform(1.9, 3.4), hand))
        save(f"chalk-{number:02}.png", digit, image)
    # In folders that name their class.
    for digit in "257":
        save(f"{digit}/chalk.png", digit, on_dark(ink(digit, (28, 28), 20, hand.uniform(2.0, 3.0), hand)))
        image = on_paper(ink(digit, (160, 160), 110, hand.uniform(9, 14), hand), hand)
        save(f"{digit}/paper.jpg", digit, image)
    # Dark on light, of several sizes and shapes.
    papers = {
        "3": ((28, 28), 20.0),
        "4": ((96, 128), 80.0),
        "6": ((300, 200), 120.0),
        "8": ((240, 240), 180.0),
        "9": ((480, 640), 260.0),
    }
    for number, (digit, (size, box)) in enumerate(papers.items()):
        image = on_paper(ink(digit, size, box, box * hand.uniform(0.09, 0.14), hand), hand)
        if size == (28, 28):
            image = image.convert("L")
        save(f"paper-{number:02}.{'jpg' if number % 2 else 'png'}", digit, image)
    # As a phone takes them.
    for number, digit in enumerate("135"):
        coverage = ink(digit, (3024, 4032), hand.uniform(1500, 2200), hand.uniform(150, 220), hand)
        image = on_paper(coverage.filter(ImageFilter.GaussianBlur(3)), hand)
        save(f"phone-{number:02}.jpg", digit, image)

    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "label"])
        writer.writerows(sorted(truth))


if __name__ == "__main__":
    main()
