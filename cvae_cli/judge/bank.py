"""A judge's bank of real images: how far a tile lies from those of its target, as real ones go.

A judge says which class a tile shows, and is as sure of a ragged 6 as of a good one. Its features tell
more: the distance to the fifth nearest real image of the target (the measure of Kynkäänniemi et al.
2019, "Improved precision and recall metric for assessing generative models", eq. 1-2, taken within a
class). A second sign is that of :mod:`cvae_cli.judge.blemishes`. Each is taken as a share of real images,
and so are both together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NEIGHBOURS = 5
LEVELS = 1001
"""Quantiles that are kept of real images, evenly spaced from 0 to 1."""
_PER_CLASS, _VALUES = 400, 700_000
"""Images of each class in a bank, at most, and values in all of it: 1.4 MB in half precision."""
_REFERENCES = 2000
"""Real images of each class that the quantiles are taken from, at most."""
_FEW = 100
"""With fewer that could be held out than these, all images of a class are references."""
_NEVER = 60_000.0
"""Stands for the distances of a class without enough images: no tile of it is ever odd."""


class FeatureBank(nn.Module):
    """Features of real images of K classes, and quantiles of how unusual other real images are."""

    features: Tensor
    """(M, D), class after class."""
    distances: Tensor
    """(K, ``LEVELS``), ascending: of real images to their fifth nearest in the bank."""
    blemishes: Tensor
    """(K, ``LEVELS``), ascending: the logits of real images; without the second sign there are none."""
    together: Tensor
    """(K, ``LEVELS``), ascending: what :func:`_combine` makes of both signs of real images; as above."""

    def __init__(self, counts: tuple[int, ...], width: int, *, second_sign: bool) -> None:
        """Make room.

        Args:
            counts: images of each of the K classes.
            width: D, the number of features.
            second_sign: whether there is a network for blemishes.
        """
        super().__init__()
        self.counts, self.second_sign = counts, second_sign
        self.register_buffer("features", torch.zeros(sum(counts), width))
        self.register_buffer("distances", torch.zeros(len(counts), LEVELS))
        if second_sign:
            self.register_buffer("blemishes", torch.zeros(len(counts), LEVELS))
            self.register_buffer("together", torch.zeros(len(counts), LEVELS))

    def realism(
        self, features: NDArray[np.float32], blemishes: NDArray[np.float32], targets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """How usual images are for their class.

        Args:
            features: (N, D), the judge's.
            blemishes: (N,) logits.
            targets: (N,), the classes that the images should show.

        Returns:
            (N,) in [0, 1], rounded to four decimals: about the share of real images of the class that
            are at least as unusual. It does not depend on the other N - 1 images.
        """
        shares = self.shares(features, blemishes, targets)
        found = shares[0]
        if self.second_sign:
            combined = _combine(shares)
            for target in np.unique(targets).tolist():
                here = targets == target
                found[here] = _share_below(combined[here], self.together[target])
        return found.round(4).astype(np.float32)

    def shares(
        self, features: NDArray[np.float32], blemishes: NDArray[np.float32], targets: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """As :meth:`realism`, by each sign alone: (1 or 2, N) in [0, 1]."""
        found = np.ones((1 + self.second_sign, len(features)))
        classes = self.features.split(list(self.counts))
        for target in np.unique(targets).tolist():
            here = np.flatnonzero(targets == target)
            far = distances_to(torch.from_numpy(features[here]), classes[target]).numpy()
            found[0, here] = _share_beyond(far, self.distances[target])
            if self.second_sign:
                found[1, here] = _share_beyond(blemishes[here], self.blemishes[target])
        return found


@dataclass(frozen=True)
class Split:
    """What training images are for: indices of them.

    Attributes:
        bank: for each class, those in the bank, (M_k,) int64.
        references: for each class, those that the quantiles are taken from, (R_k,) int64.
        fit: all that a network may be fitted on, (F,) int64.
    """

    bank: tuple[Tensor, ...]
    references: tuple[Tensor, ...]
    fit: Tensor


def split_images(labels: Tensor, classes: int, width: int, *, seed: int) -> Split:
    """Divide training images, at random.

    A third of each class, but no more than needed, is held out as references. Where that would be very
    few, all images of the class are references, and are then compared with the others only.

    Args:
        labels: (N,) int64.
        classes: K.
        width: D, the number of features.
        seed: of the order.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    most = min(_PER_CLASS, max(4 * NEIGHBOURS, _VALUES // (classes * width)))
    bank, references, fit = [], [], []
    for label in range(classes):
        here = order[labels[order] == label]
        held = min(_REFERENCES, len(here) // 3)
        known, others = (here[held:], here[:held]) if held >= _FEW else (here, here)
        bank.append(known[:most])
        references.append(others[:_REFERENCES])
        fit.append(known)
    return Split(tuple(bank), tuple(references), torch.cat(fit))


def fill_bank(
    split: Split, features: list[Tensor], reference_features: list[Tensor], blemishes: list[Tensor] | None
) -> FeatureBank:
    """The bank of a judge.

    Args:
        split: which images they are, of K classes.
        features: for each class, (M_k, D), of the images in the bank.
        reference_features: for each class, (R_k, D), of the references.
        blemishes: for each class, (R_k,), the references' logits; ``None`` without the second sign.
    """
    counts = tuple(len(each) for each in features)
    bank = FeatureBank(counts, features[0].shape[1], second_sign=blemishes is not None)
    levels = torch.linspace(0, 1, LEVELS)
    for label, (known, others) in enumerate(zip(features, reference_features, strict=True)):
        bank.distances[label] = _NEVER
        if blemishes is not None:
            bank.blemishes[label], bank.together[label] = _NEVER, -_NEVER
        if len(known) < 2:
            continue
        itself = torch.isin(split.references[label], split.bank[label])
        far = torch.where(itself, distances_to(others, known, skip=1), distances_to(others, known))
        bank.distances[label] = far.quantile(levels)
        if blemishes is not None:
            bank.blemishes[label] = blemishes[label].quantile(levels)
            signs = ((far, bank.distances[label]), (blemishes[label], bank.blemishes[label]))
            shares = np.stack([_share_beyond(sign.numpy(), quantiles) for sign, quantiles in signs])
            bank.together[label] = torch.from_numpy(_combine(shares)).float().quantile(levels)
    bank.features.copy_(torch.cat(features))
    return bank


def distances_to(points: Tensor, bank: Tensor, *, skip: int = 0) -> Tensor:
    """Euclidean distance of (N, D) points to their fifth nearest of (M, D), (N,).

    Among fewer the farthest; 0 where there is none. ``skip`` leaves out that many nearest ones.
    """
    neighbour = min(NEIGHBOURS + skip, len(bank))
    if neighbour == 0:
        return torch.zeros(len(points))
    # Not through a product of matrices, whose rounding depends on how many points there are.
    apart = torch.cdist(points, bank, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.kthvalue(neighbour, dim=1).values


def _combine(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number for several signs, the lower the more unusual: the sum of their logarithms.

    Fisher 1932, "Statistical methods for research workers", section 21.1; there its distribution is that
    of independent signs, here it is taken from real images.

    Args:
        shares: (S, N), of real images, by each sign; positive.

    Returns:
        (N,).
    """
    return np.log(shares).sum(axis=0)


def _share_below(values: NDArray[np.float64], quantiles: Tensor) -> NDArray[np.float64]:
    """The share of real images below each of (N,) values, from their (``LEVELS``,) quantiles."""
    return np.interp(values, quantiles.numpy(), np.linspace(0, 1, LEVELS))


def _share_beyond(values: NDArray[np.float32], quantiles: Tensor) -> NDArray[np.float64]:
    """The share of real images at or above each of (N,) values, from their (``LEVELS``,) quantiles.

    Beyond all of them it falls as an exponential tail does that agrees with their last tenth, so that
    what is far beyond in one sign is odd whatever the other says. Never 0.
    """
    table = quantiles.double().numpy()
    least = 0.5 / LEVELS
    inside = (1 - _share_below(values.astype(np.float64), quantiles)).clip(least)
    last, tenth = table[-1], table[-1 - LEVELS // 10]
    scale = max((last - tenth) / np.log(0.1 / least), 1e-6)
    return inside * np.exp(-((values - last) / scale).clip(0, 500))
