from __future__ import annotations

import pytest
import torch

from cvae_cli.model.alignment import LatentAlignment
from cvae_cli.model.autoencoder import Encoded
from cvae_cli.training.latent_moments import LatentMoments
from cvae_cli.training.recipe import AlignmentRecipe


def latents(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents of two classes with means of 3 and -3."""
    y = torch.arange(count) % 2
    mu = torch.randn(count, 4) + torch.where(y == 0, 3.0, -3.0)[:, None]
    return mu, torch.full((count, 4), -2.0), y


def test_running_moments_approach_those_of_the_latents() -> None:
    torch.manual_seed(0)
    moments, alignment = LatentMoments(AlignmentRecipe(), 2, 4), LatentAlignment(2, 4)
    for step in range(101):
        moments.follow(alignment, *latents(64), step=step, warmup_steps=1)
    assert float(moments.share.sum()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(alignment.class_mean[0], torch.tensor(3.0), atol=0.3)
    assert torch.allclose(alignment.class_mean[1], torch.tensor(-3.0), atol=0.3)


def test_nothing_is_fitted_before_the_warm_up_or_without_alignment() -> None:
    for recipe, step in ((AlignmentRecipe(), 50), (AlignmentRecipe(strength=None), 1000)):
        moments, alignment = LatentMoments(recipe, 2, 4), LatentAlignment(2, 4)
        moments.follow(alignment, *latents(64), step=step, warmup_steps=200)
        assert alignment.class_mean.abs().max() == 0


def test_an_exact_fit_does_not_multiply_all_images_by_all_classes() -> None:
    at_once = []

    def encode(part: torch.Tensor, labels: torch.Tensor) -> Encoded:
        at_once.append(len(part))
        return Encoded(torch.randn(len(part), 4), torch.zeros(len(part), 4))

    moments = LatentMoments(AlignmentRecipe(strength=1.0), 1000, 4)
    y = torch.arange(1300) % 1000
    moments.fit_exactly(LatentAlignment(1000, 4), encode, torch.zeros(1300, 1, 1, 1), y)
    assert sum(at_once) == 1300
    assert max(at_once) <= 50


def test_an_exact_fit_takes_every_image() -> None:
    torch.manual_seed(0)
    moments, alignment = LatentMoments(AlignmentRecipe(strength=1.0), 2, 4), LatentAlignment(2, 4)
    mu, logvar, y = latents(1300)
    index = torch.arange(1300)[:, None, None, None]
    moments.fit_exactly(
        alignment, lambda part, labels: Encoded(mu[part[:, 0, 0, 0]], logvar[part[:, 0, 0, 0]]), index, y
    )
    shared = alignment(mu, y)
    for label in (0, 1):
        assert shared[y == label].mean(dim=0).abs().max() < 1e-3
