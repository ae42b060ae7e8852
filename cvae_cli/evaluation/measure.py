"""Which metrics there are, and how each is measured from the tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from cvae_cli.data.labelled import LabelledImages
from cvae_cli.evaluation import metrics, style
from cvae_cli.evaluation.report import Better, Metric, Unit
from cvae_cli.evaluation.tiles import CYCLES, Progress, Tiles, draw_all
from cvae_cli.evaluation.truth import Truth, measure_references
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.marks import ODD
from cvae_cli.judge.predict import Judge, Predictions

_ROUNDS = 9
"""Sets of tiles, each as many as there are test images, that are compared with the real ones."""
_PROBE_IMAGES = 20_000
"""Training images that the probe for leakage is fitted on, at most."""


def measure(
    relabeller: Relabeller,
    judge: Judge,
    test: LabelledImages,
    train: LabelledImages,
    progress: Progress = lambda step, done, total: None,
    truth: Truth | None = None,
) -> tuple[Tiles, tuple[Metric, ...]]:
    """Every metric of a model.

    Args:
        relabeller: the model.
        judge: classifies what it draws.
        test: images that neither has seen.
        train: images that both may have seen: to fit the probe for leakage, and as a reference.
        progress: called as the work goes on.
        truth: what tiles of the test images are held against, where those are paired.

    Returns:
        What is kept of all tiles, and the metrics in the order in which they are shown.
    """
    tiles = draw_all(relabeller, judge, test, progress, truth)
    real = judge.predict(test.images.numpy())
    found = [
        *_obedience(tiles, real, test),
        *_preservation(relabeller, tiles, test),
        *_truth(tiles, truth, test, train, progress),
        _leakage(relabeller, test, train, progress),
        _odd_tiles(judge, tiles, real, test),
        *_realism(judge, tiles, torch.from_numpy(real.features), test, train, progress),
        *_likelihood(relabeller, test),
    ]
    return tiles, tuple(found)


def sample(data: LabelledImages, limit: int | None) -> LabelledImages:
    """All images, or a random sample of them, always the same one."""
    if limit is None or limit >= len(data):
        return data
    return data.subset(sampled(len(data), limit))


def sampled(count: int, limit: int | None) -> torch.Tensor:
    """Which of ``count`` images :func:`sample` takes; (N,) int64."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]


def _obedience(tiles: Tiles, real: Predictions, test: LabelledImages) -> Iterator[Metric]:
    """Whether the label decides what is drawn."""
    labels, classes = test.labels.numpy(), tiles.predicted.shape[1]
    accuracy = float((real.probabilities.argmax(axis=1) == labels).mean())
    wrong = np.arange(classes) != labels[:, None]
    hit = tiles.predicted == np.arange(classes)
    pairs = tiles.pairs(labels)
    lowest = np.unravel_index(np.nanargmin(np.where(np.eye(classes), np.nan, pairs)), pairs.shape)
    yield Metric("judge_accuracy", accuracy, "judge's accuracy", Unit.SHARE, is_key=True)
    yield Metric(
        "effectiveness",
        float(hit[wrong].mean()),
        "effectiveness",
        Unit.SHARE,
        Better.HIGHER,
        {"real images": accuracy, "chance": 1 / classes, "image copied": (1 - accuracy) / (classes - 1)},
        is_key=True,
    )
    yield Metric(
        "effectiveness_lowest_pair",
        float(pairs[lowest]),
        "  its lowest pair",
        Unit.SHARE,
        note=f"{test.classes[lowest[0]]} to {test.classes[lowest[1]]}",
        is_key=True,
    )


def _preservation(relabeller: Relabeller, tiles: Tiles, test: LabelledImages) -> Iterator[Metric]:
    """Whether everything but the label stays."""
    labels, classes = test.labels.numpy(), tiles.predicted.shape[1]
    grey, lower = Unit.GREY_LEVELS, Better.LOWER
    yield Metric("composition", tiles.composition, "composition, 1 cycle", grey, lower, {"image copied": 0.0})
    yield Metric(f"composition_{CYCLES}", tiles.composition_cycles, f"composition, {CYCLES} cycles", grey)
    yield Metric("reversibility", tiles.reversibility, "reversibility", grey, lower)
    for name, originals in style.measure(test.images.numpy(), relabeller.spec).items():
        correlations = [
            style.correlation(originals[labels == source], tiles.styles[name][labels == source, target])
            for source in range(classes)
            for target in range(classes)
            if source != target
        ]
        yield Metric(
            f"style_{name}",
            _mean(correlations),
            f"style kept, r of {name}",
            references={"one prototype per class": 0.0},
            is_key=True,
        )


