from __future__ import annotations

import pytest
import torch

from cvae_cli.data.fitting import Fitting, fit, temperature
from cvae_cli.model.whitened import WhitenedClassifier


@pytest.mark.parametrize(
    ("options", "count", "side", "batch", "steps"),
    [
        (Fitting(10), 45_000, 32, 1024, 430),
        (Fitting(10), 100, 32, 12, 80),
        (Fitting(1, min_steps=50), 100, 32, 12, 56),
        (Fitting(2), 5, 28, 2, 4),
        # Of larger images as many as take the same memory.
        (Fitting(10), 45_000, 64, 256, 1750),
        (Fitting(1), 45_000, 256, 16, 2812),
    ],
)
def test_how_long(options: Fitting, count: int, side: int, batch: int, steps: int) -> None:
    assert options.batch(count, side) == batch
    assert options.steps(count, side) == steps


def test_a_classifier_learns_and_each_step_is_reported() -> None:
    torch.manual_seed(0)
    y = torch.arange(200) % 4
    # Four textures: brightness alone does not tell them apart.
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    textures = torch.stack([rows % 2, columns % 2, (rows + columns) % 2, rows // 4 % 2])
    images = (textures[y][:, None] * 120 + torch.randint(0, 100, (200, 3, 16, 16))).to(torch.uint8)
    network = WhitenedClassifier(3, (8, 16), 4)
    steps: list[tuple[int, int]] = []
    options = Fitting(8, noise=0.05, cutout=0.25)
    fit(
        network, options, images, y,
        prepare=lambda batch: batch.float() / 255, bf16=False, progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert steps == [(number, 64) for number in range(1, 65)]
    predicted = network.mirrored_logits(images.float() / 255).argmax(dim=1)
    assert (predicted == y).float().mean() > 0.9


def test_temperature_makes_certainty_true() -> None:
    dice = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=dice)
    y = torch.multinomial(logits.softmax(dim=1), 1, generator=dice)[:, 0]
    assert temperature(4 * logits, y) == pytest.approx(4, rel=0.06)
    assert temperature(logits / 3, y) == pytest.approx(1 / 3, rel=0.06)
