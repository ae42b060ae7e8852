"""All test images under all labels: drawn, judged and measured, a batch at a time.

Composition and reversibility are those of Monteiro et al. 2023, "Measuring axiomatic soundness of
counterfactual image models" (ICLR), section 4, with the mean absolute difference in grey levels as the
distance. Tiles are rounded to whole grey levels first, as ``cvae relabel`` writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.data.labelled import LabelledImages
from cvae_cli.evaluation import style
from cvae_cli.evaluation.truth import Likeness, Truth, compare
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.predict import Judge

CYCLES = 10

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and of how much."""


@dataclass
class Tiles:
    """What is kept of all tiles, N images times K targets, without holding any of them in memory."""

    probabilities: NDArray[np.float32]
    """(N, K): the judge's, that a tile shows its target."""
    predicted: NDArray[np.int64]
    """(N, K): the class that the judge predicts."""
    features: NDArray[np.float32]
    """(N, K, D), the judge's."""
    realism: NDArray[np.float32] | None = None
    """(N, K): about the share of real images of the target that are at least as unusual; ``None`` of a
    judge without a bank."""
    styles: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By name, (N, K, M)."""
    composition: float = 0.0
    """Grey levels, after one cycle."""
    composition_cycles: float = 0.0
    """Grey levels, after ``CYCLES`` cycles."""
    reversibility: float = 0.0
    """Grey levels."""
    likeness: Likeness | None = None
    """To their true counterparts, where the test images are paired."""

    def pairs(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """(K, K): share of the tiles of a source class in which the judge recognises the target.

        Args:
            labels: (N,), the images' own.
        """
        classes = self.predicted.shape[1]
        hit = self.predicted == np.arange(classes)
        nothing = np.full(classes, np.nan)
        return np.stack(
            [hit[labels == y].mean(axis=0) if (labels == y).any() else nothing for y in range(classes)]
        )

    def features_of_round(self, labels: NDArray[np.int64], number: int) -> NDArray[np.float32]:
        """Of every class as many tiles as there are real images of it, different ones in each round.

        Args:
            labels: (N,), the images' own.
            number: of the round, from 0.

        Returns:
            (M, D), M up to N.
        """
        chosen = []
        for target in range(self.features.shape[1]):
            others = np.random.default_rng(target).permutation(np.flatnonzero(labels != target))
            wanted = int((labels == target).sum())
            images = others[(number * wanted + np.arange(wanted)) % len(others)] if len(others) else others
            chosen.append(self.features[images, target])
        return np.concatenate(chosen)


def draw_all(
    relabeller: Relabeller,
    judge: Judge,
    test: LabelledImages,
    progress: Progress,
    truth: Truth | None = None,
) -> Tiles:
    """Draw every image under every label, judge and measure the tiles, and relabel them back.

    Args:
        relabeller: the model.
        judge: classifies the tiles.
        test: N images with their labels.
        progress: called after every batch.
        truth: what the tiles are held against, where the test images are paired.
    """
    spec, count, classes = relabeller.spec, len(test), relabeller.spec.num_classes
    shape = (count, classes)
    width = judge.spec.widths[-1]
    found = Tiles(
        np.zeros(shape, np.float32), np.zeros(shape, np.int64), np.zeros((*shape, width), np.float32)
    )
    if judge.has_bank:
        found.realism = np.zeros(shape, np.float32)
    every = np.arange(classes)
    styles: dict[str, list[NDArray[np.float32]]] = {}
    likeness: list[Likeness] = []
    images, labels = test.images.numpy(), test.labels.numpy()
    progress("drawing and judging", 0, count)
    for start in range(0, count, relabeller.batch_size):
        here = slice(start, start + relabeller.batch_size)
        x, y = images[here], labels[here]
        rows = np.arange(len(x))
        tiles = relabeller.draw(x, y, np.tile(every, (len(x), 1)))  # (n, K, C, H, W)
        flat = tiles.reshape(-1, *tiles.shape[2:])
        predictions = judge.predict(flat)
        shares = predictions.probabilities.reshape(len(x), classes, classes)
        found.probabilities[here] = shares[:, every, every]
        found.predicted[here] = shares.argmax(axis=2)
        found.features[here] = predictions.features.reshape(len(x), classes, -1)
        if found.realism is not None:
            found.realism[here] = judge.realism(predictions, np.tile(every, len(x))).reshape(len(x), -1)
        for name, value in style.measure(flat, spec).items():
            styles.setdefault(name, []).append(value.reshape(len(x), classes, -1))
        if truth is not None:
            likeness.append(compare(truth, here, torch.from_numpy(tiles)))

        own = tiles[rows, y]
        found.composition += _sum_of_differences(own, x) / count
        for _ in range(CYCLES - 1):
            own = relabeller.draw(own, y, y[:, None])[:, 0]
        found.composition_cycles += _sum_of_differences(own, x) / count
        for offset in range(1, classes):
            target = (y + offset) % classes
            back = relabeller.draw(tiles[rows, target], target, y[:, None])[:, 0]
            found.reversibility += _sum_of_differences(back, x) / count / (classes - 1)
        progress("drawing and judging", start + len(x), count)
    found.styles = {name: np.concatenate(parts) for name, parts in styles.items()}
    found.likeness = Likeness.join(likeness) if likeness else None
    return found


def _sum_of_differences(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in grey levels of each image, summed over the images."""
    return float(np.abs(a.astype(np.int16) - b).mean(axis=(1, 2, 3)).sum())
