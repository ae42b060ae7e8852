"""What an evaluation shows: the pairs as a heat map, the worst and random tiles, the style."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvae_cli import storage
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.errors import OutputError
from cvae_cli.evaluation import style
from cvae_cli.evaluation.tiles import Tiles
from cvae_cli.images.charts import Cloud, Pair, heat_map, pair_sheet, scatter
from cvae_cli.images.grid import Layout
from cvae_cli.images.output import OutputFolder, check_not_foreign, is_foreign
from cvae_cli.images.png import encode_png
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.marks import percent

PICTURES = ("heat-map.png", "worst.png", "median.png", "random.png", "style.png")
"""What is written to ``--out``."""
_WORST = 50
_RANDOM = 100
_MEDIANS = 5
"""Tiles of each class, of which the middle one is the median."""
_MOST_MEDIANS = 100


def check_pictures(folder: Path, *, overwrite: bool, images: Callable[[], Iterable[Path]]) -> None:
    """Refuse to replace what cvae did not write, before an hour is spent on measuring.

    Args:
        folder: where the pictures go.
        overwrite: whether files that cvae did not write may be replaced.
        images: the files of the data set, which are never replaced; only asked for if need be.

    Raises:
        OutputError: the folder is a file, cannot be written, or holds such a file.
    """
    if storage.is_file(folder):
        raise OutputError(f"{folder} is a file; --out takes a folder.")
    for name in PICTURES:
        file = folder / name
        check_not_foreign(file, overwrite=overwrite)
        if is_foreign(file) and any(storage.is_same_file(file, image) for image in images()):
            raise OutputError(f"{file} is one of the images of the data set; choose another --out.")
    OutputFolder(folder).create()


def write_pictures(
    folder: Path, relabeller: Relabeller, tiles: Tiles, test: LabelledImages
) -> tuple[str, ...]:
    """Write the heat map, the worst tiles, a sheet of random tiles and the style scatter plot.

    Args:
        folder: where they go.
        relabeller: the model; it draws the tiles that are shown again.
        tiles: what was measured.
        test: the images that the tiles were drawn from.

    Returns:
        The files written.
    """
    spec, labels = relabeller.spec, test.labels.numpy()
    rng = np.random.default_rng(0)
    own = np.arange(spec.num_classes) == labels[:, None]
    order = np.argsort(np.where(own, np.inf, tiles.probabilities), axis=None)[: min(_WORST, (~own).sum())]
    worst = [(int(at // spec.num_classes), int(at % spec.num_classes)) for at in order]
    medians = _medians(tiles, ~own)
    some = rng.choice(len(labels), min(len(labels), _RANDOM), replace=False)
    wrong = (labels + rng.integers(1, spec.num_classes, len(labels))) % spec.num_classes
    model = f"{relabeller.card.name} ({relabeller.card.sha256[:8]})"
    layout = Layout(spec.image_size, spec.channels)
    clouds = [
        Cloud(name, originals[:, 0], tiles.styles[name][np.arange(len(labels)), wrong][:, 0])
        for name, originals in style.measure(test.images.numpy(), spec).items()
    ]
    pictures = (
        heat_map(
            spec.classes,
            tiles.pairs(labels),
            title=f"{model}: % of tiles in which the judge recognises the target",
        ),
        pair_sheet(
            layout,
            _pairs(relabeller, tiles, test, worst),
            title=f"{model}: the {len(worst)} tiles whose target the judge finds least probable",
        ),
        pair_sheet(
            layout,
            _pairs(relabeller, tiles, test, medians),
            title=f"{model}: of each class the tiles that the judge finds of medium realism",
        ),
        pair_sheet(
            layout,
            _pairs(relabeller, tiles, test, [(int(i), int(wrong[i])) for i in some]),
            title=f"{model}: {len(some)} test images, each under one wrong label, both chosen at random",
        ),
        scatter(clouds, across="original", up="relabelled"),
    )
    provenance = {
        "model": relabeller.card.name,
        "model_sha256": relabeller.card.sha256,
        "evaluate": len(test),
    }
    written = []
    for name, picture in zip(PICTURES, pictures, strict=True):
        storage.write_file(folder / name, encode_png(picture, provenance))
        written.append(str(folder / name))
    return tuple(written)


def _medians(tiles: Tiles, drawn: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Of each target the tiles in the middle, by realism, or by probability without a bank of real images."""
    scores = tiles.probabilities if tiles.realism is None else tiles.realism
    chosen = []
    for target in range(drawn.shape[1]):
        (images,) = np.nonzero(drawn[:, target])
        order = images[np.argsort(scores[images, target], kind="stable")]
        first = max(0, (len(order) - _MEDIANS) // 2)
        chosen += [(int(image), target) for image in order[first : first + _MEDIANS]]
    return chosen[:_MOST_MEDIANS]


def _pairs(
    relabeller: Relabeller, tiles: Tiles, test: LabelledImages, chosen: Sequence[tuple[int, int]]
) -> list[Pair]:
    """Images beside their tile of a target, drawn again; ``chosen`` are indices of both."""
    images, labels, names = test.images.numpy(), test.labels.numpy(), relabeller.spec.classes
    numbers, targets = [i for i, _ in chosen], np.array([target for _, target in chosen])
    drawn = relabeller.draw_each(images[numbers], labels[numbers], targets)

    def note(image: int, target: int) -> str:
        predicted, share = tiles.predicted[image, target], percent(float(tiles.probabilities[image, target]))
        return share if predicted == target else f"reads {names[predicted]} ({names[target]}: {share})"

    return [
        Pair(images[i], tile, f"{names[labels[i]]} to {names[target]}", note(i, target))
        for (i, target), tile in zip(chosen, drawn, strict=True)
    ]
