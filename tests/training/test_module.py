from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from helpers import small_recipe

from cvae_cli.data.labelled import LabelledImages
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.module import TrainingModule, _mosaic
from cvae_cli.training.recipes import MNIST


def images() -> LabelledImages:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(40) % 10, MNIST.spec.classes)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = small_recipe(MNIST)
    module = TrainingModule(replace(recipe, optimizer=replace(recipe.optimizer, warmup_steps=10)), images())
    module._trainer = Mock(estimated_stepping_batches=200)
    configured = module.configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert [factor(step) for step in (0, 4)] == pytest.approx([0.1, 0.5], rel=0.01)
    assert factor(9) > 0.99
    assert factor(100) == pytest.approx(0.5)
    assert factor(200) == pytest.approx(0, abs=1e-9)
    assert sorted((factor(step) for step in range(9, 200)), reverse=True) == [
        factor(step) for step in range(9, 200)
    ]


def test_the_ema_is_measured_outside_of_lightning_too() -> None:
    data = images()
    metrics = TrainingModule(small_recipe(MNIST), data).measure(data, count=20)
    assert metrics["elbo"] == pytest.approx(-(metrics["recon_loss"] + metrics["kl"]), rel=1e-5)
    assert metrics["label_effect"] > 0
    right = 20 * metrics["effectiveness"]
    assert right == pytest.approx(round(right), abs=1e-4)  # of 20 tiles, one per image


def test_a_picture_has_a_row_per_image() -> None:
    tiles = torch.arange(6, dtype=torch.uint8).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 5)
    picture = _mosaic(tiles)
    assert picture.shape == (1, 8, 15)
    assert picture[0, ::4, ::5].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_precision_is_judged_by_the_tiles_that_are_drawn_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """With latents shrunk as the exported spec says, which it does not know while it trains."""
    torch.manual_seed(0)
    module = TrainingModule(small_recipe(MNIST), images(), validation=images())
    judged = []

    def fit(model: ConditionalVAE, *_: torch.Tensor) -> tuple[ConditionalVAE, str]:
        judged.append(model.spec.latent_norm)
        return model, "bf16"

    monkeypatch.setattr("cvae_cli.training.module.fit_to_bf16", fit)
    model, spec = module.exported()
    assert judged == [module.latent_norm()]
    assert (spec.latent_norm, spec.auto_precision) == (judged[0], "bf16")
    ema = module.objective.networks.ema
    assert ema.spec.latent_norm is None
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ema.parameters(), strict=True))
