"""Digits as strokes of a pen, drawn by a seeded hand."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

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


class Hand(NamedTuple):
    """How far hands differ; each pair is a range.

    Attributes:
        slant: sideways displacement per unit of height.
        stretch: width, relative to the strokes above.
        offset: largest distance from the middle of the picture, as a share of the digit's height.
        shake: standard deviation of the points, as a share of the digit's height.
    """

    slant: tuple[float, float] = (-0.05, 0.28)
    stretch: tuple[float, float] = (0.78, 1.0)
    offset: float = 0.03
    shake: float = 0.012


USUAL = Hand()


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


def ink(
    digit: str,
    size: tuple[int, int],
    box: float,
    thickness: float,
    dice: random.Random,
    hand: Hand = USUAL,
    *,
    scale: int | None = None,
) -> Image.Image:
    """A digit as coverage (0-255) on a picture of ``size``.

    Args:
        digit: which.
        size: width and height in pixels.
        box: height of the digit, in pixels.
        thickness: of the pen, in pixels.
        dice: where the slant, the proportions and the shakes come from.
        hand: how far they may differ.
        scale: how much larger it is drawn before it is reduced, for soft edges.
    """
    scale = scale or max(1, round(600 / max(size)))
    canvas = Image.new("L", (size[0] * scale, size[1] * scale), 0)
    draw = ImageDraw.Draw(canvas)
    slant, stretch = dice.uniform(*hand.slant), dice.uniform(*hand.stretch)
    offset_x, offset_y = (dice.uniform(-hand.offset, hand.offset) for _ in range(2))

    def place(point: Point) -> Point:
        x, y = point[0] - 0.5, point[1] - 0.5
        x = x * stretch - slant * y
        return (
            (size[0] / 2 + (x + offset_x) * box) * scale,
            (size[1] / 2 + (y + offset_y) * box) * scale,
        )

    radius = thickness * scale / 2
    for stroke in CURVES[digit]:
        shaken = [(x + dice.gauss(0, hand.shake), y + dice.gauss(0, hand.shake)) for x, y in stroke]
        if stroke[0] == stroke[-1]:
            shaken[-1] = shaken[0]
        path = [place(point) for point in smooth(shaken)]
        draw.line(path, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return canvas.resize(size, Image.Resampling.LANCZOS)
