from __future__ import annotations

import torch

from cvae_cli.model.canvas import to_canvas
from cvae_cli.training.recipes import CIFAR10, FASHION, MNIST
from cvae_cli.training.style_targets import StyleTargets


def blocks(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright blocks, (N, 1, 28, 28) uint8, and labels in turn."""
    random = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for image in images:
        x, y = torch.randint(6, 16, (2,), generator=random).tolist()
        image[0, y : y + 8, x : x + 3] = 255
    return images, torch.arange(count) % 10


def test_a_tile_with_the_style_of_its_original_costs_nothing() -> None:
    images, y = blocks()
    x = to_canvas(images, 32)
    for recipe in (MNIST, FASHION):
        targets = StyleTargets(recipe.spec)
        targets.fit(images, y)
        assert float(targets.difference(x, y, x, y)) < 0.2  # scribbles beyond the clamp
        thick = torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1)
        assert float(targets.difference(x, y, thick, y)) > 1


def test_colours_are_compared_as_they_are() -> None:
    targets = StyleTargets(CIFAR10.spec)
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    assert float(targets.difference(x, y, x, (y + 1) % 10)) == 0
    assert float(targets.difference(x, y, (x + 0.2).clamp(max=1), y)) > 0.05
