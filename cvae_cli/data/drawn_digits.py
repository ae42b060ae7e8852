"""Digits drawn by a program, in hands that differ more than those of a data set.

A model that has only ever seen scanned handwriting draws ragged tiles for an even stroke from a drawing
program. What is drawn has a known label, so it can be trained on.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from cvae_cli.data.catalogue import CLASSES
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.images import pen

_SIDE = 28
_BOX = (17.0, 21.0)
"""Height of a digit in pixels; those of MNIST are 20 (LeCun et al. 1998)."""
_THICKNESS = (1.4, 4.2)
_SCALE = 8


def draw_digits(count: int, seed: int) -> LabelledImages:
    """Light strokes on black, as MNIST's are; all digits equally often, in random order.

    Args:
        count: how many.
        seed: of the hands; the same seed draws the same images.

    Returns:
        Images (count, 1, 28, 28) uint8.
    """
    dice = random.Random(seed)
    labels = [number % 10 for number in range(count)]
    dice.shuffle(labels)
    images = np.zeros((count, 1, _SIDE, _SIDE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        hand = pen.Hand(slant=(-0.15, 0.4), stretch=(0.6, 1.1), offset=0.05, shake=dice.uniform(0.004, 0.03))
        box, thickness = dice.uniform(*_BOX), dice.uniform(*_THICKNESS)
        image[0] = np.asarray(pen.ink(str(label), (_SIDE, _SIDE), box, thickness, dice, hand, scale=_SCALE))
    return LabelledImages(torch.from_numpy(images), torch.tensor(labels), CLASSES["mnist"])
