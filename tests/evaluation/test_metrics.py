"""Each metric against another library's, or against a case whose value is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg, spatial, stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from cvae_cli.evaluation import metrics


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pearson(random: np.random.Generator) -> None:
    a = random.normal(size=50).astype(np.float32)
    b = (a + random.normal(size=50)).astype(np.float32)
    assert metrics.pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)
    assert np.isnan(metrics.pearson(a, np.ones(50, np.float32)))
    assert np.isnan(metrics.pearson(a[:2], b[:2]))


def test_frechet_distance(random: np.random.Generator) -> None:
    a = random.normal(size=(400, 6)) @ random.normal(size=(6, 6))
    b = random.normal(size=(300, 6)) @ random.normal(size=(6, 6)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * linalg.sqrtm(ca @ cb).real)
    assert metrics.frechet_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(wanted, rel=1e-6)
    assert metrics.frechet_distance(torch.tensor(a), torch.tensor(a)) == pytest.approx(0, abs=1e-6)
    # Features that are always zero, as behind a ReLU, make the covariance singular.
    flat = np.concatenate([a, np.zeros((400, 2))], axis=1)
    assert metrics.frechet_distance(torch.tensor(flat), torch.tensor(flat)) == pytest.approx(0, abs=1e-6)


def test_precision_and_recall(random: np.random.Generator) -> None:
    real, drawn = random.normal(size=(300, 4)), 0.5 * random.normal(size=(250, 4)) + 0.5

    def covered(points: np.ndarray, manifold: np.ndarray) -> float:
        reach = NearestNeighbors(n_neighbors=6).fit(manifold).kneighbors(manifold)[0][:, 5]
        return float((spatial.distance.cdist(points, manifold) <= reach).any(axis=1).mean())

    precision, recall = metrics.precision_recall(torch.tensor(drawn), torch.tensor(real))
    assert precision == pytest.approx(covered(drawn, real))
    assert recall == pytest.approx(covered(real, drawn))
    assert recall < precision  # narrower than real: all of it believable, much of it missing


def test_one_prototype_has_neither_diversity_nor_recall(random: np.random.Generator) -> None:
    real = torch.tensor(random.normal(size=(300, 4)))
    prototype = torch.zeros(300, 4, dtype=torch.float64)
    precision, recall = metrics.precision_recall(prototype, real)
    assert (precision, recall) == (1.0, 0.0)
    assert metrics.mean_distance(prototype) == 0


def test_mean_distance(random: np.random.Generator) -> None:
    points = random.normal(size=(2300, 3))
    wanted = spatial.distance.pdist(points).mean()
    assert metrics.mean_distance(torch.tensor(points)) == pytest.approx(wanted, rel=1e-6)
    assert np.isnan(metrics.mean_distance(torch.zeros(1, 3)))


def test_linear_probe_finds_what_is_linear(random: np.random.Generator) -> None:
    latents = random.normal(size=(4000, 5)).astype(np.float32)
    labels = np.digitize(latents[:, 0] + 0.5 * random.normal(size=4000), [-0.7, 0.7])
    train, test = slice(0, 3000), slice(3000, 4000)
    reference = LogisticRegression(max_iter=500).fit(latents[train], labels[train])
    wanted = reference.score(latents[test], labels[test])
    tensors = torch.tensor(latents), torch.tensor(labels)
    with torch.inference_mode():
        got = metrics.linear_probe(*(t[train] for t in tensors), *(t[test] for t in tensors))
    assert got == pytest.approx(wanted, abs=0.01)
    assert got > 0.6
    shuffled = tensors[1][torch.randperm(4000, generator=torch.Generator().manual_seed(0))]
    got = metrics.linear_probe(tensors[0][train], shuffled[train], tensors[0][test], shuffled[test])
    assert got == pytest.approx(float(shuffled[test].bincount().max() / 1000), abs=0.06)
