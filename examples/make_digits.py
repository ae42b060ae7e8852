"""Draw the images of ``examples/digits``: digits as pen strokes, none from a data set.

``python examples/make_digits.py`` writes them again, the same ones: the hand is a seeded
generator that shifts, slants and bends the strokes below.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
Stroke = list[Point]

# Each digit as strokes through points of a unit square, x to the right, y down; two points are a
# straight line, more a smooth curve.
CURVES: dict[str, list[Stroke]] = {
    "0": [[(0.52, 0.04), (0.2, 0.3), (0.2, 0.7), (0.5, 0.96), (0.8, 0.7), (0.8, 0.3), (0.52, 0.04)]],
    "1": [[(0.55, 0.03), (0.52, 0.5), (0.48, 0.97)]],
    "2": [[(0.2, 0.28), (0.48, 0.04), (0.78, 0.26), (0.6, 0.6), (0.18, 0.94)], [(0.18, 0.94), (0.85, 0.92)]],
    "3": [
        [(0.2, 0.14), (0.52, 0.04), (0.76, 0.24), (0.42, 0.46)],
        [(0.42, 0.46), (0.82, 0.66), (0.58, 0.95), (0.16, 0.86)],
    ],
    "4": [[(0.34, 0.04), (0.16, 0.56)], [(0.16, 0.56), (0.88, 0.52)], [(0.72, 0.12), (0.62, 0.97)]],
    "5": [
        [(0.8, 0.05), (0.32, 0.07)],
        [(0.32, 0.07), (0.26, 0.44)],
        [(0.26, 0.44), (0.6, 0.38), (0.8, 0.66), (0.54, 0.95), (0.18, 0.87)],
    ],
    "6": [[(0.68, 0.04), (0.34, 0.36), (0.22, 0.72), (0.48, 0.96), (0.76, 0.74), (0.54, 0.54), (0.24, 0.72)]],
    "7": [[(0.16, 0.1), (0.84, 0.07)], [(0.84, 0.07), (0.58, 0.5), (0.44, 0.97)]],
    "8": [
        [
            (0.5, 0.46), (0.31, 0.36), (0.27, 0.2), (0.38, 0.07), (0.5, 0.04), (0.62, 0.07), (0.73, 0.2),
            (0.69, 0.36), (0.5, 0.46), (0.29, 0.6), (0.22, 0.77), (0.33, 0.92), (0.5, 0.96), (0.67, 0.92),
            (0.78, 0.77), (0.71, 0.6), (0.5, 0.46),
        ]
    ],
    "9": [
        [(0.74, 0.26), (0.48, 0.05), (0.24, 0.28), (0.46, 0.48), (0.72, 0.28)],
        [(0.74, 0.2), (0.7, 0.6), (0.56, 0.97)],
    ],
}  # fmt: skip


def smooth(points: Stroke, steps: int = 24) -> Stroke:
    """A Catmull-Rom spline through the points."""
    if len(points) < 3:
        return points
    closed = points[0] == points[-1]
    before = points[-2] if closed else points[0]
    after = points[1] if closed else points[-1]
    knots = np.array([before, *points, after])
    curve: Stroke = []
    for p0, p1, p2, p3 in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        for t in np.linspace(0, 1, steps, endpoint=False):
            value = 0.5 * (
                2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )  # fmt: skip
            curve.append((float(value[0]), float(value[1])))
    return [*curve, points[-1]]


def ink(digit: str, size: tuple[int, int], box: float, thickness: float, hand: random.Random) -> Image.Image:
    """A digit as coverage (0-255) on a picture of ``size``.

    Args:
        digit: which.
        size: width and height in pixels.
        box: height of the digit, in pixels.
        thickness: of the pen, in pixels.
        hand: where the slant, the proportions and the shakes come from.
    """
    scale = max(1, round(600 / max(size)))  # drawn large, then reduced: soft edges
    canvas = Image.new("L", (size[0] * scale, size[1] * scale), 0)
    draw = ImageDraw.Draw(canvas)
    slant, stretch = hand.uniform(-0.05, 0.28), hand.uniform(0.78, 1.0)
    offset_x, offset_y = hand.uniform(-0.03, 0.03), hand.uniform(-0.03, 0.03)

    def place(point: Point) -> Point:
        x, y = point[0] - 0.5, point[1] - 0.5
        x = x * stretch - slant * y
        return (
            (size[0] / 2 + (x + offset_x) * box) * scale,
            (size[1] / 2 + (y + offset_y) * box) * scale,
        )

    radius = thickness * scale / 2
    for stroke in CURVES[digit]:
        shaken = [(x + hand.gauss(0, 0.012), y + hand.gauss(0, 0.012)) for x, y in stroke]
        if stroke[0] == stroke[-1]:
            shaken[-1] = shaken[0]
        path = [place(point) for point in smooth(shaken)]
        draw.line(path, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return canvas.resize(size, Image.Resampling.LANCZOS)


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
