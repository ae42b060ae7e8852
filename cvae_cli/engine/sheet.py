"""Contact sheets: a row an image or a style, a column a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvae_cli.engine.draw import Drawer, image_target
from cvae_cli.engine.judge import Judge, find_judge, mark
from cvae_cli.engine.labels import LabelRule
from cvae_cli.engine.relabel import RelabelOptions, find
from cvae_cli.errors import ImageError, OutputError, UserError
from cvae_cli.images import decode, discover, grid, prepare, save
from cvae_cli.model import weights
from cvae_cli.outcomes import ImageOutcome


@dataclass(frozen=True)
class SheetOptions:
    """What the user asked for.

    Fields not listed are those of :class:`RelabelOptions`.

    Attributes:
        out: the PNG to write.
        rows: at most so many images, or just so many styles.
        seed: of the styles, where there is no source.
        check: have a judge read every tile.
        overwrite: replace a file that cvae did not write.
    """

    out: Path
    sources: tuple[Path, ...] = ()
    listing: Iterable[str] | None = None
    model: str = "mnist"
    rows: int = 25
    seed: int = 0
    labels: str = "auto"
    invert: prepare.Invert = "auto"
    device: str = "auto"
    precision: str = "auto"
    check: bool = False
    overwrite: bool = False


def sheet(options: SheetOptions) -> Iterator[ImageOutcome]:
    """Write a contact sheet of the first images of the sources, or of samples from the prior.

    Yields:
        An outcome for each image; none for samples.

    Raises:
        UserError: options that cannot be used, no image, or none that could be read.
        OutputError: the sheet cannot be written.
    """
    if options.sources and options.listing is None:
        discover.check_sources(options.sources)
    _check_output(options)
    card = weights.read_card(weights.resolve(options.model))
    rule = LabelRule(options.labels, card.spec.classes)
    # One image at a time: a sheet is small, and its rows come as they are drawn.
    drawer = Drawer(card.file, device=options.device, precision=options.precision, batch_size=1)
    judge = None
    if options.check:
        judge = Judge(find_judge(card), device=options.device, batch_size=card.spec.num_classes)
    layout = grid.Layout(native=card.spec.image_size, channels=card.spec.channels)
    rows: list[grid.SheetRow] = []
    if not options.sources and options.listing is None:
        for style in drawer.sample(options.rows, seed=options.seed):
            rows.append(grid.SheetRow(list(style), marks=_marks(judge, style)))
    else:
        yield from _image_rows(options, drawer, judge, rule, rows.append)
        if not rows:
            raise UserError("none of the images could be used, so there is no sheet to write.")
    picture = grid.draw_sheet(layout, card.spec.classes, rows)
    provenance = {"model": card.name, "model_sha256": card.sha256, "sheet": len(rows)}
    save.write_file(options.out, save.encode_png(picture, provenance))


def _marks(judge: Judge | None, tiles: NDArray[np.uint8]) -> list[grid.Mark] | None:
    """What the judge says of (K, C, H, W) tiles, one of each class."""
    if judge is None:
        return None
    probabilities = judge.read(tiles).probabilities
    return [mark(row, index, judge.spec.classes) for index, row in enumerate(probabilities)]


def _image_rows(
    options: SheetOptions,
    drawer: Drawer,
    judge: Judge | None,
    rule: LabelRule,
    add: Callable[[grid.SheetRow], None],
) -> Iterator[ImageOutcome]:
    spec = drawer.spec
    target = image_target(spec)
    images = find(RelabelOptions(sources=options.sources, out=options.out, listing=options.listing))
    for found in islice(images, options.rows):
        try:
            if found.problem:
                raise ImageError(found.problem)
            decoded = decode.decode(decode.read_bytes(found.file), enough=target.enough)
            label = rule.label(found)
            prepared = prepare.prepare(decoded.pixels, target, invert=options.invert)
        except ImageError as error:
            yield ImageOutcome(found.relative, found.source, "failed", str(error))
            continue
        native, confidence = prepared.native[None], None
        if label is None:
            labels, confidences = drawer.classify(native)
            index, source, confidence = int(labels[0]), "predict", float(confidences[0])
        else:
            index, source = label.index, label.source
        tiles = drawer.draw(native, np.array([index]), np.arange(spec.num_classes)[None])[0]
        original = grid.Original(prepared.shown, spec.classes[index])
        shown = [prepared.undo(tile) for tile in tiles]
        add(grid.SheetRow(shown, original, own=index, marks=_marks(judge, tiles)))
        yield ImageOutcome(
            found.relative,
            found.source,
            "done",
            label=spec.classes[index],
            label_source=source,
            confidence=confidence,
            targets=spec.classes,
            outputs=(str(options.out),),
            prepared={**decoded.notes, **prepared.steps},
        )


def _check_output(options: SheetOptions) -> None:
    out = options.out
    if out.is_dir():
        raise OutputError(
            f"{out} is a folder; --out takes the name of a PNG file, such as {out / 'sheet.png'}."
        )
    if out.suffix.casefold() != ".png":
        raise OutputError(f"{out}: the sheet is a PNG; give it a name that ends in .png.")
    if out.exists() and not options.overwrite and save.read_provenance(out) is None:
        raise OutputError(f"{out} is there and was not written by cvae; add --overwrite to replace it.")
