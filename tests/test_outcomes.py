from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from cvae_cli.outcomes import Exit, ImageOutcome, Output, Report, Status

FOUND = ImageOutcome("a.png", "imgs", label="7", label_source="folder", targets=("1", "2"))


def test_an_outcome_is_replaced_never_changed() -> None:
    failed = FOUND.failed("empty file")
    assert (failed.status, failed.reason, failed.label) == ("failed", "empty file", "7")
    skipped = FOUND.skipped("finished before")
    assert (skipped.status, skipped.reason) == ("skipped", "finished before")
    assert (FOUND.status, FOUND.reason) == ("planned", "")


def test_a_line_of_the_manifest_has_every_field() -> None:
    outcome = ImageOutcome(
        "a.png", "imgs", "done", "", "7", "predict", 0.987654, ("1", "2"), (Output("tile", "a.png", "1"),),
        {"size": [28, 28]},
        {"1": 0.5, "2": 0.25}, ("2",), {"1": 0.5, "2": 0.001}, ("2",), (), ("uneven background",),
    )  # fmt: skip
    line = outcome.to_dict()
    assert list(line) == [field.name for field in fields(ImageOutcome)]
    assert line["reason"] is None
    assert line["confidence"] == 0.9877
    assert line["judged_wrong"] == ["2"]
    assert line["judged_odd"] == ["2"]
    assert line["left_out"] == []
    assert line["outputs"] == [{"role": "tile", "path": "a.png", "target": "1"}]
    assert (outcome.paths, ImageOutcome.from_dict(line).outputs) == (("a.png",), outcome.outputs)
    assert json.loads(json.dumps(line)) == line


def test_without_a_judge_there_is_no_verdict() -> None:
    line = FOUND.to_dict()
    assert line["judged"] is line["judged_wrong"] is line["left_out"] is None
    assert line["judged_realism"] is line["judged_odd"] is None
    old = replace(FOUND, judged={"1": 0.5, "2": 0.9})  # by a judge that has no bank
    assert old.to_dict()["judged_odd"] is None
    assert old.to_dict()["judged_wrong"] == []
    assert line["prepared"] is line["confidence"] is None


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], Exit.OK),
        (["done", "skipped", "planned"], Exit.OK),
        (["skipped"], Exit.OK),
        (["done", "failed"], Exit.SOME_FAILED),
    ],
)
def test_a_run_fails_if_an_image_did(statuses: list[Status], code: Exit) -> None:
    report = Report()
    for status in statuses:
        report.add(ImageOutcome("a.png", "imgs", status))
    assert report.exit_code == code
    assert report.total == len(statuses)


def test_a_report_counts_all_that_is_said_at_the_end() -> None:
    report = Report()
    judged = {"1": 0.5, "2": 0.25, "3": 0.9}
    for outcome in (
        ImageOutcome(
            "a",
            "imgs",
            "done",
            label_source="folder",
            judged=judged,
            judged_wrong=("2",),
            judged_realism={"1": 0.5, "2": 0.001, "3": 0.002},
            judged_odd=("2", "3"),
            left_out=("1", "2"),
        ),
        ImageOutcome("b", "imgs", "done", label_source="predict", warnings=("one", "two"), judged={"1": 1.0}),
        ImageOutcome("c", "imgs", label_source="predict").skipped("finished before"),
        ImageOutcome("d", "imgs").skipped("finished before"),
        ImageOutcome("e", "imgs").skipped("a grid or sheet that cvae drew"),
        ImageOutcome("f", "imgs").failed("empty file"),
    ):
        report.add(outcome)
    assert (report.done, report.skipped, report.failed, report.planned) == (2, 3, 1, 0)
    assert report.labels == {"folder": 1, "predict": 2}
    assert report.skips == {"finished before": 2, "a grid or sheet that cvae drew": 1}
    assert (report.judged, report.judged_wrong, report.left_out, report.warned) == (4, 1, 2, 1)
    assert (report.compared, report.judged_odd) == (3, 2)


def test_exit_codes_are_those_of_shells() -> None:
    assert (Exit.INTERRUPTED, Exit.BROKEN_PIPE, Exit.TERMINATED) == (128 + 2, 128 + 13, 128 + 15)


def test_an_outcome_is_updated_as_records_are_replaced() -> None:
    before = ImageOutcome("a.png", "imgs", label="7")
    after = before.updated(status="done", targets=("1",))
    assert after == replace(before, status="done", targets=("1",))
    assert before == ImageOutcome("a.png", "imgs", label="7")
    with pytest.raises(TypeError, match="statsu"):
        before.updated(statsu="done")
