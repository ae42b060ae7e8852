"""``--check`` and ``--min-confidence``: the judge's verdict beside every tile."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import manifest_lines, tree
from PIL import Image
from safetensors.torch import load, save

from cvae_cli.errors import UserError
from cvae_cli.images import png
from cvae_cli.judge.marks import ODD
from cvae_cli.model import registry
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.run import relabel


def options(examples: Path, out: Path, **changes: object) -> RelabelOptions:
    asked = RelabelOptions(sources=(examples,), out=out, device="cpu", batch_size=4, check=True)
    return replace(asked, **changes)


def test_every_tile_is_judged_in_picture_and_manifest(examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcomes = list(relabel(options(examples, out)))
    assert {outcome.status for outcome in outcomes} == {"done"}
    for outcome in outcomes:
        assert set(outcome.judged or {}) == set(outcome.targets)
        assert len(outcome.targets) == 9
        provenance = png.read_provenance(out / outcome.paths[0]) or {}
        assert provenance["judged"] == outcome.judged
    shares = [share for outcome in outcomes for share in (outcome.judged or {}).values()]
    assert np.mean(np.array(shares) > 0.9) > 0.9  # our own digits: nearly all are sure
    lines = manifest_lines(out)
    assert [line["judged"] for line in lines] == [outcome.judged for outcome in outcomes]
    plain = tmp_path / "plain"
    list(relabel(options(examples, plain, check=False)))
    marked, unmarked = (np.asarray(Image.open(folder / "chalk-00.png")) for folder in (out, plain))
    rows = np.flatnonzero((marked != unmarked).any(axis=1))
    assert len(rows)
    assert rows.min() > marked.shape[0] - 40  # nothing but the strip under the tiles


def test_without_check_there_is_no_verdict(examples: Path, tmp_path: Path) -> None:
    outcomes = list(relabel(options(examples / "7", tmp_path / "out", check=False)))
    assert [outcome.judged for outcome in outcomes] == [None] * len(outcomes)
    assert outcomes[0].to_dict()["left_out"] is None


def test_verdicts_do_not_depend_on_the_neighbours(examples: Path, tmp_path: Path) -> None:
    whole = list(relabel(options(examples, tmp_path / "a")))
    alone = list(relabel(options(examples / "chalk-03.png", tmp_path / "b")))
    same = next(outcome for outcome in whole if outcome.path == "chalk-03.png")
    assert alone[0].judged == same.judged
    pictures = [np.asarray(Image.open(tmp_path / name / "chalk-03.png")) for name in "ab"]
    assert np.array_equal(*pictures)


def test_tiles_below_the_least_confidence_are_left_out(examples: Path, tmp_path: Path) -> None:
    every = list(relabel(options(examples, tmp_path / "all", write="tiles")))
    shares = sorted(share for outcome in every for share in (outcome.judged or {}).values())
    least = shares[len(shares) // 2]  # half of them
    out = tmp_path / "some"
    outcomes = list(relabel(options(examples, out, write="tiles", check=False, min_confidence=least)))
    left_out = 0
    for outcome in outcomes:
        judged = outcome.judged or {}
        assert set(outcome.left_out) == {name for name, share in judged.items() if share < least}
        assert len(outcome.paths) == len(judged) - len(outcome.left_out)
        left_out += len(outcome.left_out)
    assert 0 < left_out < len(shares)
    written = {name for outcome in outcomes for name in outcome.paths}
    assert set(tree(out)) == written
    # Again: finished, although some tiles are not there.
    again = list(relabel(options(examples, out, write="tiles", check=False, min_confidence=least)))
    assert {outcome.status for outcome in again if outcome.paths} == {"skipped"}
    assert [outcome.left_out for outcome in again] == [outcome.left_out for outcome in outcomes]
    assert [outcome.judged for outcome in again] == [outcome.judged for outcome in outcomes]


def test_tiles_of_an_earlier_run_that_are_too_unsure_now_go(examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(relabel(options(examples, out, write="tiles", check=False)))
    before = set(tree(out))
    outcomes = list(relabel(options(examples, out, write="tiles", min_confidence=0.9999)))
    assert set(tree(out)) == {name for outcome in outcomes for name in outcome.paths}
    assert set(tree(out)) < before


def test_a_grid_shows_also_what_is_left_out_of_the_tiles(examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcomes = list(relabel(options(examples / "7", out, write="both", min_confidence=1.0)))
    assert all(outcome.paths[0] in tree(out) for outcome in outcomes)
    again = list(relabel(options(examples / "7", out, write="both", min_confidence=1.0)))
    assert {outcome.status for outcome in again} == {"skipped"}


def test_odd_tiles_are_named_and_may_be_left_out(examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    every = list(relabel(options(examples, out, write="tiles")))
    for outcome in every:
        realism = outcome.judged_realism or {}
        assert tuple(realism) == outcome.targets
        assert set(outcome.judged_odd) == {name for name, share in realism.items() if share < ODD}
    odd = {(outcome.path, name) for outcome in every for name in outcome.judged_odd}
    assert odd
    assert ("7/chalk.png", "2") not in odd
    assert len(odd) < 0.2 * 216
    before = set(tree(out))
    outcomes = list(relabel(options(examples, out, write="tiles", check=False, min_realism=ODD)))
    assert {(outcome.path, name) for outcome in outcomes for name in outcome.left_out} == odd
    assert len(before) - len(tree(out)) == len(odd)
    again = list(relabel(options(examples, out, write="tiles", check=False, min_realism=ODD)))
    assert {outcome.status for outcome in again if outcome.paths} == {"skipped"}
    assert [outcome.judged_odd for outcome in again] == [outcome.judged_odd for outcome in every]
    assert [outcome.judged_realism for outcome in again] == [outcome.judged_realism for outcome in every]


def test_a_judge_without_a_bank_marks_as_before(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = registry.shipped("judge")["mnist-judge"]
    tensors = load(shipped.read_bytes())
    content = save({name: one for name, one in tensors.items() if name.startswith(("conv", "head"))})
    raw = json.loads(shipped.with_suffix(".json").read_text())
    del raw["spec"]["bank"], raw["spec"]["blemish_widths"]
    raw |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    old = tmp_path / "old.safetensors"
    old.write_bytes(content)
    old.with_suffix(".json").write_text(json.dumps(raw))
    monkeypatch.setattr("cvae_cli.relabelling.plan.find_judge", lambda _: old)
    (outcome, _) = relabel(options(examples / "7", tmp_path / "out"))
    line = outcome.to_dict()
    assert len(line["judged"]) == 9
    assert line["judged_odd"] is line["judged_realism"] is None
    with pytest.raises(UserError, match="this judge has no bank of real images"):
        relabel(options(examples / "7", tmp_path / "out", write="tiles", min_realism=0.01))


def test_least_confidence_needs_tiles_and_a_judge(examples: Path, small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--write tiles"):
        relabel(options(examples, tmp_path / "out", min_confidence=0.5))
    with pytest.raises(UserError, match="run cvae evaluate once"):
        relabel(options(examples, tmp_path / "out", model=str(small_model)))
    assert not (tmp_path / "out").exists()
