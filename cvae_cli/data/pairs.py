"""Pairs: images of one thing under several labels, told by the same file name in several class folders.

A typeface's letters, a place in summer and winter, a slide under two stains. What a relabelled image should
look like is then known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cvae_cli.data.labelled import LabelledImages

_LEAST_SHARE = 0.5
"""Share of the images that must have a counterpart, or the names are taken for chance."""
_LEAST_NEARER = 0.6
_STANDARD_ERRORS = 3.0
_MOST_TRIALS = 4000
_LOOK_SIDE = 8
_SEED = 0


@dataclass(frozen=True)
class Pairing:
    """What the file names of a data set say of pairs.

    Attributes:
        images: how many images have a counterpart in another class.
        names: how many file names they share.
        nearer: how often a counterpart is more like the image than another image of its class is, from 0
            to 1; by chance a half.
        believed: whether that is too often for chance. Files that are numbered in every folder share names
            too.
        used: whether training uses them.
    """

    images: int
    names: int
    nearer: float
    believed: bool
    used: bool = False


def find_counterparts(names: Sequence[str], labels: Tensor, num_classes: int) -> Tensor | None:
    """Which image has the same name in which other class.

    A name that occurs twice within a class has no counterparts.

    Args:
        names: N names, without suffix.
        labels: (N,) int64.
        num_classes: K.

    Returns:
        (N, K) int64: for each image the index of its counterpart in each class, itself in its own, -1 where
        there is none; ``None`` where less than half of the images have any.
    """
    by_name: defaultdict[str, dict[int, int]] = defaultdict(dict)
    repeated: set[str] = set()
    for index, (name, label) in enumerate(zip(names, labels.tolist(), strict=True)):
        if by_name[name].setdefault(label, index) != index:
            repeated.add(name)
    counterparts = torch.full((len(names), num_classes), -1, dtype=torch.int64)
    counterparts[torch.arange(len(names)), labels] = torch.arange(len(names))
    paired = 0
    for name, indices in by_name.items():
        if len(indices) < 2 or name in repeated:
            continue
        paired += len(indices)
        for index in indices.values():
            counterparts[index, list(indices)] = torch.tensor(list(indices.values()))
    return counterparts if paired and paired >= _LEAST_SHARE * len(names) else None


def examine(data: LabelledImages) -> Pairing | None:
    """Whether images of the same name belong together, which the images themselves must show.

    Each of some images is compared, in small and relative to the mean of each class, with its counterpart in
    another class and with another image of that class.

    Returns:
        ``None`` where there are no counterparts.
    """
    if data.counterparts is None:
        return None
    has_other = (data.counterparts >= 0).sum(dim=1) > 1
    groups = data.counterparts[has_other].masked_fill(data.counterparts[has_other] < 0, len(data)).amin(dim=1)
    nearer = _share_nearer(data, data.counterparts, has_other.nonzero()[:, 0])
    trials = min(_MOST_TRIALS, int(has_other.sum()))
    chance = 0.5 + _STANDARD_ERRORS * 0.5 / math.sqrt(max(1, trials))
    return Pairing(
        images=int(has_other.sum()),
        names=len(groups.unique()),
        nearer=nearer,
        believed=nearer >= max(_LEAST_NEARER, chance),
    )


class WithCounterparts:
    """Training images, each with its counterpart under another label, drawn anew every time."""

    def __init__(self, data: LabelledImages) -> None:
        """Take images whose ``counterparts`` are known."""
        self.data = data

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """As :meth:`__getitems__`, of one image."""
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """A batch of images.

        Returns:
            The images (B, C, H, W) uint8 and their labels (B,) int64; their counterparts, the labels of
            these, and whether there is one, (B,) bool. Where there is none the image stands in for it.
        """
        data = self.data
        assert data.counterparts is not None
        others = data.counterparts[indices].clone()
        rows, labels = torch.arange(len(indices)), data.labels[indices]
        others[rows, labels] = -1
        known = (others >= 0).any(dim=1)
        weights = (others >= 0).float()
        weights[rows[~known], labels[~known]] = 1.0
        pick = torch.multinomial(weights, 1)[:, 0]
        counterpart = torch.where(known, others[rows, pick], torch.tensor(indices))
        return data.images[indices], labels, data.images[counterpart], pick, known


def _share_nearer(data: LabelledImages, counterparts: Tensor, paired: Tensor) -> float:
    """How often a counterpart is nearer than another image of its class."""
    dice = torch.Generator().manual_seed(_SEED)
    chosen = paired[torch.randperm(len(paired), generator=dice)[:_MOST_TRIALS]]
    # One of its counterparts, at random.
    others = counterparts[chosen].clone()
    others[torch.arange(len(chosen)), data.labels[chosen]] = -1
    pick = torch.multinomial((others >= 0).float(), 1, generator=dice)[:, 0]
    counterpart = others[torch.arange(len(chosen)), pick]
    stranger = torch.empty_like(counterpart)
    for label in pick.unique().tolist():
        of_class = (data.labels == label).nonzero()[:, 0]
        rows = (pick == label).nonzero()[:, 0]
        stranger[rows] = of_class[torch.randint(len(of_class), (len(rows),), generator=dice)]
    look = _look(data)
    to_counterpart = (look[chosen] - look[counterpart]).square().sum(dim=1)
    to_stranger = (look[chosen] - look[stranger]).square().sum(dim=1)
    differ = counterpart != stranger
    if not differ.any():
        return 0.5
    return float((to_counterpart < to_stranger)[differ].float().mean())


def _look(data: LabelledImages) -> Tensor:
    """Each image in small, in standard deviations from the mean of its class; (N, D) float32."""
    parts = [
        F.adaptive_avg_pool2d(part.float() / 255.0, _LOOK_SIDE).flatten(1) for part in data.images.split(1000)
    ]
    look = torch.cat(parts)
    for label in data.labels.unique().tolist():
        of_class = data.labels == label
        look[of_class] -= look[of_class].mean(dim=0)
        look[of_class] /= look[of_class].square().mean().sqrt().clamp(min=1e-6)
    return look
