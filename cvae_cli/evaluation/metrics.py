"""Measures of drawn images against real ones, on plain arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 5


def pearson(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's r of two (N,) arrays; nan where one of them is constant or N < 3."""
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else float("nan")


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features: |m - m'|^2 + tr(C + C' - 2 (C C')^1/2).

    Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash
    equilibrium", eq. 6; there with Inception's features, which these are not.

    Args:
        a: (N, D).
        b: (M, D).

    Returns:
        nan for N < 2 or M < 2.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    a, b = a.double(), b.double()
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    # tr (Ca Cb)^1/2 = tr (Ca^1/2 Cb Ca^1/2)^1/2, of a symmetric matrix.
    values, vectors = torch.linalg.eigh(ca)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cb @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return float(shift + ca.trace() + cb.trace() - 2 * cross)


def precision_recall(drawn: Tensor, real: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of drawn images within the real ones' manifold, and the other way round.

    Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative
    models", eq. 1-3: a manifold is the union of balls around its points, each as large as the
    distance to its k-th nearest neighbour. Both depend on the numbers of points: compare only
    values for equal numbers.

    Args:
        drawn: (N, D) features.
        real: (M, D) features.
        k: which neighbour, not counting the point itself; among fewer points, the farthest.

    Returns:
        nan twice for N < 2 or M < 2.
    """
    if min(len(drawn), len(real)) < 2:
        return float("nan"), float("nan")
    return _covered(drawn, real, k), _covered(real, drawn, k)


def _covered(points: Tensor, manifold: Tensor, k: int) -> float:
    k = min(k, len(manifold) - 1)
    radii = torch.cat(
        [torch.cdist(part, manifold).kthvalue(k + 1, dim=1).values for part in manifold.split(1000)]
    )
    inside = [(torch.cdist(part, manifold) <= radii).any(dim=1) for part in points.split(1000)]
    return float(torch.cat(inside).float().mean())


def mean_distance(features: Tensor) -> float:
    """Mean Euclidean distance between all pairs of N points, (N, D); nan for N < 2."""
    count = len(features)
    if count < 2:
        return float("nan")
    # In single precision the distance between equal points is not zero.
    features = features.double()
    total = sum(float(torch.cdist(part, features).sum()) for part in features.split(2000))
    return total / (count * (count - 1))


def linear_probe(
    latents: Tensor, labels: Tensor, test_latents: Tensor, test_labels: Tensor, *, steps: int = 100
) -> float:
    """Accuracy with which a linear classifier predicts labels from latents (Alain & Bengio 2017).

    Multinomial logistic regression on standardised latents, fitted by L-BFGS, with the smallest L2
    penalty that keeps it bounded.

    Args:
        latents: (N, Z), to fit on.
        labels: (N,) int64.
        test_latents: (M, Z), to measure on.
        test_labels: (M,) int64.
        steps: of L-BFGS.
    """
    # A caller that draws pictures has gradients turned off.
    with torch.inference_mode(False), torch.enable_grad():
        latents, test_latents = latents.clone().float(), test_latents.clone().float()
        mean, std = latents.mean(dim=0), latents.std(dim=0).clamp(min=1e-6)
        x, wanted = (latents - mean) / std, labels.clone()
        weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
        bias = torch.zeros(weight.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(x @ weight + bias, wanted) + 1e-4 * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            predicted = (((test_latents - mean) / std) @ weight + bias).argmax(dim=1)
        return float((predicted == test_labels).float().mean())
