"""Measuring a model: every metric, over all test images and all of their wrong labels.

Effectiveness, composition and reversibility are those of Monteiro et al. 2023, "Measuring
axiomatic soundness of counterfactual image models" (ICLR), section 4, with the mean absolute
difference in grey levels as the distance. Tiles are rounded to whole grey levels before they
are measured, as ``cvae relabel`` writes them.
"""

from __future__ import annotations

import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.engine import datasets, folders, metrics, style
from cvae_cli.engine.datasets import LabelledImages
from cvae_cli.engine.draw import Drawer, image_target
from cvae_cli.engine.judge import Judge, check_fits, judge_of, percent, train_judge
from cvae_cli.errors import DataError, OutputError, UserError
from cvae_cli.images import charts, grid, save
from cvae_cli.model import weights
from cvae_cli.model.spec import ModelSpec
from cvae_cli.outcomes import Evaluation, Figure

CYCLES = 10
_BATCH_TILES = {"compact": 2500, "residual": 2500, "resnet18": 160}
_ROUNDS = 9
"""Sets of tiles, each as many as there are test images, that are compared with the real ones."""
_PROBE_IMAGES = 20_000
_LEAST_TEST = 10
_WORST = 50
_SHEET = 100
PICTURES = ("heat-map.png", "worst.png", "random.png", "style.png")
"""Written to ``--out``."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for.

    Attributes:
        model: a shipped name or a file.
        data: the data set; ``None`` for the one that the model was trained on.
        data_dir: where data sets are.
        judge: a judge's weights file, which is trained and written where it does not exist;
            ``None`` for the one shipped for the data set, else one beside the model's file.
        limit: measure on so many test images, drawn at random, instead of all.
        out: a folder for pictures; ``None`` for none.
        overwrite: replace pictures in it that cvae did not write.
        device: as ``--device``.
        precision: as ``--precision``.
    """

    model: str = "mnist"
    data: str | None = None
    data_dir: Path = Path("data")
    judge: Path | None = None
    limit: int | None = None
    out: Path | None = None
    overwrite: bool = False
    device: str = "auto"
    precision: str = "auto"


