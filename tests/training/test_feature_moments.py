"""Moments and distances of tiles in features, compared with those of real images."""

from __future__ import annotations

import pytest
import torch

from cvae_cli.training import feature_moments
from cvae_cli.training.feature_moments import FeatureMoments

CLASSES, SIZES = 3, (8, 4)


def batch(count: int, *, shift: float = 0.0, spread: float = 1.0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features that depend on the class, and its labels."""
    y = torch.arange(count) % CLASSES
    parts = [spread * torch.randn(count, size) + y[:, None] + shift for size in SIZES]
    return parts, y


def after(steps: int, **tiles: float) -> tuple[FeatureMoments, float, float]:
    torch.manual_seed(0)
    moments = FeatureMoments(CLASSES, SIZES)
    value = distances = torch.zeros(())
    for _ in range(steps):
        real, y = batch(60)
        drawn, target = batch(60, **tiles)
        value, distances = moments(real, y, drawn, target)
    return moments, float(value), float(distances)


def test_nothing_is_said_before_enough_has_been_seen() -> None:
    assert after(4, shift=2.0)[1:] == (0.0, 0.0)
    assert after(6, shift=2.0)[1] > 0.1


def test_tiles_like_real_images_cost_nothing() -> None:
    moments, value, _ = after(40)
    assert value < 0.01
    real, y = batch(60)
    assert float(moments(real, y, real, y)[1]) == 0.0


def test_what_is_off_is_measured_in_standard_deviations() -> None:
    assert after(60, shift=2.0)[1] == pytest.approx(2.0, abs=0.2)
    assert after(60, spread=0.1)[1] == pytest.approx(0.25, abs=0.05)
    assert after(60, spread=0.1)[2] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("off", [{"shift": 1.0}, {"spread": 0.5}, {"spread": 2.0}])
def test_its_gradient_brings_tiles_to_the_real_moments(off: dict[str, float]) -> None:
    moments, before, _ = after(20, **off)
    drawn, target = batch(60, **off)
    tiles = [part.requires_grad_() for part in drawn]
    real, y = batch(60)
    value, _ = moments(real, y, tiles, target)
    value.backward()
    moved = []
    for part, classes in zip(tiles, (target,) * 2, strict=True):
        assert part.grad is not None
        step = part.detach() - 200 * part.grad
        for which in (part.detach(), step):
            residual = which - classes[:, None]
            moved.append(float(residual.mean().abs() + (residual.var() - 1).abs()))
    assert moved[1] < moved[0]
    assert moved[3] < moved[2]
    assert before > 0.02


def test_distances_without_pdist_are_the_same() -> None:
    x = torch.rand(5, 3)
    assert torch.allclose(feature_moments._apart_by_pairs(x), torch.nn.functional.pdist(x))


def test_one_image_has_no_distance() -> None:
    moments, _, _ = after(20)
    value, distances = moments(*batch(1), *batch(1))
    assert (bool(value.isfinite()), float(distances)) == (True, 0.0)


def test_without_features_checkpoints_hold_nothing_of_it() -> None:
    assert FeatureMoments(CLASSES, ()).state_dict() == {}
    assert len(FeatureMoments(CLASSES, SIZES).state_dict()) == 3


def test_the_window_forgets() -> None:
    moments, _, _ = after(60, shift=3.0)
    for _ in range(100):
        value, _ = moments(*batch(60), *batch(60))
    assert float(value) < 0.05
    assert float(moments.seen.max()) == 500
