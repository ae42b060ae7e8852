"""From the tiles of an image to named files as bytes; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli import __version__
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.grid import Layout, Original, draw_row
from cvae_cli.images.naming import printable
from cvae_cli.images.png import encode_png
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import RelabelledItem
from cvae_cli.relabelling.check import CheckResult
from cvae_cli.relabelling.plan import RelabelPlan

OWN_CLASS = "already of the only class to draw"


@dataclass(frozen=True)
class Rendered:
    """What is to be written for an image.

    Attributes:
        outcome: what became of it, if everything can be written.
        outputs: the names of all its possible files, relative to the output folder.
        files: name and content of those that are to be written, in this order.
        left_out: names of tiles that are not written; those of an earlier run are deleted.
        wrong_label: name of the tile of the image's own class, which an earlier run may have drawn
            when it took the label for another; ``None`` where no tiles are written.
        rows: of a Parquet file, as :func:`cvae_cli.data.tables.schema` describes them.
        name: of the source in that file; empty where nothing was drawn.
    """

    outcome: ImageOutcome
    outputs: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    left_out: tuple[str, ...] = ()
    wrong_label: str | None = None
    rows: tuple[dict[str, Any], ...] = ()
    name: str = ""


def render(plan: RelabelPlan, drawn: RelabelledItem) -> Rendered:
    """Compose and encode the pictures of an image."""
    item, ref, spec = drawn.item, drawn.item.ref, plan.spec
    outcome = item.outcome.updated(
        label=spec.classes[drawn.label],
        label_source=drawn.label_source,
        confidence=drawn.confidence,
    )
    if not drawn.targets:
        return Rendered(outcome.skipped(OWN_CLASS))
    check = CheckResult()
    if drawn.probabilities is not None:
        check = CheckResult.from_predictions(
            drawn.probabilities,
            drawn.realism,
            drawn.targets,
            spec.classes,
            min_confidence=plan.min_confidence,
            min_realism=plan.min_realism,
        )
    names = plan.class_names(drawn.targets)
    shown = [item.image.restore(tile) for tile in drawn.tiles]
    provenance = _provenance(plan, drawn, check)
    files: list[tuple[str, bytes]] = []
    if plan.grids:
        note = label_note(drawn.label_source, drawn.confidence)
        warned = bool(item.outcome.warnings)
        original = Original(item.image.shown, spec.classes[drawn.label], note, warned=warned)
        layout = Layout(native=spec.image_size, channels=spec.channels)
        picture = draw_row(layout, original, list(zip(names, shown, strict=True)), check.marks)
        files.append((plan.grid_name(ref), encode_png(picture, {**provenance, "targets": list(names)})))
    if plan.tiles:
        for target, name, tile in zip(drawn.targets, names, shown, strict=True):
            if name not in check.left_out:
                pixels = np.ascontiguousarray(tile.transpose(1, 2, 0))
                files.append(
                    (plan.tile_name(ref, target), encode_png(pixels, {**provenance, "target": name}))
                )
    rows: tuple[dict[str, Any], ...] = ()
    if plan.parquet:
        rows = tuple(
            _row(plan, drawn, check, target, tile)
            for target, name, tile in zip(drawn.targets, names, shown, strict=True)
            if name not in check.left_out
        )
    left_out = [index for index in drawn.targets if plan.tiles and spec.classes[index] in check.left_out]
    return Rendered(
        outcome=outcome.updated(
            status="done",
            targets=names,
            outputs=plan.outputs(ref, drawn.targets, left_out=check.left_out),
            judged=check.judged,
            judged_wrong=check.wrong,
            judged_realism=check.realism,
            judged_odd=check.odd,
            left_out=check.left_out,
        ),
        outputs=plan.output_names(ref, drawn.targets),
        files=tuple(files),
        left_out=tuple(plan.tile_name(ref, index) for index in left_out),
        wrong_label=plan.tile_name(ref, drawn.label) if plan.tiles else None,
        rows=rows,
        name=name_of(ref),
    )


def name_of(ref: ImageRef) -> str:
    """The name of a source in a data set of tiles: that of its picture, which no other source has."""
    # Backslashes doubled first: a name that is written like an escaped byte is not that byte.
    return printable(str(ref.output).replace("\\", "\\\\"))


def _row(
    plan: RelabelPlan, drawn: RelabelledItem, check: CheckResult, target: int, tile: NDArray[np.uint8]
) -> dict[str, Any]:
    """A tile as a row of a Parquet file."""
    ref, name = drawn.item.ref, plan.spec.classes[target]
    pixels = np.ascontiguousarray(tile.transpose(1, 2, 0))
    return {
        "image": {"bytes": encode_png(pixels), "path": printable(plan.tile_name(ref, target))},
        "label": target,
        "source": printable(ref.relative),
        "source_label": drawn.label,
        "confidence": (check.judged or {}).get(name),
        "realism": (check.realism or {}).get(name),
        "name": name_of(ref),
    }


def _provenance(plan: RelabelPlan, drawn: RelabelledItem, check: CheckResult) -> dict[str, Any]:
    """What all pictures of an image record."""
    return {
        "cvae": __version__,
        "source": printable(drawn.item.ref.relative),
        "label": plan.spec.classes[drawn.label],
        "label_index": drawn.label,
        "label_source": drawn.label_source,
        "confidence": None if drawn.confidence is None else round(drawn.confidence, 4),
        "model": plan.model_name,
        "model_sha256": plan.model_sha256,
        "fingerprint": drawn.item.fingerprint,
        "prepared": dict(drawn.item.outcome.prepared),
        **check.to_provenance(),
        **({"warnings": list(drawn.item.outcome.warnings)} if drawn.item.outcome.warnings else {}),
    }


def label_note(label_source: str | None, confidence: float | None) -> str:
    """Where a label came from, in the few characters that fit under a tile."""
    if label_source == "predict" and confidence is not None:
        return f"predicted {min(99, int(confidence * 100))}%"
    return {"folder": "from folder", "class": "as given", "csv": "from CSV", "provenance": "as drawn"}.get(
        label_source or "", ""
    )
