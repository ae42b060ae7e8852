from __future__ import annotations

import pytest
import torch

from cvae_cli.data.labelled import LabelledImages, hold_out, together
from cvae_cli.errors import DataError


def numbered(count: int) -> LabelledImages:
    """Images that hold their own number."""
    images = torch.arange(count)[:, None, None, None]
    return LabelledImages(images, torch.arange(count) % 2, ("a", "b"))


def test_hold_out_is_disjoint_and_the_same_each_time() -> None:
    (training, validation), (_, again) = hold_out(numbered(340), 5000), hold_out(numbered(340), 5000)
    assert len(validation) == 34
    numbers = [set(part.images.flatten().tolist()) for part in (training, validation)]
    assert not numbers[0] & numbers[1]
    assert numbers[0] | numbers[1] == set(range(340))
    assert torch.equal(validation.images, again.images)
    assert len(hold_out(numbered(340), 5)[1]) == 5


def test_too_few_images_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 10"):
        hold_out(numbered(9), 5)


def test_a_batch_is_taken_at_once() -> None:
    images, labels = numbered(10).__getitems__([3, 1])
    assert images.flatten().tolist() == [3, 1]
    assert labels.tolist() == [1, 1]


def test_images_put_together_are_all_there_and_mixed() -> None:
    both = together(numbered(30), numbered(10))
    assert sorted(both.images.flatten().tolist()) == sorted([*range(30), *range(10)])
    assert torch.equal(both.labels, both.images.flatten() % 2)
    assert both.images.flatten().tolist()[:30] != list(range(30))
    assert torch.equal(both.images, together(numbered(30), numbered(10)).images)
    with pytest.raises(ValueError, match="different classes"):
        together(numbered(3), LabelledImages(torch.zeros(1), torch.zeros(1, dtype=torch.int64), ("c",)))
