from __future__ import annotations

from dataclasses import replace

import torch

from cvae_cli.model.canvas import to_canvas
from cvae_cli.training.augmentation import augment_for_classifier, augment_inputs
from cvae_cli.training.recipe import AugmentationRecipe
from cvae_cli.training.recipes import CIFAR10, MNIST


def test_a_share_of_the_images_is_changed_and_the_data_set_is_not() -> None:
    torch.manual_seed(0)
    recipe = replace(MNIST, augmentation=AugmentationRecipe(affine_share=0.5))
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    before = images.clone()
    x = to_canvas(images, 32)
    changed = augment_inputs(x.clone(), recipe)
    assert 5 < (changed != x).any(dim=(1, 2, 3)).sum() < 35
    assert torch.equal(images, before)


def test_photographs_are_only_mirrored() -> None:
    torch.manual_seed(0)
    x = torch.rand(20, 3, 32, 32)
    changed = augment_inputs(x, CIFAR10)
    same = [torch.equal(one, other) for one, other in zip(x, changed, strict=True)]
    mirrored = [torch.equal(one.flip(2), other) for one, other in zip(x, changed, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_strokes_stay_on_black_and_photographs_go_on_beyond_their_edge() -> None:
    torch.manual_seed(0)
    white = torch.ones(20, 1, 32, 32)
    assert augment_for_classifier(white, MNIST).min() == 0
    assert augment_for_classifier(white, CIFAR10).min() > 0.99
