from __future__ import annotations

import torch

from cvae_cli.data.drawn_digits import draw_digits


def test_drawn_digits_are_the_same_for_a_seed_and_each_digit_is_as_frequent() -> None:
    digits, again, other = draw_digits(40, 0), draw_digits(40, 0), draw_digits(40, 1)
    assert digits.images.shape == (40, 1, 28, 28)
    assert digits.images.dtype == torch.uint8
    assert torch.equal(digits.images, again.images)
    assert not torch.equal(digits.images, other.images)
    assert torch.bincount(digits.labels).tolist() == [4] * 10


def test_drawn_digits_have_about_as_much_ink_as_scanned_ones() -> None:
    images = draw_digits(200, 0).images.float()
    assert 25 < images.mean() < 45  # MNIST: 33.3
    ink = images.mean(dim=(1, 2, 3))
    assert ink.max() > 3 * ink.min()


def test_labels_match_what_is_drawn() -> None:
    """Zeros have a hole, ones have not: labels belong to what is drawn."""
    digits = draw_digits(100, 0)
    middle = digits.images[:, 0, 13:15, 13:15].float().mean(dim=(1, 2))
    assert middle[digits.labels == 0].max() < 60
    assert middle[digits.labels == 1].min() > 60
