from __future__ import annotations

from dataclasses import replace

import pytest

from cvae_cli.errors import WeightsError
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import RECIPES


def test_a_recipe_of_another_version_is_refused() -> None:
    raw = RECIPES["mnist"].to_dict()
    with pytest.raises(WeightsError, match="no_such_option"):
        Recipe.from_dict({**raw, "loss": {**raw["loss"], "no_such_option": 1}})


def test_fine_tuning_takes_the_last_epochs() -> None:
    photographs = RECIPES["cifar10"]
    assert [photographs.fine_tuning_begins(epochs) for epochs in (1, 5, 20)] == [1, 3, 12]
    assert replace(photographs, fine_tuning=None).fine_tuning_begins(20) == 20