def _truth(
    tiles: Tiles, truth: Truth | None, test: LabelledImages, train: LabelledImages, progress: Progress
) -> Iterator[Metric]:
    """How like what is really there the tiles are."""
    if truth is None or tiles.likeness is None:
        return
    found = tiles.likeness
    beside = measure_references(truth, test, train, lambda done, total: progress("truth", done, total))
    sizes = [len(candidates) for candidates in truth.candidates if len(candidates)]
    among = f"{max(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    yield Metric(
        "truth_error",
        found.error,
        "error to the truth",
        Unit.GREY_LEVELS,
        Better.LOWER,
        {name: each.error for name, each in beside.items()},
        is_key=True,
    )
    for count, title in ((1, f"truth nearest of {among}"), (5, f"truth in the first five of {among}")):
        yield Metric(
            f"truth_rank_{count}",
            found.share_within(count),
            title,
            Unit.SHARE,
            Better.HIGHER,
            {name: each.share_within(count) for name, each in beside.items()},
            is_key=True,
        )


def _leakage(
    relabeller: Relabeller, test: LabelledImages, train: LabelledImages, progress: Progress
) -> Metric:
    """How well a linear probe, fitted on training images, predicts the label from the latent."""
    fitted = sample(train, _PROBE_IMAGES)
    progress("leakage", 0, 1)
    latents, test_latents = (
        torch.from_numpy(relabeller.encode(part.images.numpy(), part.labels.numpy()))
        for part in (fitted, test)
    )
    accuracy = metrics.linear_probe(latents, fitted.labels, test_latents, test.labels)
    chance = float(test.labels.bincount().max() / len(test))
    progress("leakage", 1, 1)
    return Metric("leakage", accuracy, "leakage", Unit.SHARE, Better.LOWER, {"chance": chance})


def _odd_tiles(judge: Judge, tiles: Tiles, real: Predictions, test: LabelledImages) -> Metric:
    """How many tiles are marked as odd: beyond the 99th percentile of real training images."""
    name, title = "odd_tiles", "odd tiles"
    if tiles.realism is None:
        return Metric(name, math.nan, title, Unit.SHARE, Better.LOWER, note="the judge has no bank")
    labels = test.labels.numpy()
    wrong = np.arange(tiles.realism.shape[1]) != labels[:, None]
    usual = float((judge.realism(real, labels) < ODD).mean())
    share = float((tiles.realism[wrong] < ODD).mean())
    return Metric(name, share, title, Unit.SHARE, Better.LOWER, {"real test images": usual})


def _realism(
    judge: Judge,
    tiles: Tiles,
    real: torch.Tensor,
    test: LabelledImages,
    train: LabelledImages,
    progress: Progress,
) -> Iterator[Metric]:
    """Distributions of tiles and of real images in the judge's features.

    Each round compares as many tiles of every class as there are real test images of it; with up to
    ten classes the rounds together use each tile about once. The references are as many real training
    images of every class, which the judge, inevitably, has been trained on.
    """
    labels, classes = test.labels.numpy(), tiles.features.shape[1]
    rounds = min(classes - 1, _ROUNDS)
    distances, coverage = [], []
    progress("realism", 0, rounds + 1)
    others = torch.from_numpy(judge.predict(_matching(train, test).images.numpy()).features)
    real_distance = metrics.frechet_distance(others, real)
    real_coverage = metrics.precision_recall(others, real)
    for number in range(rounds):
        drawn = torch.from_numpy(tiles.features_of_round(labels, number))
        distances.append(metrics.frechet_distance(drawn, real))
        coverage.append(metrics.precision_recall(drawn, real))
        progress("realism", number + 1, rounds + 1)
    yield Metric(
        "realism",
        _mean(distances),
        "realism (Frechet distance)",
        better=Better.LOWER,
        references={"real training images": real_distance},
        is_key=True,
    )
    spread = []
    for target in range(classes):
        drawn = torch.from_numpy(tiles.features[labels != target, target])
        usual = metrics.mean_distance(real[labels == target])
        spread.append(metrics.mean_distance(drawn) / usual if usual > 0 else math.nan)
    yield Metric(
        "diversity", _mean(spread), "diversity, 1 is real", references={"real images": 1.0}, is_key=True
    )
    for index, name in enumerate(("precision", "recall")):
        yield Metric(
            name,
            _mean([each[index] for each in coverage]),
            name,
            Unit.SHARE,
            Better.HIGHER,
            {"real training images": real_coverage[index]},
        )
    progress("realism", rounds + 1, rounds + 1)


def _likelihood(relabeller: Relabeller, test: LabelledImages) -> Iterator[Metric]:
    terms = relabeller.terms(test.images.numpy(), test.labels.numpy(), seed=0)
    for name in ("elbo", "kl", "recon_loss"):
        yield Metric(name, terms[name], name, Unit.NATS)
    bits = -terms["elbo"] / (math.log(2) * test.images[0].numel())
    yield Metric("bits_per_dimension", bits, "bits per dimension")


def _matching(train: LabelledImages, test: LabelledImages) -> LabelledImages:
    """As many training images of each class as there are test images, if there are enough."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = [
        order[train.labels[order] == y][:wanted]
        for y, wanted in enumerate(test.labels.bincount(minlength=len(test.classes)).tolist())
    ]
    return train.subset(torch.cat(chosen))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
