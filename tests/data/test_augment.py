from __future__ import annotations

import torch
from torch.nn import functional as F

from cvae_cli.data.augment import (
    differentiable_augment,
    random_affine,
    random_cutout,
    random_flip,
    random_shift,
)


def test_random_affine_keeps_what_it_is_told_to() -> None:
    x = torch.zeros(4, 1, 32, 32)
    x[:, :, 12:20, 12:20] = 1
    torch.testing.assert_close(random_affine(x, 0, 0, 0), x)
    moved = random_affine(x, 15, 0.15, 0.15)
    assert (moved - x).abs().mean() > 0.01
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-5


def test_random_affine_can_fill_from_the_image() -> None:
    x = torch.ones(16, 3, 16, 16)
    assert random_affine(x, 10, 0.1, 0.2).min() < 0.5
    torch.testing.assert_close(random_affine(x, 10, 0.1, 0.2, outside="reflection"), x)


def test_random_flip_mirrors_about_half() -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 3, 4, 4)
    flipped = random_flip(x)
    mirrored = (flipped == x.flip(3)).all(dim=(1, 2, 3))
    assert ((flipped == x).all(dim=(1, 2, 3)) ^ mirrored).all()
    assert 60 < mirrored.sum() < 140


def test_differentiable_changes_groups_alike_and_images_apart() -> None:
    torch.manual_seed(0)
    one = torch.rand(1, 3, 16, 16).expand(6, -1, -1, -1)
    changed = differentiable_augment(torch.cat([one, one]), groups=2)
    assert changed.shape == (12, 3, 16, 16)
    torch.testing.assert_close(changed[:6], changed[6:])
    assert all(not torch.equal(changed[0], changed[i]) for i in range(1, 6))


def test_differentiable_cuts_out_and_lets_gradients_through_elsewhere() -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 3, 16, 16, requires_grad=True)
    changed = differentiable_augment(x)
    changed.sum().backward()
    assert x.grad is not None
    gone = (changed == 0).all(dim=1).float().mean()
    assert 0.05 < gone < 0.4  # a square of 7 of 16 pixels a side, less beyond the edge, and shifts
    assert (x.grad != 0).float().mean() > 0.5


def test_a_shift_moves_whole_pixels_and_reflects() -> None:
    torch.manual_seed(0)
    x = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(50, 1, 1, 1)
    shifted = random_shift(x, 2)
    assert shifted.shape == x.shape
    padded = F.pad(x[:1], [2] * 4, mode="reflect")[0, 0]
    places = set()
    for image in shifted[:, 0]:
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(image, padded[down : down + 8, right : right + 8])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15  # of 25
    assert torch.equal(random_shift(x, 0), x)


def test_a_cutout_is_a_square_of_the_mean_somewhere_else_in_each_image() -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 3, 16, 16)
    cut = random_cutout(x, 4)
    gone = (cut != x).all(dim=1)  # (50, 16, 16)
    counts = gone.sum(dim=(1, 2))
    assert counts.max() == 16  # whole, unless it reaches beyond the edge
    assert counts.min() >= 4
    assert len({tuple(place.flatten().tolist()) for place in gone}) > 20
    mean = x.mean(dim=(2, 3))[:, :, None, None].expand_as(x)
    assert torch.equal(torch.where(gone[:, None], mean, x), cut)
