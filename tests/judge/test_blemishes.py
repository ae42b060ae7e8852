"""The second sign: a network that is taught with images spoiled on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvae_cli.judge import blemishes
from cvae_cli.judge.blemishes import (
    MAX_STEPS,
    MIN_STEPS,
    BlemishNetwork,
    count_steps,
    random_blemish,
    random_softness,
    train_blemishes,
)


def bars(count: int, seed: int) -> torch.Tensor:
    """Sound images: a bright bar somewhere."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 1, 20, 20), np.uint8)
    for image in images:
        left, width = random.integers(2, 14), random.integers(2, 5)
        image[0, 3:17, left : left + width] = random.integers(180, 256)
    return torch.from_numpy(images)


def test_a_blemish_is_a_change_at_one_place_where_there_is_something() -> None:
    torch.manual_seed(0)
    x = bars(64, 0).float() / 255
    spoiled = random_blemish(x)
    assert spoiled.shape == x.shape
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    changed = (spoiled - x).abs() > 0.05
    assert changed.flatten(1).any(dim=1).float().mean() > 0.8
    # Nowhere near all of the image, and never far from the bar, whose columns +-9 are the most.
    assert changed.float().mean() < 0.2
    colour = x.repeat(1, 3, 1, 1)
    assert random_blemish(colour).shape == colour.shape
    blank = torch.zeros(4, 1, 20, 20)
    assert random_blemish(blank).isfinite().all()


def test_softness_keeps_dark_dark_and_bright_bright() -> None:
    torch.manual_seed(0)
    x = bars(32, 1).float() / 255
    soft = random_softness(x)
    assert not torch.equal(soft, x)
    assert soft[:, :, 0].max() <= 0.1 + 1e-6  # the least contrast makes black a tenth
    assert (soft.amax(dim=(1, 2, 3)) <= x.amax(dim=(1, 2, 3)) + 1e-6).all()
    assert (soft.amax(dim=(1, 2, 3)) > 0.5).all()


@pytest.mark.long
def test_it_finds_a_dot_that_it_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blemishes, "MIN_STEPS", 300)
    torch.manual_seed(0)
    steps: list[tuple[int, int]] = []
    network = train_blemishes(
        bars(400, 0), torch.device("cpu"), lambda done, total: steps.append((done, total))
    )
    assert steps[0] == (1, 300)
    assert steps[-1] == (300, 300)
    unseen = bars(200, 1).float() / 255
    dotted = unseen.clone()
    for number, image in enumerate(dotted):
        left = int(image[0, 10].argmax())
        at = left - 3 if left > 8 else left + 7
        image[0, 8 + number % 4 : 10 + number % 4, at : at + 2] = 0.4
    with torch.inference_mode():
        sound, spoiled = network(unseen), network(dotted)
    assert (spoiled[:, None] > sound[None]).float().mean() > 0.85  # the area under the ROC curve


def test_folding_keeps_the_function() -> None:
    torch.manual_seed(0)
    network = BlemishNetwork(3, (4, 6, 8), training=True)
    for _ in range(3):
        network(torch.rand(8, 3, 16, 16))
    x = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        folded = network.fold(3)(x)
        assert folded.shape == (5,)
        assert torch.allclose(folded, network.eval()(x), atol=1e-5)


def test_steps_grow_with_the_images_within_bounds() -> None:
    assert count_steps(10) == MIN_STEPS
    assert count_steps(60_000) == MAX_STEPS
    assert MIN_STEPS < count_steps(10_000) < MAX_STEPS
