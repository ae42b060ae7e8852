"""Loading an image before it is drawn, and writing its pictures afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import tree
from PIL import Image

from cvae_cli.images.discover import ImageRef, iter_images
from cvae_cli.images.png import encode_png, read_provenance
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import LoadedItem, RelabelledItem
from cvae_cli.relabelling.labels import Label, LabelRule
from cvae_cli.relabelling.render import OWN_CLASS, render
from cvae_cli.relabelling.worker import OWN_PICTURE, Before, IdentifiedItem, Worker, commit, identify, load

BLANK = np.zeros((2, 2), np.uint8)


def test_loading_changes_nothing(worker: Worker, ref: ImageRef) -> None:
    item = load(worker.plan, ref, worker.before)
    assert isinstance(item, LoadedItem)
    assert np.array_equal(item.image.native[0], np.asarray(Image.open(ref.file)))
    assert item.label == Label(7, "class")
    assert item.outcome.label == "7"
    assert item.outcome.prepared["size"] == [28, 28]
    assert not list(worker.plan.out.iterdir())


def test_an_image_that_cannot_be_used_fails_with_its_reason(
    worker: Worker, ref: ImageRef, tmp_path: Path
) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", (50, 60), 255).save(blank)
    unusable = {
        "no such file": replace(ref, file=tmp_path / "gone.png"),
        "the folder cannot be listed": replace(ref, problem="the folder cannot be listed"),
        "blank: nothing stands out from the background": replace(ref, file=blank),
    }
    for reason, one in unusable.items():
        failed = load(worker.plan, one, worker.before)
        assert isinstance(failed, ImageOutcome)
        assert (failed.status, failed.reason) == ("failed", reason)
    assert failed.prepared["size"] == [50, 60]  # what was done by then


def test_memory_that_runs_out_fails_for_one_image(
    worker: Worker, ref: ImageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cvae_cli.relabelling.worker.load_image", no_memory)
    failed = load(worker.plan, ref, worker.before)
    assert isinstance(failed, ImageOutcome)
    assert failed.reason == "too large for the memory of this machine"


def test_there_is_nothing_to_do_for_pictures_of_ours_and_for_what_is_not_read(
    worker: Worker, ref: ImageRef, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.png"
    grid.write_bytes(encode_png(BLANK, {"source": "a", "targets": ["1"]}))
    only_seven = replace(worker.plan, targets=(7,))
    for plan, one, reason in (
        (worker.plan, replace(ref, file=grid), OWN_PICTURE),
        (worker.plan, replace(ref, passed_over=".heic files are not read"), ".heic files are not read"),
        (only_seven, ref, OWN_CLASS),
    ):
        skipped = identify(plan, one, Before(plan))
        assert isinstance(skipped, ImageOutcome)
        assert (skipped.status, skipped.reason) == ("skipped", reason)


def test_a_tile_that_cvae_drew_is_an_image_of_its_target(
    worker: Worker, ref: ImageRef, tmp_path: Path
) -> None:
    tile = tmp_path / "tile.png"
    tile.write_bytes(encode_png(np.eye(28, dtype=np.uint8) * 255, {"source": "a", "target": "4"}))
    plan = replace(worker.plan, rule=LabelRule.parse("auto", worker.plan.spec.classes))
    found = identify(plan, replace(ref, file=tile), Before(plan))
    assert isinstance(found, IdentifiedItem)
    assert found.label == Label(4, "provenance")


def test_a_folder_that_is_nearly_a_class_is_a_warning(worker: Worker, ref: ImageRef) -> None:
    spec = replace(worker.plan.spec, classes=("airplane", "truck", *"abcdefgh"))
    plan = replace(worker.plan, spec=spec, rule=LabelRule.parse("auto", spec.classes))
    found = identify(plan, replace(ref, relative="airplanes/x.png"), Before(plan))
    assert isinstance(found, IdentifiedItem)
    assert found.label is None
    assert found.outcome.warnings == ("its folder is not a class; did you mean airplane?",)


def test_a_batch_is_drawn_in_order_and_final_outcomes_pass_through(worker: Worker) -> None:
    refs = list(iter_images(worker.plan.sources, exclude=worker.plan.out))[:3]
    final = ImageOutcome("x", "y", "skipped")
    first, middle, second = worker.draw([worker.load(refs[0]), final, worker.load(refs[1])])
    assert middle is final
    assert isinstance(first, RelabelledItem)
    assert isinstance(second, RelabelledItem)
    assert (first.item.ref, second.item.ref) == (refs[0], refs[1])
    assert worker.draw([final]) == [final]
    assert worker.write(final) is final


def test_drawing_and_writing_in_one_thread_is_the_same(worker: Worker, ref: ImageRef) -> None:
    (outcome,) = worker.relabel([ref])
    apart = tree(worker.plan.out)
    (drawn,) = worker.draw([worker.load(replace(ref))])
    assert isinstance(drawn, ImageOutcome)  # finished
    for name in apart:
        (worker.plan.out / name).unlink()
    (drawn,) = worker.draw([worker.load(ref)])
    assert worker.write(drawn) == outcome
    assert tree(worker.plan.out) == apart


def test_the_files_of_an_image_are_written_as_they_were_rendered(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    rendered = render(worker.plan, drawn)
    assert commit(worker.plan, worker.folder, ref, rendered, worker.before.outputs) == rendered.outcome
    assert tree(worker.plan.out) == dict(rendered.files)


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_where_one_of_the_files_is_foreign(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem, overwrite: bool
) -> None:
    theirs = worker.plan.out / "tiles" / "1" / "d0.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"their picture")
    plan = replace(worker.plan, overwrite=overwrite, may_replace=overwrite)
    outcome = commit(plan, worker.folder, ref, render(plan, drawn), worker.before.outputs)
    if overwrite:
        assert outcome.status == "done"
        assert read_provenance(theirs) is not None
        return
    assert outcome.status == "failed"
    assert outcome.outputs == outcome.targets == ()
    assert (outcome.label, outcome.label_source) == ("7", "class")
    assert tree(plan.out) == {"tiles/1/d0.png": b"their picture"}


def test_a_tile_of_a_label_that_was_wrong_is_removed(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    stale, others, theirs = (worker.plan.out / f"tiles/7/{name}.png" for name in ("d0", "d1", "d2"))
    stale.parent.mkdir(parents=True)
    for file, source in ((stale, "d0.png"), (others, "d1.png")):
        file.write_bytes(encode_png(BLANK, {"source": source}))
    theirs.write_bytes(b"their picture")
    commit(worker.plan, worker.folder, ref, render(worker.plan, drawn), worker.before.outputs)
    assert not stale.exists()
    assert others.exists()
    assert theirs.read_bytes() == b"their picture"
    assert (read_provenance(worker.plan.out / "d0.png") or {})["label"] == "7"


def test_a_tile_in_the_place_of_a_wrong_label_stays_if_it_is_of_another_image(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    file = worker.plan.out / "tiles/7/d0.png"
    file.parent.mkdir(parents=True)
    for content in (encode_png(BLANK, {"source": "elsewhere/d0.png"}), b"their picture"):
        file.write_bytes(content)
        commit(worker.plan, worker.folder, ref, render(worker.plan, drawn), worker.before.outputs)
        assert file.read_bytes() == content


def test_a_tile_that_is_left_out_now_is_removed(worker: Worker, ref: ImageRef, drawn: RelabelledItem) -> None:
    commit(worker.plan, worker.folder, ref, render(worker.plan, drawn), worker.before.outputs)
    probabilities = np.full((2, 10), 0.05, np.float32)
    probabilities[0, 0] = probabilities[1, 3] = 0.9  # the second tile does not show its target
    plan = replace(worker.plan, min_confidence=0.5)
    outcome = commit(
        plan,
        worker.folder,
        ref,
        render(plan, replace(drawn, probabilities=probabilities)),
        worker.before.outputs,
    )
    assert outcome.left_out == ("1",)
    assert set(tree(plan.out)) == set(outcome.paths) == {"d0.png", "tiles/0/d0.png"}
