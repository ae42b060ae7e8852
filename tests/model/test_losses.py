from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Laplace, Normal, kl_divergence

from cvae_cli.model import losses


def test_kl_is_that_of_torch_distributions() -> None:
    mu, logvar = torch.randn(5, 7), torch.randn(5, 7)
    posterior = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    prior = Independent(Normal(torch.zeros(5, 7), torch.ones(5, 7)), 1)
    assert losses.gaussian_kl(mu, logvar).item() == pytest.approx(
        kl_divergence(posterior, prior).mean().item(), rel=1e-5
    )


def test_kl_of_the_prior_itself_is_zero() -> None:
    assert losses.gaussian_kl(torch.zeros(3, 4), torch.zeros(3, 4)).item() == 0


def test_bernoulli_nll_is_that_of_torch_distributions() -> None:
    logits, x = torch.randn(4, 1, 6, 6), torch.randint(0, 2, (4, 1, 6, 6)).float()
    expected = -Independent(Bernoulli(logits=logits), 3).log_prob(x).mean()
    assert losses.bernoulli_nll(logits, x).item() == pytest.approx(expected.item(), rel=1e-5)


def test_laplace_nll_is_that_of_torch_distributions() -> None:
    logits, x, log_scale = torch.randn(4, 3, 6, 6), torch.rand(4, 3, 6, 6), torch.tensor(-1.7)
    expected = -Independent(Laplace(torch.sigmoid(logits), log_scale.exp()), 3).log_prob(x).mean()
    assert losses.laplace_nll(logits, x, log_scale).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gaussian_nll_is_that_of_torch_distributions() -> None:
    logits, x, log_scale = torch.randn(4, 3, 6, 6), torch.rand(4, 3, 6, 6), torch.tensor(-1.7)
    expected = -Independent(Normal(torch.sigmoid(logits), log_scale.exp()), 3).log_prob(x).mean()
    assert losses.gaussian_nll(logits, x, log_scale).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_best_laplace_scale_is_the_mean_error() -> None:
    logits, x = torch.zeros(1, 1, 2, 2), torch.tensor([0.4, 0.6, 0.3, 0.7]).reshape(1, 1, 2, 2)
    log_scale = torch.tensor(0.15).log().requires_grad_()
    losses.laplace_nll(logits, x, log_scale).backward()
    assert log_scale.grad is not None
    assert log_scale.grad.item() == pytest.approx(0, abs=1e-5)


def test_hinge_is_zero_beyond_the_margin_only() -> None:
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])
    assert losses.discriminator_hinge(good, bad).item() == 0
    assert losses.discriminator_hinge(bad, good).item() == pytest.approx(3.0 + 2.5)


def test_absolute_error_is_summed_over_pixels_and_averaged_over_images() -> None:
    logits = torch.full((3, 1, 4, 4), 100.0)
    x = torch.zeros(3, 1, 4, 4)
    x[0] = 1
    assert losses.absolute_error(logits, x).item() == pytest.approx(2 * 16 / 3)