def evaluate(options: EvaluateOptions, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure a model on real test images.

    Raises:
        UserError: an unknown model, a judge or a data set that does not fit it.
        DataError: the data set cannot be had.
        OutputError: the pictures cannot be written.
    """
    began = time.monotonic()
    card = weights.read_card(weights.resolve(options.model))
    name = options.data or str(card.raw["data_set"])
    if options.data is None and name not in datasets.NAMES and not Path(name).is_dir():
        raise DataError(
            f"{card.name} was trained on {name!r}, which is not here; name that folder, or another with "
            f"the same classes, with --data ({', '.join(datasets.NAMES)} are known by name)."
        )
    if options.out is not None:
        _check_pictures(options.out, overwrite=options.overwrite)
    test, train = _load(name, options.data_dir, card)
    judge_file = _judge_file(options, card, name)
    if judge_file.exists():
        check_fits(judge_file, card, name)
    else:
        _make_judge(options, judge_file, name, train, test, progress)
    judge = Judge(judge_file, device=options.device)
    test = _limited(test, options.limit)
    drawer = Drawer(
        card.file,
        device=options.device,
        precision=options.precision,
        batch_size=min(batch_size(card.spec), len(test)),
    )
    tiles, figures = measure(drawer, judge, test, train, progress)
    written = _pictures(options, drawer, tiles, test) if options.out else ()
    return Evaluation(
        model=card.name,
        model_sha256=card.sha256,
        data=name,
        images=len(test),
        judge=str(judge.raw["name"]),
        judge_sha256=judge.sha256,
        classes=card.spec.classes,
        figures=figures,
        pairs=tuple(tuple(row) for row in _pairs(tiles, test.labels.numpy()).tolist()),
        device=str(drawer.device),
        precision=drawer.precision,
        seconds=time.monotonic() - began,
        pictures=written,
        ignores_label=drawer.ignores_label,
    )


def measure(
    drawer: Drawer,
    judge: Judge,
    test: LabelledImages,
    train: LabelledImages,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Tiles, tuple[Figure, ...]]:
    """Every metric of a model.

    Args:
        drawer: the model.
        judge: who reads what it draws.
        test: images that neither has seen.
        train: images that both may have seen: for the probe of the code, and to compare with.
        progress: told what is done.

    Returns:
        What is kept of all tiles, and the figures in the order in which they are shown.
    """
    tiles = _draw_all(drawer, judge, test, progress)
    return tiles, tuple(_figures(drawer, judge, tiles, test, train, progress))


def batch_size(spec: ModelSpec) -> int:
    """Images at once, so that their tiles under all labels fit into memory."""
    return max(1, _BATCH_TILES[spec.arch] // spec.num_classes)


def _load(name: str, data_dir: Path, card: weights.ModelCard) -> tuple[LabelledImages, LabelledImages]:
    """Test and training images, as the model takes them."""
    if name in datasets.NAMES:
        test, train = (datasets.load(name, data_dir, train=part) for part in (False, True))
        _check_data(card, test, name)
        return test, train
    files = folders.scan(Path(name))
    _check_classes(card, files.classes, name)
    test, train = (folders.read(files, part, image_target(card.spec))[0] for part in ("test", "train"))
    if len(test) < _LEAST_TEST:
        raise DataError(
            f"{name}: {len(test)} test images that can be read are too few to measure anything; "
            f"at least {_LEAST_TEST} are needed."
        )
    return test, train


def _judge_file(options: EvaluateOptions, card: weights.ModelCard, data: str) -> Path:
    if options.judge is not None:
        if options.judge.suffix != ".safetensors":
            raise UserError(f"--judge {options.judge}: a judge's file ends in .safetensors.")
        return options.judge
    return judge_of(card, data)


def _make_judge(
    options: EvaluateOptions,
    file: Path,
    data: str,
    train: LabelledImages,
    test: LabelledImages,
    progress: Progress,
) -> None:
    command = (
        f"cvae evaluate --model {shlex.quote(options.model)} --data {shlex.quote(data)} "
        f"--judge {shlex.quote(str(file))}"
    )
    try:
        # Before it is trained: that it can be kept.
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
        train_judge(
            train,
            file,
            name=f"{Path(data).resolve().name}-judge",
            data_set=data,
            command=command,
            device=options.device,
            test=test,
            progress=lambda done, total: progress("training a judge", done, total),
        )
    except OSError as error:
        raise OutputError(
            f"{file}: the judge that has to be trained cannot be kept there ({error.strerror or error}); "
            "name another place with --judge FILE.safetensors."
        ) from error


def _check_classes(card: weights.ModelCard, classes: tuple[str, ...], name: str) -> None:
    if classes != card.spec.classes:
        raise UserError(
            f"{card.name} does not fit {name}: it draws other classes ({', '.join(card.spec.classes)}); name "
            "its own data set with --data."
        )


def _check_data(card: weights.ModelCard, data: LabelledImages, name: str) -> None:
    spec = card.spec
    _check_classes(card, data.classes, name)
    if tuple(data.images.shape[1:]) != (spec.channels, spec.image_size, spec.image_size):
        raise UserError(f"{card.name} does not fit {name}: its images have another size or other channels.")


def _limited(test: LabelledImages, limit: int | None) -> LabelledImages:
    if limit is None or limit >= len(test):
        return test
    return test.subset(torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:limit])


@dataclass
class Tiles:
    """What is kept of all tiles, N images times K targets, of which none is held in memory."""

    probabilities: NDArray[np.float32]
    """(N, K): the judge's, that a tile shows its target."""
    read: NDArray[np.int64]
    """(N, K): the class that the judge reads."""
    features: NDArray[np.float32]
    """(N, K, D), the judge's."""
    styles: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By name, (N, K, M)."""
    composition: float = 0.0
    composition_cycles: float = 0.0
    reversibility: float = 0.0


def _draw_all(drawer: Drawer, judge: Judge, test: LabelledImages, progress: Progress) -> Tiles:
    """Draw every image under every label, judge and measure the tiles, and relabel them back."""
    spec, count, classes = drawer.spec, len(test), drawer.spec.num_classes
    shape = (count, classes)
    width = judge.spec.widths[-1]
    found = Tiles(
        np.zeros(shape, np.float32), np.zeros(shape, np.int64), np.zeros((*shape, width), np.float32)
    )
    every = np.arange(classes)
    styles: dict[str, list[NDArray[np.float32]]] = {}
    images, labels = test.images.numpy(), test.labels.numpy()
    progress("drawing and judging", 0, count)
    for start in range(0, count, drawer.batch_size):
        here = slice(start, start + drawer.batch_size)
        x, y = images[here], labels[here]
        rows = np.arange(len(x))
        tiles = drawer.draw(x, y, np.tile(every, (len(x), 1)))  # (n, K, C, H, W)
        flat = tiles.reshape(-1, *tiles.shape[2:])
        verdict = judge.read(flat)
        shares = verdict.probabilities.reshape(len(x), classes, classes)
        found.probabilities[here] = shares[:, every, every]
        found.read[here] = shares.argmax(axis=2)
        found.features[here] = verdict.features.reshape(len(x), classes, -1)
        for name, value in style.measure(flat, spec).items():
            styles.setdefault(name, []).append(value.reshape(len(x), classes, -1))

        own = tiles[rows, y]
        found.composition += _distance(own, x) / count
        for _ in range(CYCLES - 1):
            own = drawer.draw(own, y, y[:, None])[:, 0]
        found.composition_cycles += _distance(own, x) / count
        for offset in range(1, classes):
            target = (y + offset) % classes
            back = drawer.draw(tiles[rows, target], target, y[:, None])[:, 0]
            found.reversibility += _distance(back, x) / count / (classes - 1)
        progress("drawing and judging", start + len(x), count)
    found.styles = {name: np.concatenate(parts) for name, parts in styles.items()}
    return found


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference of grey levels, summed over the images."""
    return float(np.abs(a.astype(np.int16) - b).mean(axis=(1, 2, 3)).sum())


def _figures(
    drawer: Drawer,
    judge: Judge,
    tiles: Tiles,
    test: LabelledImages,
    train: LabelledImages,
    progress: Progress,
) -> Iterator[Figure]:
    spec, labels = drawer.spec, test.labels.numpy()
    classes = spec.num_classes
    real = judge.read(test.images.numpy())
    accuracy = float((real.probabilities.argmax(axis=1) == labels).mean())
    pairs = _pairs(tiles, labels)
    wrong = np.arange(classes) != labels[:, None]
    hit = tiles.read == np.arange(classes)
    lowest = np.unravel_index(np.nanargmin(np.where(np.eye(classes), np.nan, pairs)), pairs.shape)
    yield Figure("judge_accuracy", accuracy)
    copied = {"real images": accuracy, "chance": 1 / classes, "image copied": (1 - accuracy) / (classes - 1)}
    yield Figure("effectiveness", float(hit[wrong].mean()), copied)
    note = f"{spec.classes[lowest[0]]} to {spec.classes[lowest[1]]}"
    yield Figure("effectiveness_lowest_pair", float(pairs[lowest]), note=note)
    yield Figure("composition", tiles.composition, {"image copied": 0.0})
    yield Figure(f"composition_{CYCLES}", tiles.composition_cycles)
    yield Figure("reversibility", tiles.reversibility)
    for name, originals in style.measure(test.images.numpy(), spec).items():
        each = [
            style.kept(originals[labels == source], tiles.styles[name][labels == source, target])
            for source in range(classes)
            for target in range(classes)
            if source != target
        ]
        yield Figure(f"style_{name}", _mean(each), {"one prototype a class": 0.0})
    yield _leakage(drawer, test, train, progress)
    yield from _realism(judge, tiles, torch.from_numpy(real.features), test, train, progress)
    yield from _likelihood(drawer, test)


def _pairs(tiles: Tiles, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K): share of the tiles from a source class that are read as their target."""
    classes = tiles.read.shape[1]
    hit = tiles.read == np.arange(classes)
    nothing = np.full(classes, np.nan)
    return np.stack(
        [hit[labels == y].mean(axis=0) if (labels == y).any() else nothing for y in range(classes)]
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _leakage(drawer: Drawer, test: LabelledImages, train: LabelledImages, progress: Progress) -> Figure:
    """How well a linear probe reads the label from the code, fitted on training images."""
    some = _limited(train, _PROBE_IMAGES)
    progress("leakage", 0, 1)
    codes = [
        torch.from_numpy(drawer.encode(part.images.numpy(), part.labels.numpy())) for part in (some, test)
    ]
    accuracy = metrics.linear_probe(codes[0], some.labels, codes[1], test.labels)
    chance = float(test.labels.bincount().max() / len(test))
    progress("leakage", 1, 1)
    return Figure("leakage", accuracy, {"chance": chance})


def _realism(
    judge: Judge,
    tiles: Tiles,
    real: torch.Tensor,
    test: LabelledImages,
    train: LabelledImages,
    progress: Progress,
) -> Iterator[Figure]:
    """Distributions of tiles and of real images in the judge's features.

    Each round compares as many tiles of every class as there are real test images of it; with
    up to ten classes the rounds together use the tiles about once each. Beside them stand as
    many real training images of every class, which the judge, as it must, has been trained on.
    """
    classes = tiles.features.shape[1]
    labels = test.labels.numpy()
    rounds = min(classes - 1, _ROUNDS)
    distances, covered = [], []
    others = torch.from_numpy(judge.read(_alike(train, test).images.numpy()).features)
    progress("realism", 0, rounds + 1)
    beside = metrics.frechet_distance(others, real)
    between = metrics.precision_recall(others, real)
    for number in range(rounds):
        drawn = torch.from_numpy(_round_of_tiles(tiles.features, labels, number))
        distances.append(metrics.frechet_distance(drawn, real))
        covered.append(metrics.precision_recall(drawn, real))
        progress("realism", number + 1, rounds + 1)
    yield Figure("realism", _mean(distances), {"real training images": beside})
    spread = []
    for target in range(classes):
        drawn = torch.from_numpy(tiles.features[labels != target, target])
        usual = metrics.mean_distance(real[labels == target])
        spread.append(metrics.mean_distance(drawn) / usual if usual > 0 else math.nan)
    yield Figure("diversity", _mean(spread), {"real images": 1.0})
    for index, name in enumerate(("precision", "recall")):
        yield Figure(name, _mean([each[index] for each in covered]), {"real training images": between[index]})
    progress("realism", rounds + 1, rounds + 1)


def _round_of_tiles(
    features: NDArray[np.float32], labels: NDArray[np.int64], number: int
) -> NDArray[np.float32]:
    """Of every class as many tiles as there are real images, others in each round.

    Args:
        features: (N, K, D), of every image drawn as every class.
        labels: (N,), the images' own.
        number: of the round, from 0.

    Returns:
        (M, D), M up to N.
    """
    chosen = []
    for target in range(features.shape[1]):
        others = np.random.default_rng(target).permutation(np.flatnonzero(labels != target))
        wanted = int((labels == target).sum())
        images = others[(number * wanted + np.arange(wanted)) % len(others)] if len(others) else others
        chosen.append(features[images, target])
    return np.concatenate(chosen)


def _alike(train: LabelledImages, test: LabelledImages) -> LabelledImages:
    """As many training images as test images, of the same classes, as far as there are enough."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = [
        order[train.labels[order] == y][:wanted]
        for y, wanted in enumerate(test.labels.bincount(minlength=len(test.classes)).tolist())
    ]
    return train.subset(torch.cat(chosen))


