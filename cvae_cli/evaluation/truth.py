"""What tiles should look like, where the test set knows: held against what is really there.

In a paired test set (:mod:`cvae_cli.data.pairs`) the images of one name show the same under every label, so
each tile has a true counterpart. All images are in whole grey levels: their differences add up to whole
numbers, exact in single precision, so that equal images tie whatever the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cvae_cli.data import pairs
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.pairs import Pairing

CANDIDATES = 60
"""True images of a class that a tile is held against, its own counterpart among them: as many whatever the
size of the test set, or ranks could not be compared."""

_SEED = 0
_BATCH_TILES = 2500
_CHUNK = 1000


@dataclass(frozen=True)
class Truth:
    """What the tiles of N images, all test images or a sample, are held against.

    Attributes:
        images: (M, C, H, W) uint8, all test images.
        counterparts: (N, K) int64: which of ``images`` shows an image under each other label; -1 where there
            is none, and under its own label.
        candidates: for each class which of ``images`` of it tiles are ranked among, up to ``CANDIDATES``,
            (P,) int64; the same names in every class that has them.
    """

    images: Tensor
    counterparts: Tensor
    candidates: tuple[Tensor, ...]


@dataclass(frozen=True)
class Likeness:
    """How like their true counterparts the tiles of N images under K labels are.

    Attributes:
        errors: (N, K) float32, mean absolute difference to the counterpart, in grey levels; nan where there
            is none.
        ranks: (N, K) int64, how many of the other candidates are strictly nearer; -1 where there is none.
    """

    errors: Tensor
    ranks: Tensor

    @property
    def error(self) -> float:
        """Mean over all tiles with a counterpart, in grey levels; nan if there are none."""
        return float(self.errors.double().nanmean())

    def share_within(self, count: int) -> float:
        """Share of the tiles whose own counterpart is among the ``count`` nearest; nan if there are none."""
        known = self.ranks[self.ranks >= 0]
        return float((known < count).double().mean()) if len(known) else math.nan

    @staticmethod
    def join(parts: list[Likeness]) -> Likeness:
        """The batches of a set of images as one."""
        return Likeness(torch.cat([part.errors for part in parts]), torch.cat([part.ranks for part in parts]))


def examine(test: LabelledImages, train: LabelledImages) -> Pairing | None:
    """What the names of the test images say of pairs, and whether it is believed.

    Training images, of which there are more, decide; unless their names match nothing.

    Returns:
        ``None`` where the names of the test images match nothing.
    """
    found = pairs.examine(test)
    more = pairs.examine(train) if found is not None else None
    if found is None or more is None:
        return found
    return replace(found, nearer=more.nearer, believed=more.believed)


def make_truth(test: LabelledImages, drawn: Tensor) -> Truth:
    """What the tiles of some test images are held against.

    Args:
        test: all M test images, with counterparts.
        drawn: (N,) int64, which of them are drawn.
    """
    if test.counterparts is None:
        raise ValueError("the test images are not paired")
    counterparts = test.counterparts[drawn]
    counterparts[torch.arange(len(drawn)), test.labels[drawn]] = -1
    name = test.counterparts.masked_fill(test.counterparts < 0, len(test)).amin(dim=1)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(_SEED))[name]
    candidates = []
    for target in range(len(test.classes)):
        of_class = (test.labels == target).nonzero()[:, 0]
        candidates.append(of_class[order[of_class].argsort()][:CANDIDATES])
    return Truth(test.images, counterparts, tuple(candidates))


def compare(truth: Truth, rows: slice | Tensor, tiles: Tensor) -> Likeness:
    """Hold tiles against their true counterparts and the other candidates.

    Args:
        truth: of N images.
        rows: which of them the tiles are of; n.
        tiles: (n, K, C, H, W) uint8.

    Returns:
        Of n images.
    """
    counterparts = truth.counterparts[rows]
    errors = torch.full(counterparts.shape, math.nan)
    ranks = torch.full(counterparts.shape, -1)
    for target, candidates in enumerate(truth.candidates):
        known = (counterparts[:, target] >= 0).nonzero()[:, 0]
        if not len(known):
            continue
        own = counterparts[known, target]
        drawn = _flat(tiles[known, target])
        to_own = (drawn - _flat(truth.images[own])).abs().sum(dim=1)
        nearer = torch.cdist(drawn, _flat(truth.images[candidates]), p=1) < to_own[:, None]
        other = candidates != own[:, None]
        # Where the own counterpart is not among the candidates, it takes the place of the last.
        other[other.all(dim=1), -1] = False
        errors[known, target] = to_own / drawn.shape[1]
        ranks[known, target] = (nearer & other).sum(dim=1)
    return Likeness(errors, ranks)


def measure_references(
    truth: Truth,
    test: LabelledImages,
    train: LabelledImages,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Likeness]:
    """How like the truth answers are that need no model.

    Args:
        truth: of the test images.
        test: the N images that are drawn.
        train: the images to answer with.
        tell: called as the work goes on, with how much of it is done, and of how much.

    Returns:
        By name: the counterpart of the nearest training image, where training images are paired; the mean
        of the target class; a random image of the target class.
    """
    counts = train.labels.bincount(minlength=len(train.classes))
    mean_of = torch.arange(len(counts)).masked_fill(counts == 0, -1)
    tell(0, 3)
    answers = {}
    if train.counterparts is not None:
        answers["nearest training image"] = (train.images, find_nearest(test, train))
    tell(1, 3)
    answers["class mean"] = (class_means(train), mean_of.expand(len(test), -1))
    answers["random"] = (train.images, _at_random(len(test), train))
    tell(2, 3)
    found = {name: _compare_answers(truth, *answer) for name, answer in answers.items()}
    tell(3, 3)
    return found


def find_nearest(test: LabelledImages, train: LabelledImages) -> Tensor:
    """The answer of a lookup: the counterpart of the nearest training image of the same class.

    Nearest by mean absolute difference, among those that have a counterpart in the target class.

    Args:
        test: N images.
        train: images with counterparts.

    Returns:
        (N, K) int64, indices of training images; -1 where there is none.
    """
    if train.counterparts is None:
        raise ValueError("the training images are not paired")
    found = torch.full((len(test), len(test.classes)), -1)
    for label in test.labels.unique().tolist():
        of_class = (train.labels == label).nonzero()[:, 0]
        if not len(of_class):
            continue
        for rows in (test.labels == label).nonzero()[:, 0].split(_CHUNK):
            images = _flat(test.images[rows])
            least = torch.full((len(rows), found.shape[1]), math.inf)
            for part in of_class.split(_CHUNK):
                distances = torch.cdist(images, _flat(train.images[part]), p=1)  # (n, m)
                for target, answers in enumerate(train.counterparts[part].unbind(dim=1)):
                    distance, at = distances.masked_fill(answers < 0, math.inf).min(dim=1)
                    nearer = distance < least[:, target]
                    found[rows[nearer], target] = answers[at[nearer]]
                    least[nearer, target] = distance[nearer]
    return found


def class_means(train: LabelledImages) -> Tensor:
    """The mean image of each class, in whole grey levels; (K, C, H, W) uint8."""
    means = []
    for target in range(len(train.classes)):
        images = train.images[train.labels == target]
        means.append(images.sum(dim=0, dtype=torch.int64).double() / max(1, len(images)))
    return torch.stack(means).round().to(torch.uint8)


def _at_random(count: int, train: LabelledImages) -> Tensor:
    """For each of N images a random training image of each class, always the same ones; (N, K) int64."""
    dice = torch.Generator().manual_seed(_SEED)
    columns = []
    for target in range(len(train.classes)):
        of_class = (train.labels == target).nonzero()[:, 0]
        pick = torch.randint(max(1, len(of_class)), (count,), generator=dice)
        columns.append(of_class[pick] if len(of_class) else torch.full_like(pick, -1))
    return torch.stack(columns, dim=1)


def _compare_answers(truth: Truth, images: Tensor, answers: Tensor) -> Likeness:
    """How like the truth given images are.

    Args:
        truth: of N images.
        images: (B, C, H, W) uint8.
        answers: (N, K) int64, which of ``images`` stands for each tile; -1 where none does, which is then
            left out.
    """
    truth = replace(truth, counterparts=truth.counterparts.masked_fill(answers < 0, -1))
    rows = torch.arange(len(answers)).split(max(1, _BATCH_TILES // answers.shape[1]))
    return Likeness.join([compare(truth, part, images[answers[part]]) for part in rows])


def _flat(images: Tensor) -> Tensor:
    """Images as rows of numbers; (N, C * H * W) float32."""
    return images.flatten(1).float()
