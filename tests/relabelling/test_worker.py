"""The steps of a run one by one: what is read, what is rendered, what is written."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.images.discover import ImageRef, iter_images
from cvae_cli.images.output import OutputFolder
from cvae_cli.images.png import encode_png, read_provenance
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import LoadedItem, RelabelledItem
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.plan import make_plan
from cvae_cli.relabelling.render import OWN_CLASS, label_note, render
from cvae_cli.relabelling.resume import FINISHED, finished_outcome
from cvae_cli.relabelling.worker import Worker, commit, load


@pytest.fixture
def worker(folder_of_digits: Path, tmp_path: Path) -> Worker:
    options = RelabelOptions(
        sources=(folder_of_digits,), out=tmp_path / "out", targets=("0", "1"), write="both", labels="7"
    )
    folder = OutputFolder(options.out)
    folder.create()
    return Worker(make_plan(options), folder, device="cpu", batch_size=4)


@pytest.fixture
def ref(worker: Worker) -> ImageRef:
    return next(iter_images(worker.plan.sources, exclude=worker.plan.out))


@pytest.fixture
def drawn(worker: Worker, ref: ImageRef) -> RelabelledItem:
    (drawn,) = worker.draw([worker.load(ref)])
    assert isinstance(drawn, RelabelledItem)
    return drawn


def test_loading_changes_nothing_and_fails_with_a_reason(
    worker: Worker, ref: ImageRef, tmp_path: Path
) -> None:
    item = load(worker.plan, ref)
    assert isinstance(item, LoadedItem)
    assert item.image.native.shape == (1, 28, 28)
    assert item.outcome.label == "7"
    assert item.outcome.prepared["size"] == [28, 28]
    gone = load(worker.plan, replace(ref, file=tmp_path / "gone.png"))
    assert isinstance(gone, ImageOutcome)
    assert (gone.status, gone.reason) == ("failed", "no such file")
    assert not list(worker.plan.out.iterdir())


def test_a_batch_is_drawn_in_order_and_final_outcomes_pass_through(worker: Worker) -> None:
    refs = list(iter_images(worker.plan.sources, exclude=worker.plan.out))[:3]
    final = ImageOutcome("x", "y", "skipped")
    results = worker.draw([worker.load(refs[0]), final, worker.load(refs[1])])
    assert results[1] is final
    first, _, second = results
    assert isinstance(first, RelabelledItem)
    assert isinstance(second, RelabelledItem)
    assert (first.item.ref, second.item.ref) == (refs[0], refs[1])
    assert first.targets == (0, 1)
    assert first.tiles.shape == (2, 1, 28, 28)
    assert first.probabilities is None


def test_rendering_gives_named_files_and_writes_none(worker: Worker, drawn: RelabelledItem) -> None:
    rendered = render(worker.plan, drawn)
    assert [name for name, _ in rendered.files] == ["d0.png", "tiles/0/d0.png", "tiles/1/d0.png"]
    assert rendered.outcome.outputs == rendered.outputs
    assert rendered.wrong_label == "tiles/7/d0.png"
    tile = Image.open(io.BytesIO(rendered.files[1][1]))
    assert np.array_equal(np.asarray(tile), drawn.tiles[0, 0])
    assert json.loads(tile.text["cvae"])["target"] == "0"
    assert not list(worker.plan.out.iterdir())


def test_an_image_of_the_only_target_is_nothing_to_do(worker: Worker, drawn: RelabelledItem) -> None:
    empty = replace(drawn, targets=(), tiles=drawn.tiles[:0])
    assert render(worker.plan, empty).outcome.reason == OWN_CLASS


def test_what_is_committed_is_finished(worker: Worker, ref: ImageRef, drawn: RelabelledItem) -> None:
    plan, item = worker.plan, drawn.item

    def finished() -> ImageOutcome | None:
        known = ImageOutcome(ref.relative, ref.source)
        return finished_outcome(plan, ref, known, item.label, item.fingerprint)

    assert finished() is None
    done = commit(plan, worker.folder, ref, render(plan, drawn))
    assert done.status == "done"
    found = finished()
    assert found is not None
    assert (found.status, found.reason) == ("skipped", FINISHED)
    assert (found.outputs, found.targets, found.prepared) == (done.outputs, done.targets, done.prepared)
    (plan.out / "tiles" / "1" / "d0.png").unlink()
    assert finished() is None


def test_nothing_is_written_where_one_of_the_files_is_foreign(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    theirs = worker.plan.out / "tiles" / "1" / "d0.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"their picture")
    failed = commit(worker.plan, worker.folder, ref, render(worker.plan, drawn))
    assert failed.status == "failed"
    assert failed.outputs == failed.targets == ()
    assert (failed.label, failed.label_source) == ("7", "class")
    assert theirs.read_bytes() == b"their picture"
    assert [path for path in worker.plan.out.rglob("*") if path.is_file()] == [theirs]


def test_a_tile_of_a_label_that_was_wrong_is_removed(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    stale, others = worker.plan.out / "tiles/7/d0.png", worker.plan.out / "tiles/7/d1.png"
    stale.parent.mkdir(parents=True)
    for file, source in ((stale, "d0.png"), (others, "d1.png")):
        file.write_bytes(encode_png(np.zeros((2, 2), np.uint8), {"source": source}))
    commit(worker.plan, worker.folder, ref, render(worker.plan, drawn))
    assert not stale.exists()
    assert others.exists()
    assert (read_provenance(worker.plan.out / "d0.png") or {})["label"] == "7"


@pytest.mark.parametrize(
    ("source", "confidence", "note"),
    [
        ("predict", 0.999, "predicted 99%"),
        ("predict", 0.5, "predicted 50%"),
        ("folder", None, "from folder"),
        ("class", None, "as given"),
        ("csv", None, "from CSV"),
        (None, None, ""),
    ],
)
def test_notes_say_where_a_label_came_from(source: str | None, confidence: float | None, note: str) -> None:
    assert label_note(source, confidence) == note
