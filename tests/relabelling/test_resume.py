"""When an image counts as finished: its pictures are there, and from the same options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvae_cli.images.discover import ImageRef
from cvae_cli.images.png import encode_png
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import RelabelledItem
from cvae_cli.relabelling.earlier import Outputs
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.relabelling.render import render
from cvae_cli.relabelling.resume import FINISHED, finished_outcome
from cvae_cli.relabelling.worker import Worker, commit

FILES = ("d0.png", "tiles/0/d0.png", "tiles/1/d0.png")


def finished(plan: RelabelPlan, ref: ImageRef, drawn: RelabelledItem) -> ImageOutcome | None:
    known = replace(drawn.item.outcome, label=None, label_source=None, prepared={}, warnings=())
    return finished_outcome(plan, ref, known, drawn.item.label, drawn.item.fingerprint, Outputs(plan.out))


def write(worker: Worker, ref: ImageRef, drawn: RelabelledItem) -> ImageOutcome:
    return commit(worker.plan, worker.folder, ref, render(worker.plan, drawn), worker.before.outputs)


def test_what_was_written_is_finished_and_described_as_before(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    assert finished(worker.plan, ref, drawn) is None
    done = write(worker, ref, drawn)
    assert finished(worker.plan, ref, drawn) == replace(done, status="skipped", reason=FINISHED)


def test_what_was_predicted_judged_and_warned_about_is_remembered(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    item = replace(
        drawn.item, label=None, outcome=replace(drawn.item.outcome, warnings=("uneven background",))
    )
    probabilities = np.full((2, 10), 0.01, np.float32)
    probabilities[:, 0] = 0.9
    one = replace(drawn, item=item, label_source="predict", confidence=0.875, probabilities=probabilities)
    plan = replace(worker.plan, min_confidence=0.5)
    done = commit(plan, worker.folder, ref, render(plan, one), worker.before.outputs)
    found = finished(plan, ref, one)
    assert found == replace(done, status="skipped", reason=FINISHED)
    assert (found.label, found.label_source, found.confidence) == ("7", "predict", 0.875)
    assert (found.judged_wrong, found.left_out, found.warnings) == (("1",), ("1",), ("uneven background",))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["gone", "empty", "foreign", "of other options"])
def test_one_file_that_is_not_as_it_should_be_is_enough(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem, name: str, damage: str
) -> None:
    write(worker, ref, drawn)
    file = worker.plan.out / name
    if damage == "gone":
        file.unlink()
    else:
        other = encode_png(np.zeros((2, 2), np.uint8), {"fingerprint": "another", "label_index": 7})
        file.write_bytes({"empty": b"", "foreign": b"their picture", "of other options": other}[damage])
    assert finished(worker.plan, ref, drawn) is None


def test_pictures_of_other_options_do_not_count(worker: Worker, ref: ImageRef, drawn: RelabelledItem) -> None:
    write(worker, ref, drawn)
    other = replace(drawn, item=replace(drawn.item, fingerprint="another"))
    assert finished(worker.plan, ref, other) is None


def test_pictures_without_an_index_of_their_label_do_not_count(
    worker: Worker, ref: ImageRef, drawn: RelabelledItem
) -> None:
    """As versions before wrote them."""
    for name in FILES:
        content = encode_png(np.zeros((2, 2), np.uint8), {"fingerprint": drawn.item.fingerprint})
        worker.folder.write(name, content)
    assert finished(worker.plan, ref, drawn) is None
