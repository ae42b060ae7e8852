from __future__ import annotations

import torch

from cvae_cli.data.labelled import LabelledImages, hold_out
from cvae_cli.data.pairs import Pairing, examine, find_counterparts


def things(count: int, *, same: bool) -> LabelledImages:
    """``count`` things under three labels; or as many images that share nothing but their numbers."""
    dice = torch.Generator().manual_seed(0)
    look = torch.randint(0, 128, (count if same else 3 * count, 1, 16, 16), generator=dice)
    images = (look.repeat(3, 1, 1, 1) if same else look) + torch.randint(
        0, 20, (3 * count, 1, 16, 16), generator=dice
    )
    labels = torch.arange(3).repeat_interleave(count)
    images += 30 * labels[:, None, None, None]
    counterparts = find_counterparts([f"{i:04d}" for i in range(count)] * 3, labels, 3)
    return LabelledImages(images.to(torch.uint8), labels, ("a", "b", "c"), counterparts)


def test_counterparts_are_images_of_the_same_name_in_other_classes() -> None:
    names, labels = ["x", "y", "x", "z", "x", "y"], torch.tensor([0, 0, 1, 1, 2, 2])
    found = find_counterparts(names, labels, 3)
    assert found is not None
    assert found.tolist() == [[0, 2, 4], [1, -1, 5], [0, 2, 4], [-1, 3, -1], [0, 2, 4], [1, -1, 5]]


def test_a_name_that_occurs_twice_in_a_class_pairs_nothing() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    found = find_counterparts(["x", "x", "y", "x", "y"], labels, 2)
    assert found is None  # two of five
    found = find_counterparts(["x", "x", "y", "x", "y", "w", "w"], torch.tensor([0, 0, 0, 1, 1, 0, 1]), 2)
    assert found is not None
    assert found.tolist() == [[0, -1], [1, -1], [2, 4], [-1, 3], [2, 4], [5, 6], [5, 6]]


def test_no_name_in_common() -> None:
    assert find_counterparts(["a", "b"], torch.tensor([0, 1]), 2) is None
    data = LabelledImages(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    assert examine(data) is None


def test_images_of_one_thing_are_believed_to_be_pairs() -> None:
    found = examine(things(40, same=True))
    assert found is not None
    assert (found.images, found.names, found.believed) == (120, 40, True)
    assert found.nearer > 0.95


def test_numbers_in_every_folder_are_not_taken_for_pairs() -> None:
    found = examine(things(200, same=False))
    assert found is not None
    assert 0.4 < found.nearer < 0.6
    assert not found.believed


def test_a_handful_of_names_proves_nothing() -> None:
    assert examine(things(2, same=True)) == Pairing(images=6, names=2, nearer=1.0, believed=False)


def test_counterparts_survive_a_subset() -> None:
    data = things(4, same=True).subset(torch.tensor([0, 5, 4, 8]))
    assert data.counterparts is not None
    assert data.counterparts.tolist() == [[0, 2, 3], [-1, 1, -1], [0, 2, 3], [0, 2, 3]]


def test_counterparts_are_held_out_together() -> None:
    training, validation = hold_out(things(50, same=True), 15)
    assert (len(training), len(validation)) == (135, 15)
    for part in (training, validation):
        assert part.counterparts is not None
        assert (part.counterparts >= 0).all()
