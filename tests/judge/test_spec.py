from __future__ import annotations

import pytest

from cvae_cli.errors import WeightsError
from cvae_cli.judge.spec import JudgeSpec


@pytest.mark.parametrize(
    "spec",
    [
        JudgeSpec(("a", "b"), 16, 3),
        JudgeSpec(("a", "b"), 32, 3, (64, 256, 384), patch=3, bank=(9, 0), blemish_widths=(24, 32)),
    ],
)
def test_round_trip_through_json(spec: JudgeSpec) -> None:
    assert JudgeSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [({"patch": True}, "patch"), ({"channels": 4}, "channels"), ({"depth": 2}, "depth")],
)
def test_a_bad_field_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        JudgeSpec.from_dict({**JudgeSpec(("a", "b"), 16, 3).to_dict(), **change})
