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


def paired(classes: int, names: int) -> LabelledImages:
    """Images class by class, as they are read from folders, and each paired with those of its name."""
    number = torch.arange(classes * names)
    counterparts = number[:, None] % names + names * torch.arange(classes)
    images, labels = number[:, None, None, None], number // names
    return LabelledImages(images, labels, tuple(map(str, range(classes))), counterparts)


def test_pairs_stay_together_and_the_first_images_are_of_all_classes() -> None:
    training, validation = hold_out(paired(5, 300), 5000)
    assert len(validation) == 150
    names = [set((part.images.flatten() % 300).tolist()) for part in (training, validation)]
    assert not names[0] & names[1]
    for part in (training, validation):
        assert set(part.labels[: len(part) // 3].tolist()) == set(range(5))
        assert part.counterparts is not None
        for place, others in enumerate(part.counterparts.tolist()):
            assert part.labels[others].tolist() == list(range(5))
            assert {int(part.images[each]) % 300 for each in others} == {int(part.images[place]) % 300}


@pytest.mark.parametrize("with_pairs", [False, True])
def test_no_class_is_held_out_whole(with_pairs: bool) -> None:
    number = torch.arange(400)
    counterparts = torch.full((400, 200), -1)
    counterparts[number, number // 2] = number  # no image has any but itself
    names = tuple(map(str, range(200)))
    data = LabelledImages(
        number[:, None, None, None], number // 2, names, counterparts if with_pairs else None
    )
    training, validation = hold_out(data, 40)
    assert set(training.labels.tolist()) == set(range(200))
    assert 35 <= len(validation) <= 40
    assert len(training) + len(validation) == 400


def test_too_few_images_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 10"):
        hold_out(numbered(9), 5)
    few = numbered(20)
    together_all = torch.zeros(20, 2, dtype=torch.int64)
    with pytest.raises(DataError, match="none can be held out"):
        hold_out(LabelledImages(few.images, few.labels, few.classes, together_all), 5)


def test_a_group_that_is_given_back_frees_all_of_its_classes() -> None:
    number = torch.arange(720)  # 120 families of three classes with two images of one name each
    labels, names = number // 2, number // 6 * 2 + number % 2
    counterparts = torch.full((720, 360), -1)
    for image in number.tolist():
        same = (names == names[image]).nonzero()[:, 0]
        counterparts[image, labels[same]] = same
    data = LabelledImages(number[:, None, None, None], labels, tuple(map(str, range(360))), counterparts)
    training, validation = hold_out(data, 72)
    assert set(training.labels.tolist()) == set(range(360))
    assert len(validation) > 30


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
