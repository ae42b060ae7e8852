"""Contact sheets: one row per image or style, one column per class."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvae_cli import storage
from cvae_cli.errors import ImageError, OutputError, UserError
from cvae_cli.images.captions import Mark
from cvae_cli.images.discover import ImageRef, check_sources, iter_images
from cvae_cli.images.grid import Layout, Original, SheetRow, draw_sheet
from cvae_cli.images.load import load_image, read_image
from cvae_cli.images.output import check_not_foreign
from cvae_cli.images.png import encode_png, provenance_in, read_provenance
from cvae_cli.images.prepare import Fit, Invert
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.judge.files import find_judge
from cvae_cli.judge.marks import mark
from cvae_cli.judge.predict import Judge
from cvae_cli.model import registry
from cvae_cli.outcomes import ImageOutcome, Output
from cvae_cli.relabelling.labels import LabelRule
from cvae_cli.relabelling.plan import check_fit
from cvae_cli.relabelling.worker import OWN_PICTURE
from cvae_cli.storage import Location


@dataclass(frozen=True)
class SheetOptions:
    """What the user asked for.

    Fields not listed are those of :class:`~cvae_cli.relabelling.options.RelabelOptions`.

    Attributes:
        out: the PNG to write; ``None`` for none.
        rows: most images, or the number of styles.
        seed: of the styles, where there is no source.
        check: have a judge classify every tile.
        overwrite: replace a file that cvae did not write.
        show: called with the names of the classes and the rows, at the end.
    """

    out: Location | None = None
    sources: tuple[Location, ...] = ()
    listing: Iterable[str] | None = None
    model: str = "mnist"
    rows: int = 25
    seed: int = 0
    labels: str = "auto"
    invert: Invert = "auto"
    fit: Fit = "auto"
    device: str = "auto"
    precision: str = "auto"
    check: bool = False
    overwrite: bool = False
    show: Callable[[tuple[str, ...], Sequence[SheetRow]], None] | None = None


def sheet(options: SheetOptions) -> Iterator[ImageOutcome]:
    """Write a contact sheet of the first images of the sources, or of samples from the prior.

    Options are checked here; the sheet is written when the last outcome has been taken.

    Returns:
        An outcome for each image; none for samples.

    Raises:
        UserError: options that cannot be used, no image, or none that can be used.
        OutputError: the sheet cannot be written.
    """
    if options.sources and options.listing is None:
        check_sources(options.sources)
    if options.out is not None:
        _check_output(options, options.out)
    card = registry.read_card(registry.resolve(options.model))
    rule = LabelRule.parse(options.labels, card.spec.classes)
    check_fit(options.fit, card)
    judge_file = find_judge(card) if options.check else None
    # One image at a time: a sheet is small, and its rows appear as they are drawn.
    relabeller = Relabeller(card.file, device=options.device, precision=options.precision, batch_size=1)
    judge = None
    if judge_file is not None:
        judge = Judge(judge_file, device=options.device, batch_size=card.spec.num_classes)
    return _run(options, _SheetMaker(relabeller, judge, rule, options.invert, options.fit))


@dataclass(frozen=True)
class _SheetMaker:
    """What the rows of a sheet are drawn with."""

    relabeller: Relabeller
    judge: Judge | None
    rule: LabelRule
    invert: Invert
    fit: Fit

    def style_row(self, tiles: NDArray[np.uint8]) -> SheetRow:
        """(K, C, H, W) tiles of one style, as a row."""
        return SheetRow(list(tiles), marks=self._marks(tiles))

    def image_row(self, ref: ImageRef, outcome: ImageOutcome) -> tuple[SheetRow | None, ImageOutcome]:
        """The row of an image, and what became of it; no row if it cannot be used."""
        spec = self.relabeller.spec
        try:
            if ref.problem:
                raise ImageError(ref.problem)
            content = read_image(ref.file)
            provenance = provenance_in(io.BytesIO(content))
            if provenance is not None and "target" not in provenance:
                return None, outcome.updated(outputs=()).skipped(OWN_PICTURE)
            image = load_image(content, spec, invert=self.invert, fit=self.fit)
            label = self.rule.label_of(ref, provenance)
        except ImageError as error:
            return None, outcome.updated(outputs=()).failed(str(error))
        native, confidence = image.native[None], None
        if label is None:
            labels, confidences = self.relabeller.classify(native)
            index, source, confidence = int(labels[0]), "predict", float(confidences[0])
        else:
            index, source = label.index, label.source
        tiles = self.relabeller.draw(native, np.array([index]), np.arange(spec.num_classes)[None])[0]
        original = Original(image.shown, spec.classes[index])
        shown = [image.restore(tile) for tile in tiles]
        row = SheetRow(shown, original, own=index, marks=self._marks(tiles))
        return row, outcome.updated(
            status="done",
            label=spec.classes[index],
            label_source=source,
            confidence=confidence,
            targets=spec.classes,
            prepared=image.preprocessing.to_dict(),
            warnings=image.warnings,
        )

    def _marks(self, tiles: NDArray[np.uint8]) -> list[Mark] | None:
        """What the judge says of (K, C, H, W) tiles, one of each class."""
        if self.judge is None:
            return None
        predictions, classes = self.judge.predict(tiles), self.judge.spec.classes
        realism: list[float | None] = [None] * len(tiles)
        if self.judge.has_bank:
            realism = self.judge.realism(predictions, np.arange(len(tiles))).tolist()
        shares = predictions.probabilities
        return [mark(shares[index], index, classes, one) for index, one in enumerate(realism)]


def _run(options: SheetOptions, maker: _SheetMaker) -> Iterator[ImageOutcome]:
    card, rows, out = maker.relabeller.card, [], options.out
    if not options.sources and options.listing is None:
        styles = maker.relabeller.sample(options.rows, seed=options.seed)
        rows = [maker.style_row(tiles) for tiles in styles]
    else:
        images = iter_images(options.sources, options.listing, exclude=options.out)
        for ref in images:
            if ref.passed_over:
                continue
            if out is not None:
                _check_is_not_source(out, ref)
            if len(rows) == options.rows:
                if out is not None and _may_be_source(out):
                    continue  # it may still be named further down
                break
            outputs = () if out is None else (Output("sheet", str(out)),)
            found = ImageOutcome(ref.relative, ref.source, outputs=outputs)
            row, outcome = maker.image_row(ref, found)
            if row is not None:
                rows.append(row)
            yield outcome
        if not rows:
            raise UserError(
                "none of the images could be used, so there is no sheet to write; grids and sheets that "
                "cvae drew are passed over."
            )
    if options.show is not None:
        options.show(card.spec.classes, rows)
    if out is None:
        return
    layout = Layout(native=card.spec.image_size, channels=card.spec.channels)
    picture = draw_sheet(layout, card.spec.classes, rows)
    provenance = {"model": card.name, "model_sha256": card.sha256, "sheet": len(rows)}
    storage.write_file(out, encode_png(picture, provenance))


def _check_output(options: SheetOptions, out: Location) -> None:
    if storage.is_folder(out):
        raise OutputError(
            f"{out} is a folder; --out takes the name of a PNG file, such as {out / 'sheet.png'}."
        )
    if out.suffix.casefold() != ".png":
        raise OutputError(f"{out}: the sheet is a PNG; give it a name that ends in .png.")
    check_not_foreign(out, overwrite=options.overwrite)
    sources = () if options.listing is not None else options.sources
    real = storage.resolved(out)
    inside = any(storage.resolved(source) in (real, *real.parents) for source in sources)
    if inside and _may_be_source(out):
        raise OutputError(f"{out} is one of the images of the sources; choose another --out.")


def _may_be_source(out: Location) -> bool:
    """Whether a file is there that is no sheet: a tile that cvae drew may be an image of the sources."""
    if not storage.exists(out) or storage.size_of(out) == 0:
        return False
    return "sheet" not in (read_provenance(out) or {})


def _check_is_not_source(out: Location, ref: ImageRef) -> None:
    """Raise :class:`OutputError` if the sheet would replace this image, whatever the spelling."""
    if storage.is_same_file(out, ref.file) and _may_be_source(out):
        raise OutputError(f"{out} is one of the images of the sources; choose another --out.")