def _likelihood(drawer: Drawer, test: LabelledImages) -> Iterator[Figure]:
    terms = drawer.terms(test.images.numpy(), test.labels.numpy(), seed=0)
    for name in ("elbo", "kl", "recon_loss"):
        yield Figure(name, terms[name])
    yield Figure("bits_per_dimension", -terms["elbo"] / (math.log(2) * test.images[0].numel()))


def _check_pictures(folder: Path, *, overwrite: bool) -> None:
    """Refuse to replace what cvae did not write, before an hour is spent on measuring."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --out takes a folder.")
    for name in PICTURES:
        file = folder / name
        if file.exists() and not overwrite and save.read_provenance(file) is None:
            raise OutputError(f"{file} is there and was not written by cvae; add --overwrite to replace it.")
    save.OutputFolder(folder).create()


def _pictures(
    options: EvaluateOptions, drawer: Drawer, tiles: Tiles, test: LabelledImages
) -> tuple[str, ...]:
    """Write the heat map, the worst tiles, a random sheet and the style scatter."""
    assert options.out is not None
    spec, images, labels = drawer.spec, test.images.numpy(), test.labels.numpy()
    names, layout = spec.classes, grid.Layout(spec.image_size, spec.channels)
    rng = np.random.default_rng(0)
    own = np.arange(spec.num_classes) == labels[:, None]

    def note(image: int, target: int) -> str:
        read, share = tiles.read[image, target], percent(float(tiles.probabilities[image, target]))
        return share if read == target else f"reads {names[read]} ({names[target]}: {share})"

    def pairs(chosen: list[tuple[int, int]]) -> list[charts.Pair]:
        drawn = drawer.draw_each(
            images[[i for i, _ in chosen]],
            labels[[i for i, _ in chosen]],
            np.array([target for _, target in chosen]),
        )
        return [
            charts.Pair(
                images[i],
                tile,
                f"{names[labels[i]]} to {names[target]}",
                note(i, target),
            )
            for (i, target), tile in zip(chosen, drawn, strict=True)
        ]

    order = np.argsort(np.where(own, np.inf, tiles.probabilities), axis=None)[: min(_WORST, (~own).sum())]
    worst = [(int(at // spec.num_classes), int(at % spec.num_classes)) for at in order]
    some = rng.choice(len(labels), min(len(labels), _SHEET), replace=False)
    offsets = rng.integers(1, spec.num_classes, len(labels))
    wrong = (labels + offsets) % spec.num_classes
    model = f"{drawer.card.name} ({drawer.card.sha256[:8]})"
    clouds = []
    for name, originals in style.measure(images, spec).items():
        drawn = tiles.styles[name][np.arange(len(labels)), wrong]
        clouds.append(charts.Cloud(name, originals[:, 0], drawn[:, 0]))
    pictures = (
        charts.heat_map(names, _pairs(tiles, labels), title=f"{model}: % read as the target by the judge"),
        charts.pair_sheet(
            layout, pairs(worst), title=f"{model}: the {len(worst)} tiles with the least of their target"
        ),
        charts.pair_sheet(
            layout,
            pairs([(int(i), int(wrong[i])) for i in some]),
            title=f"{model}: {len(some)} test images, each under one wrong label, all drawn at random",
        ),
        charts.scatter(clouds, across="original", up="relabelled"),
    )
    provenance = {"model": drawer.card.name, "model_sha256": drawer.card.sha256, "evaluate": len(test)}
    written = []
    for name, picture in zip(PICTURES, pictures, strict=True):
        save.write_file(options.out / name, save.encode_png(picture, provenance))
        written.append(str(options.out / name))
    return tuple(written)
