from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

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


def test_hinge_is_zero_beyond_the_margin_only() -> None:
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])
    assert losses.discriminator_hinge(good, bad).item() == 0
    assert losses.discriminator_hinge(bad, good).item() == pytest.approx(3.0 + 2.5)
