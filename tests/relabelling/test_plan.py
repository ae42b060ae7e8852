from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from helpers import export_untrained

from cvae_cli.errors import UserError
from cvae_cli.images.discover import ImageRef
from cvae_cli.model import registry
from cvae_cli.model.spec import ModelSpec
from cvae_cli.outcomes import Output
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
    assert again.fingerprint(REF, "x", None) == plan.fingerprint(REF, "x", None)


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
    assert both.outputs(REF, (1, 3), left_out=("1",)) == (
        Output("grid", "a/x.png"),
        Output("tile", "tiles/3/a/x.png", "3"),
    )
    assert replace(tiles, tiles=False, parquet=True).outputs(REF, (1, 3)) == ()
    inside = replace(REF, output=PurePosixPath("Tiles/1/x"))
    assert both.output_names(inside, ())[0] == "Tiles_/1/x.png"


def test_auto_is_a_precision_of_its_own_only_where_it_may_differ_from_fp32(plan: RelabelPlan) -> None:
    def fingerprint(precision: str, auto: str) -> str:
        spec = replace(plan.spec, tile_widths=(), auto_precision=auto)
        return replace(plan, precision=precision, spec=spec).fingerprint(REF, "content", None)

    # As it was before models said anything of it, so that what was finished then still is.
    assert fingerprint("auto", "fp32") == fingerprint("fp32", "fp32") == fingerprint("fp32", "bf16")
    assert len({fingerprint(asked, "bf16") for asked in ("auto", "fp32", "bf16")}) == 3


def test_a_fingerprint_tells_everything_that_decides_the_pictures(plan: RelabelPlan) -> None:
    base = plan.fingerprint(REF, "content", None)
    others = [
        plan.fingerprint(REF, "changed", None),
        plan.fingerprint(replace(REF, relative="a/y.png"), "content", None),
        plan.fingerprint(REF, "content", Label(3, "folder")),
        plan.fingerprint(REF, "content", Label(3, "csv")),
        *(
            replace(plan, **changes).fingerprint(REF, "content", None)
            for changes in (
                {"model_sha256": "0"},
                {"targets": (1,)},
                {"invert": "always"},
                {"fit": "stretch"},
                {"precision": "bf16"},
                {"judge_sha256": "0"},
                {"judge_sha256": "0", "min_confidence": 0.5},
                {"judge_sha256": "0", "min_realism": 0.5},
                {"judge_sha256": "0", "min_confidence": 0.5, "min_realism": 0.5},
                {"judge_sha256": "0", "min_realism": 0.1},
            )
        ),
    ]
    assert len({base, *others}) == 1 + len(others)
    for changes in ({"out": Path("elsewhere")}, {"overwrite": True}, {"tiles": True}, {"sources": ()}):
        assert replace(plan, **changes).fingerprint(REF, "content", None) == base


def test_options_are_checked_against_each_other(options: RelabelOptions) -> None:
    with pytest.raises(UserError, match="--write tiles"):
        make_plan(replace(options, min_confidence=0.5))
    with pytest.raises(UserError, match="--min-realism leaves out tiles: add --write tiles"):
        make_plan(replace(options, min_realism=0.5))
    with pytest.raises(UserError, match="--fit is for models of photographs: mnist"):
        make_plan(replace(options, fit="crop"))
    with pytest.raises(UserError, match="is the source itself"):
        make_plan(replace(options, out=options.sources[0]))
    with pytest.raises(UserError, match="no class 'eleven'"):
        make_plan(replace(options, targets=("eleven",)))


@pytest.mark.parametrize(
    ("targets", "indices"),
    [
        ((), tuple(range(10))),
        (("all",), tuple(range(10))),
        (("All", "3"), tuple(range(10))),
        (("7", "1"), (1, 7)),
        (("7, 1,,3", "1"), (1, 3, 7)),
        (("07",), (7,)),
    ],
)
def test_targets_as_they_may_be_written(
    options: RelabelOptions, targets: tuple[str, ...], indices: tuple[int, ...]
) -> None:
    assert make_plan(replace(options, targets=targets)).targets == indices


def test_a_class_whose_name_has_a_comma_is_one_target(
    options: RelabelOptions, small_spec: ModelSpec, tmp_path: Path
) -> None:
    spec = replace(small_spec, classes=("cats, small", "dog", "all"))
    model = export_untrained(spec, tmp_path / "model" / "odd.safetensors")
    for targets, indices in ((("cats, small",), (0,)), (("all",), (2,)), (("dog,all",), (1, 2))):
        assert make_plan(replace(options, model=str(model), targets=targets)).targets == indices


def test_a_plan_says_what_is_loaded(options: RelabelOptions) -> None:
    plan = make_plan(replace(options, write="both", check=True, min_confidence=0.5))
    assert (plan.grids, plan.tiles, plan.precision) == (True, True, "auto")
    assert plan.model_file == registry.shipped()["mnist"]
    assert plan.judge_file == registry.shipped("judge")["mnist-judge"]
    assert plan.judge_sha256 == registry.read_metadata(plan.judge_file)["sha256"]
    least = make_plan(replace(options, write="tiles", min_realism=0.02))
    assert (least.judge_file, least.min_realism, least.min_confidence) == (plan.judge_file, 0.02, None)
    plain = make_plan(options)
    assert (plain.grids, plain.tiles, plain.judge_file, plain.judge_sha256) == (True, False, None, None)


def test_pictures_of_earlier_versions_stay_finished(plan: RelabelPlan) -> None:
    """The fingerprint of a run without ``--min-realism`` is what it was before there was this option.

    By a model that is drawn in fp32, as all were then.
    """
    plan = replace(plan, spec=replace(plan.spec, tile_widths=(), auto_precision="fp32"))
    parts = [
        2, "a/x.png", hashlib.sha256(b"x").hexdigest(), plan.model_sha256, "predict", [1, 3], "auto", "fp32",
    ]  # fmt: skip
    for changes, more in (
        ({}, []),
        ({"judge_sha256": "0"}, [["0", None]]),
        ({"judge_sha256": "0", "min_confidence": 0.5}, [["0", 0.5]]),
    ):
        expected = hashlib.sha256(json.dumps(parts + more).encode()).hexdigest()[:32]
        assert replace(plan, **changes).fingerprint(REF, hashlib.sha256(b"x").hexdigest(), None) == expected
