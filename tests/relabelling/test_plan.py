from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from cvae_cli.errors import UserError
from cvae_cli.images.discover import ImageRef
from cvae_cli.relabelling.labels import Label
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.plan import RelabelPlan, make_plan

REF = ImageRef(Path("imgs/a/x.png"), "a/x.png", "imgs", PurePosixPath("a/x"))


@pytest.fixture
def options(folder_of_digits: Path, tmp_path: Path) -> RelabelOptions:
    return RelabelOptions(sources=(folder_of_digits,), out=tmp_path / "out", targets=("3", "1"))


@pytest.fixture
def plan(options: RelabelOptions) -> RelabelPlan:
    return make_plan(options)


def test_a_plan_can_be_sent_to_another_process(plan: RelabelPlan) -> None:
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert again.fingerprint(REF, b"x", None) == plan.fingerprint(REF, b"x", None)


def test_targets_are_sorted_and_never_the_own_class(plan: RelabelPlan) -> None:
    assert plan.targets == (1, 3)
    assert plan.targets_of(3) == (1,)
    assert plan.targets_of(None) == (1, 3)
    assert plan.max_targets == 2
    assert replace(plan, targets=tuple(range(10))).max_targets == 9


def test_outputs_mirror_the_source(plan: RelabelPlan) -> None:
    assert plan.output_names(REF, (1, 3)) == ("a/x.png",)
    tiles = replace(plan, grids=False, tiles=True)
    assert tiles.output_names(REF, (1, 3)) == ("tiles/1/a/x.png", "tiles/3/a/x.png")
    both = replace(plan, tiles=True)
    assert both.output_names(REF, (1, 3), left_out=("1",)) == ("a/x.png", "tiles/3/a/x.png")
    inside = replace(REF, output=PurePosixPath("Tiles/1/x"))
    assert both.output_names(inside, ())[0] == "Tiles_/1/x.png"


def test_a_fingerprint_tells_everything_that_decides_the_pictures(plan: RelabelPlan) -> None:
    base = plan.fingerprint(REF, b"content", None)
    others = [
        plan.fingerprint(REF, b"changed", None),
        plan.fingerprint(replace(REF, relative="a/y.png"), b"content", None),
        plan.fingerprint(REF, b"content", Label(3, "folder")),
        plan.fingerprint(REF, b"content", Label(3, "csv")),
        *(
            replace(plan, **changes).fingerprint(REF, b"content", None)
            for changes in (
                {"model_sha256": "0"},
                {"targets": (1,)},
                {"invert": "always"},
                {"precision": "bf16"},
                {"judge_sha256": "0"},
                {"judge_sha256": "0", "min_confidence": 0.5},
            )
        ),
    ]
    assert len({base, *others}) == 1 + len(others)
    for changes in ({"out": Path("elsewhere")}, {"overwrite": True}, {"tiles": True}, {"sources": ()}):
        assert replace(plan, **changes).fingerprint(REF, b"content", None) == base


def test_options_are_checked_against_each_other(options: RelabelOptions) -> None:
    with pytest.raises(UserError, match="--write tiles"):
        make_plan(replace(options, min_confidence=0.5))
    with pytest.raises(UserError, match="is the source itself"):
        make_plan(replace(options, out=options.sources[0]))
    with pytest.raises(UserError, match="no class 'eleven'"):
        make_plan(replace(options, targets=("eleven",)))
