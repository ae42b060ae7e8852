from __future__ import annotations

import dataclasses
import json

import pytest

from cvae_cli.images.preprocessing import Preprocessing


def test_only_steps_that_were_taken_are_recorded() -> None:
    assert Preprocessing().to_dict() == {}
    done = Preprocessing(size=(30, 20), mode="L", inverted=True, contrast=0.0)
    assert done.to_dict() == {"size": [30, 20], "mode": "L", "inverted": True, "contrast": 0.0}


def test_every_step_can_be_written_as_json() -> None:
    every = Preprocessing(
        size=(30, 20), mode="RGB", frames=2, orientation=6, reduced=4, missing_end=True,
        composited="on black", scaled_from="uint16", bits=12, stretched=(1000, 1255), channels=(3, 1),
        sheet=(1, 2, 3, 4), inverted=True, fit="pad", cut=(-1, 0, 5, 6), resized=(28, 28), contrast=1.5,
    )  # fmt: skip
    taken = every.to_dict()
    assert taken.keys() == {field.name for field in dataclasses.fields(Preprocessing)}
    assert json.loads(json.dumps(taken)) == taken
    assert taken["cut"] == [-1, 0, 5, 6]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Preprocessing().inverted = True  # type: ignore[misc]
