"""What is decided before the first image is read, and is the same for all of them.

A plan is plain data: it can be pickled and sent to another process, which loads the model itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cvae_cli import storage
from cvae_cli.data.tables import require_arrow
from cvae_cli.errors import UserError
from cvae_cli.images import discover
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.naming import class_folders, printable
from cvae_cli.images.output import check_replaceable
from cvae_cli.images.prepare import Fit, Invert
from cvae_cli.judge.files import NO_BANK, find_judge, read_judge
from cvae_cli.model import registry
from cvae_cli.model.registry import ModelCard
from cvae_cli.model.spec import ModelSpec
from cvae_cli.outcomes import Output
from cvae_cli.relabelling.labels import Label, LabelRule, class_index, require_class
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.storage import Location

TILES = "tiles"
"""The folder of tiles within the output folder."""

_PICTURES_VERSION = 2
"""Raised when the same options start to make other pictures, so that finished ones are redone."""


@dataclass(frozen=True)
class RelabelPlan:
    """Everything that decides what is written for an image, apart from device and batch size.

    Attributes:
        sources: files and folders.
        out: the folder to write to.
        model_file: its ``.safetensors`` file.
        model_name: what the model is called.
        model_sha256: of its weights.
        spec: of the model.
        rule: where the images' own labels come from.
        targets: indices of the classes to draw, ascending.
        grids: whether a grid per image is written.
        tiles: whether tiles are written, each as a file.
        parquet: whether tiles are written as rows of Parquet files, and nothing else.
        invert: ``auto``, ``always`` or ``never``.
        fit: ``auto``, ``pad``, ``crop`` or ``stretch``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        judge_file: the judge's ``.safetensors`` file; ``None`` without a check.
        judge_sha256: of its weights.
        min_confidence: as ``--min-confidence``.
        min_realism: as ``--min-realism``.
        overwrite: do finished images again.
        may_replace: replace files that cvae did not write. Never where the images come from a list: such a
            file may be named further down in it.
    """

    sources: tuple[Location, ...]
    out: Location
    model_file: Location
    model_name: str
    model_sha256: str
    spec: ModelSpec
    rule: LabelRule
    targets: tuple[int, ...]
    grids: bool
    tiles: bool
    parquet: bool
    invert: Invert
    fit: Fit
    precision: str
    judge_file: Location | None
    judge_sha256: str | None
    min_confidence: float | None
    min_realism: float | None
    overwrite: bool
    may_replace: bool

    @property
    def max_targets(self) -> int:
        """Most tiles that an image can have."""
        return len(self.targets) - (len(self.targets) == self.spec.num_classes)

    def targets_of(self, label: int | None) -> tuple[int, ...]:
        """The classes that an image of a label is drawn as."""
        return tuple(index for index in self.targets if index != label)

    def class_names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The names of classes."""
        return tuple(self.spec.classes[index] for index in indices)

    def grid_name(self, ref: ImageRef) -> str:
        """Where an image's grid goes, relative to the output folder."""
        place = ref.output
        if self.tiles and place.parts[0].casefold().rstrip("_") == TILES:
            # A source folder of this name must not end up among the tiles, nor meet one named so.
            place = type(place)(place.parts[0] + "_", *place.parts[1:])
        return f"{place}.png"

    def tile_name(self, ref: ImageRef, target: int) -> str:
        """Where an image's tile of a target goes, relative to the output folder."""
        return f"{TILES}/{class_folders(self.spec.classes)[target]}/{ref.output}.png"

    def outputs(
        self, ref: ImageRef, targets: tuple[int, ...], *, left_out: tuple[str, ...] = ()
    ) -> tuple[Output, ...]:
        """The files of an image, the grid first; in Parquet files there are none of its own.

        Args:
            ref: the image.
            targets: what it is drawn as.
            left_out: names of targets whose tile is not written.
        """
        grid = [Output("grid", self.grid_name(ref))] if self.grids else []
        if not self.tiles:
            return tuple(grid)
        named = ((index, self.spec.classes[index]) for index in targets)
        tiles = (
            Output("tile", self.tile_name(ref, index), name) for index, name in named if name not in left_out
        )
        return (*grid, *tiles)

    def output_names(self, ref: ImageRef, targets: tuple[int, ...]) -> tuple[str, ...]:
        """The paths of all files that an image can have, relative to the output folder, the grid first."""
        return tuple(output.path for output in self.outputs(ref, targets))

    def check_replaceable(self, ref: ImageRef, name: str) -> None:
        """Raise :class:`ImageError` if a file may not be written: see :func:`output.check_replaceable`.

        Args:
            ref: the image it is drawn from.
            name: the file, relative to the output folder.
        """
        check_replaceable(
            self.out / name,
            image=ref.file,
            sources=self.sources,
            out=self.out,
            overwrite=self.may_replace,
            remedy="move it" if ref.source == "-" else "move it, or add --overwrite",
        )

    @property
    def _meant_precision(self) -> str:
        """The precision as pictures depend on it; ``auto`` counts as one, though machines differ in it."""
        return "fp32" if (self.precision, self.spec.auto_precision) == ("auto", "fp32") else self.precision

    def fingerprint(self, ref: ImageRef, sha256: str, label: Label | None) -> str:
        """A hash of everything that decides an image's pictures.

        Args:
            ref: the image.
            sha256: of its file, in hexadecimal.
            label: its own; ``None`` where it is predicted.
        """
        parts = [
            _PICTURES_VERSION,
            printable(ref.relative),
            sha256,
            self.model_sha256,
            "predict" if label is None else [label.index, label.source],
            list(self.targets),
            self.invert,
            self._meant_precision,
        ]
        if self.judge_sha256 is not None:
            parts.append([self.judge_sha256, self.min_confidence])
        # Only where they are given: pictures that were finished before there were these options stay so.
        if self.min_realism is not None:
            parts.append({"min_realism": self.min_realism})
        if self.fit != "auto":
            parts.append({"fit": self.fit})
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def make_plan(options: RelabelOptions) -> RelabelPlan:
    """Check the options against each other, the sources, the model and the judge.

    Raises:
        UserError: options that cannot be used; the message says what to do.
    """
    if options.listing is None:
        discover.check_sources(options.sources)
        out = storage.resolved(options.out)
        if any(storage.is_folder(source) and storage.resolved(source) == out for source in options.sources):
            raise UserError(f"{options.out} is the source itself; choose another folder for --out.")
    card = registry.read_card(registry.resolve(options.model))
    rule = LabelRule.parse(options.labels, card.spec.classes)
    check_fit(options.fit, card)
    targets = _target_indices(options.targets, card.spec)
    for name, asked in (("--min-confidence", options.min_confidence), ("--min-realism", options.min_realism)):
        if asked is not None and options.write == "grid":
            raise UserError(f"{name} leaves out tiles: add --write tiles, --write both or --write parquet.")
    if options.write == "parquet":
        require_arrow("--write parquet")
    least = (options.min_confidence, options.min_realism)
    judge_file = find_judge(card) if options.check or least != (None, None) else None
    if judge_file is not None and options.min_realism is not None and not read_judge(judge_file)[1].bank:
        raise UserError(f"--min-realism: {judge_file}: {NO_BANK}")
    return RelabelPlan(
        sources=options.sources,
        out=options.out,
        model_file=card.file,
        model_name=card.name,
        model_sha256=card.sha256,
        spec=card.spec,
        rule=rule,
        targets=targets,
        grids=options.write in ("grid", "both"),
        tiles=options.write in ("tiles", "both"),
        parquet=options.write == "parquet",
        invert=options.invert,
        fit=options.fit,
        precision=options.precision,
        judge_file=judge_file,
        judge_sha256=registry.read_metadata(judge_file)["sha256"] if judge_file else None,
        min_confidence=options.min_confidence,
        min_realism=options.min_realism,
        overwrite=options.overwrite,
        may_replace=options.overwrite and options.listing is None,
    )


def check_fit(fit: Fit, card: ModelCard) -> None:
    """Raise :class:`UserError` where ``--fit`` would do nothing."""
    if fit != "auto" and card.spec.polarity == "light-on-dark":
        raise UserError(
            f"--fit is for models of photographs: {card.name} takes what stands out from the background, "
            "wherever it is. Leave --fit out."
        )


def _target_indices(targets: tuple[str, ...], spec: ModelSpec) -> tuple[int, ...]:
    indices: set[int] = set()
    for given in targets:
        if (index := class_index(given, spec.classes)) is not None:
            indices.add(index)  # a class whose name has a comma, too
        elif given.casefold() == "all":
            indices |= set(range(spec.num_classes))
        else:
            names = [name.strip() for name in given.split(",") if name.strip()]
            indices |= {require_class(name, spec.classes, what="--targets") for name in names}
    return tuple(sorted(indices or range(spec.num_classes)))
