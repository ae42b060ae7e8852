"""Measuring a model on all test images and all of their wrong labels."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cvae_cli import storage
from cvae_cli.data import datasets, folders
from cvae_cli.data.catalogue import NAMES
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.pairs import Pairing
from cvae_cli.errors import DataError, OutputError, UserError
from cvae_cli.evaluation.measure import measure, sample, sampled
from cvae_cli.evaluation.pictures import check_pictures, write_pictures
from cvae_cli.evaluation.report import Evaluation
from cvae_cli.evaluation.style import check_available
from cvae_cli.evaluation.tiles import Progress
from cvae_cli.evaluation.truth import examine, make_truth
from cvae_cli.images.discover import discover
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.files import check_fits, judge_of
from cvae_cli.judge.predict import Judge
from cvae_cli.judge.train import train_judge
from cvae_cli.model import registry
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.registry import ModelCard
from cvae_cli.model.spec import ModelSpec
from cvae_cli.storage import Location

_BATCH_TILES = {"compact": 2500, "residual": 2500, "resnet18": 160}
_MIN_TEST_IMAGES = 10


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for.

    Attributes:
        model: a shipped name or a file.
        data: the data set; ``None`` for the one that the model was trained on.
        data_dir: where data sets are.
        judge: a judge's weights file, which is trained and written if it does not exist; ``None`` for
            the one shipped for the data set, else one beside the model's file.
        limit: number of test images, drawn at random; ``None`` for all.
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


def evaluate(
    options: EvaluateOptions,
    progress: Progress = lambda step, done, total: None,
    found_pairs: Callable[[Pairing], None] = lambda pairing: None,
) -> Evaluation:
    """Measure a model on real test images.

    Args:
        options: what the user asked for.
        progress: called as the work goes on.
        found_pairs: called before anything is drawn, if test images of different classes share names.

    Raises:
        UserError: an unknown model, a judge or a data set that does not fit it, or a missing extra.
        DataError: the data set cannot be loaded.
        OutputError: the pictures or the judge cannot be written.
    """
    began = time.monotonic()
    card = registry.read_card(registry.resolve(options.model))
    check_available(card.spec)
    name = _data_set(options, card)
    if options.out is not None:
        check_pictures(
            options.out, overwrite=options.overwrite, images=lambda: _image_files(name, options.data_dir)
        )
    test, train = _load(name, options.data_dir, card)
    judge = Judge(_judge_file(options, card, name, train, test, progress), device=options.device)
    pairing = examine(test, train)
    if pairing is not None:
        found_pairs(pairing)
    # Of all test images, however few are drawn.
    is_paired = pairing is not None and pairing.believed
    truth = make_truth(test, sampled(len(test), options.limit)) if is_paired else None
    test = sample(test, options.limit)
    relabeller = Relabeller(
        card.file,
        device=options.device,
        precision=options.precision,
        batch_size=min(batch_size(card.spec), len(test)),
    )
    tiles, metrics = measure(relabeller, judge, test, train, progress, truth)
    pictures = () if options.out is None else write_pictures(options.out, relabeller, tiles, test)
    return Evaluation(
        model=card.name,
        model_sha256=card.sha256,
        data=name,
        images=len(test),
        judge=str(judge.raw["name"]),
        judge_sha256=judge.sha256,
        classes=card.spec.classes,
        metrics=metrics,
        pairs=tuple(tuple(row) for row in tiles.pairs(test.labels.numpy()).tolist()),
        device=str(relabeller.device),
        precision=relabeller.described_precision,
        seconds=time.monotonic() - began,
        pictures=pictures,
        ignores_label=relabeller.ignores_label,
    )


def batch_size(spec: ModelSpec) -> int:
    """Images per batch, so that their tiles under all labels fit into memory."""
    return max(1, images_at_once(_BATCH_TILES[spec.arch], spec.canvas_size) // spec.num_classes)


def _data_set(options: EvaluateOptions, card: ModelCard) -> str:
    name = options.data or str(card.raw["data_set"])
    if options.data is None and name not in NAMES and not storage.is_folder(Path(name)):
        raise DataError(
            f"{card.name} was trained on {name!r}, which is not here; name that folder, or another one with "
            f"the same classes, with --data ({', '.join(NAMES)} are known by name)."
        )
    return name


def _image_files(name: str, data_dir: Path) -> Iterator[Path]:
    """The files of a data set that is in class folders."""
    if name not in NAMES:
        for part in folders.scan(Path(name)).parts.values():
            stored = chain.from_iterable(part)
            yield from (file if isinstance(file, Path) else file.file for file in stored)
    elif storage.is_folder(data_dir):
        yield from (ref.file for ref in discover([data_dir]) if isinstance(ref.file, Path))


def _load(name: str, data_dir: Path, card: ModelCard) -> tuple[LabelledImages, LabelledImages]:
    """Test and training images, as the model takes them."""
    if name in NAMES:
        test, train = (datasets.load(name, data_dir, train=part) for part in (False, True))
        _check_classes(card, test.classes, name)
        spec = card.spec
        if tuple(test.images.shape[1:]) != (spec.channels, spec.image_size, spec.image_size):
            raise UserError(
                f"{card.name} does not fit {name}: its images have another size or number of channels."
            )
        return test, train
    files = folders.scan(Path(name))
    _check_classes(card, files.classes, name)
    test, train = (folders.read(files, part, card.spec)[0] for part in ("test", "train"))
    if len(test) < _MIN_TEST_IMAGES:
        raise DataError(
            f"{name}: {len(test)} test images that can be read are too few to measure anything; "
            f"at least {_MIN_TEST_IMAGES} are needed."
        )
    return test, train


def _check_classes(card: ModelCard, classes: tuple[str, ...], name: str) -> None:
    if classes != card.spec.classes:
        raise UserError(
            f"{card.name} does not fit {name}: it draws other classes ({', '.join(card.spec.classes)}); name "
            "its own data set with --data."
        )


def _judge_file(
    options: EvaluateOptions,
    card: ModelCard,
    data: str,
    train: LabelledImages,
    test: LabelledImages,
    progress: Progress,
) -> Location:
    """The judge's file, checked to fit; trained first if it does not exist."""
    file = options.judge or judge_of(card, data)
    if file.suffix != ".safetensors":
        raise UserError(f"--judge {file}: the name of a judge's file must end in .safetensors.")
    if storage.exists(file):
        check_fits(file, card, data)
        return file
    command = (
        f"cvae evaluate --model {shlex.quote(storage.shown(options.model))} --data {shlex.quote(data)} "
        f"--judge {shlex.quote(str(file))}"
    )
    file = storage.local_only(file, "a judge that has to be trained")
    try:
        # Before it is trained: that it can be kept.
        storage.make_writable_folder(file.parent)
    except OSError as error:
        raise OutputError(
            f"{file}: the judge that has to be trained cannot be kept there ({error.strerror or error}); "
            "name another place with --judge FILE.safetensors."
        ) from error
    return train_judge(
        train,
        file,
        name=f"{storage.resolved(Path(data)).name}-judge",
        data_set=data,
        command=command,
        device=options.device,
        test=test,
        progress=lambda done, total: progress("training a judge", done, total),
    )
