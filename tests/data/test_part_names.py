"""What the parts of a data set are usually called."""

from __future__ import annotations

import pytest

from cvae_cli.data.part_names import looks_like_part, part_of


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("Training", "train"), ("training_set", "train"), ("imagesTr", "train"),
        ("test-images", "test"), ("TST", "test"), ("imagesTs", "test"), ("testing", "test"),
        ("val2017", "val"), ("validation", "val"), ("dev", "val"),
        ("tr", None), ("trains", None), ("cat", None), ("images", None), ("7", None),
    ],
)  # fmt: skip
def test_the_usual_names_of_parts_are_known(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(("name", "does"), [("trainA", True), ("test_easy", True), ("tester", False)])
def test_what_begins_like_a_part_looks_like_one(name: str, does: bool) -> None:
    assert looks_like_part(name) is does
