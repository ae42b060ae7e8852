from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from cvae_cli.model.alignment import LatentAlignment
from cvae_cli.model.losses import gaussian_kl


def latents_of_three_classes(count: int = 3000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents (N, 4) with another mean and covariance for every class, log-variances and labels."""
    torch.manual_seed(0)
    y = torch.arange(count) % 3
    shapes, places = torch.randn(3, 4, 4), torch.randn(3, 4)
    mu = torch.einsum("bij,bj->bi", shapes[y], torch.randn(count, 4)) + places[y]
    return mu, torch.randn(count, 4) - 2, y


def fitted() -> tuple[LatentAlignment, torch.Tensor, torch.Tensor, torch.Tensor]:
    mu, logvar, y = latents_of_three_classes()
    of_class = torch.nn.functional.one_hot(y, 3).float().T / len(y)
    alignment = LatentAlignment(3, 4)
    alignment.fit(
        of_class.sum(dim=1),
        of_class @ mu,
        torch.einsum("kb,bi,bj->kij", of_class, mu, mu),
        of_class @ logvar.exp(),
        images=len(y),
    )
    return alignment, mu, logvar, y


def test_aligned_latents_have_the_same_moments_in_every_class() -> None:
    alignment, mu, logvar, y = fitted()
    shared = alignment(mu, y)
    covariances = [torch.cov(shared[y == label].T) for label in range(3)]
    for label in range(3):
        assert shared[y == label].mean(dim=0).abs().max() < 0.01
        assert (covariances[label] - covariances[0]).abs().max() < 0.05
    # With the noise of the posteriors they are distributed as the prior is.
    noise = alignment.align_logvar(logvar, y).exp().mean(dim=0)
    assert (covariances[0].diagonal() + noise - 1).abs().max() < 0.05


def test_alignment_can_be_undone() -> None:
    alignment, mu, _, y = fitted()
    torch.testing.assert_close(alignment.inverse(alignment(mu, y), y), mu, rtol=1e-3, atol=1e-3)
    other = alignment.inverse(alignment(mu, y), (y + 1) % 3)
    assert torch.allclose(other[y == 0].mean(dim=0), mu[y == 1].mean(dim=0), atol=0.02)


def test_kl_in_the_shared_space_is_that_of_torch_distributions() -> None:
    alignment, mu, logvar, y = fitted()
    to_shared = alignment.to_shared[y]
    posterior = MultivariateNormal(
        alignment(mu, y), to_shared @ torch.diag_embed(logvar.exp()) @ to_shared.mT
    )
    prior = MultivariateNormal(torch.zeros(4), torch.eye(4))
    wanted = kl_divergence(posterior, prior).mean()
    assert alignment.kl(mu, logvar, y).item() == pytest.approx(wanted.item(), rel=1e-3)
    untouched = LatentAlignment(3, 4)
    assert untouched.kl(mu, logvar, y).item() == pytest.approx(gaussian_kl(mu, logvar).item(), rel=1e-4)


def test_a_class_with_few_latents_borrows_from_the_others() -> None:
    alignment = LatentAlignment(2, 8)
    torch.manual_seed(0)
    mu = torch.randn(1001, 8)
    y = torch.zeros(1001, dtype=torch.int64)
    y[0] = 1  # a single one, whose own covariance would be zero
    of_class = torch.nn.functional.one_hot(y, 2).float().T / len(y)
    square = torch.einsum("kb,bi,bj->kij", of_class, mu, mu)
    alignment.fit(of_class.sum(dim=1), of_class @ mu, square, of_class @ torch.ones(1001, 8), images=1001)
    assert alignment.to_shared.isfinite().all()
    assert alignment.to_shared[1].abs().max() < 20
