"""A bank of real images: what is beyond all of them is odd, what is among them is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvae_cli.judge.bank import LEVELS, FeatureBank, distances_to, fill_bank, split_images
from cvae_cli.judge.marks import ODD


def points(count: int, seed: int, *, centre: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + centre


def bank_of_two(*, second_sign: bool) -> FeatureBank:
    """Two classes, around 0 and around 20, of 900 images each; logits around 0 and around -5."""
    labels = torch.tensor([0, 1]).repeat_interleave(900)
    split = split_images(labels, 2, 6, seed=0)
    every = torch.cat([points(900, 0), points(900, 1, centre=20.0)])
    logits = torch.cat([points(900, 2)[:, 0], points(900, 3, centre=-5.0)[:, 0]])
    return fill_bank(
        split,
        [every[each] for each in split.bank],
        [every[each] for each in split.references],
        [logits[each] for each in split.references] if second_sign else None,
    )


def realism(bank: FeatureBank, features: torch.Tensor, logits: torch.Tensor, target: int) -> np.ndarray:
    return bank.realism(features.numpy(), logits.numpy(), np.full(len(features), target))


@pytest.mark.parametrize("second_sign", [False, True])
def test_realism_is_uniform_among_real_images_of_a_class(second_sign: bool) -> None:
    bank = bank_of_two(second_sign=second_sign)
    for target, centre, logit in ((0, 0.0, 0.0), (1, 20.0, -5.0)):
        found = realism(bank, points(2000, 7, centre=centre), points(2000, 8)[:, 0] + logit, target)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        for share in (0.05, 0.25, 0.5, 0.9):
            assert (found < share).mean() == pytest.approx(share, abs=0.1)  # by 300 references
        assert (found < ODD).mean() < 0.03


def test_either_sign_alone_is_enough_to_be_odd() -> None:
    bank = bank_of_two(second_sign=True)
    usual = points(50, 9)
    zeros = torch.zeros(50)
    assert np.median(realism(bank, usual, zeros, 0)) > 0.3
    assert (realism(bank, usual, zeros, 1) < ODD).all()  # of the other class
    assert (realism(bank, usual + 5, zeros, 0) < ODD).all()
    assert (realism(bank, usual, zeros + 9, 0) < ODD).mean() > 0.9
    # However usual the other sign is.
    assert (realism(bank, usual + 50, zeros - 9, 0) == 0).all()
    assert (realism(bank, usual * 0, zeros + 50, 0) == 0).all()
    # Without the second sign, it makes no difference.
    alone = bank_of_two(second_sign=False)
    assert np.array_equal(realism(alone, usual, zeros + 9, 0), realism(alone, usual, zeros, 0))


def test_the_realism_of_an_image_does_not_depend_on_the_others() -> None:
    bank = bank_of_two(second_sign=True)
    features, logits = points(60, 4, centre=1.0), points(60, 5)[:, 0]
    targets = np.arange(60) % 2
    together = bank.realism(features.numpy(), logits.numpy(), targets)
    for i in (0, 31, 59):
        alone = bank.realism(features[i : i + 1].numpy(), logits[i : i + 1].numpy(), targets[i : i + 1])
        assert alone[0] == together[i]


def test_references_are_held_out_where_there_are_enough() -> None:
    labels = torch.tensor([0] * 7000 + [1] * 900 + [2] * 90 + [3])
    split = split_images(labels, 5, 128, seed=3)
    assert [len(each) for each in split.references] == [2000, 300, 90, 1, 0]
    assert [len(each) for each in split.bank] == [400, 400, 90, 1, 0]
    for label in (0, 1):
        assert not torch.isin(split.references[label], split.bank[label]).any()
        assert not torch.isin(split.references[label], split.fit).any()
    assert torch.equal(split.references[2], split.bank[2])
    assert all((labels[each] == label).all() for label, each in enumerate(split.bank))
    assert len(split.fit) == 5000 + 600 + 90 + 1
    # A bank of many classes or features has fewer of each.
    assert len(split_images(labels, 62, 128, seed=3).bank[0]) == 700_000 // (62 * 128)
    again = split_images(labels, 5, 128, seed=3)
    assert torch.equal(split.fit, again.fit)
    assert not torch.equal(split.fit, split_images(labels, 5, 128, seed=4).fit)


def test_an_image_in_the_bank_is_not_its_own_neighbour() -> None:
    labels = torch.zeros(40, dtype=torch.int64)
    split = split_images(labels, 1, 6, seed=0)
    every = points(40, 0)
    chosen = [every[split.bank[0]]]
    bank = fill_bank(split, chosen, chosen, None)
    # The fifth nearest other one is the sixth nearest, counting itself.
    apart = torch.cdist(every, every).sort(dim=1).values
    assert float(bank.distances[0, -1]) == pytest.approx(float(apart[:, 5].max()), rel=1e-3)
    assert float(bank.distances[0, 0]) == pytest.approx(float(apart[:, 5].min()), rel=1e-3)
    assert bank.distances.shape == (1, LEVELS)


def test_no_tile_of_a_class_without_images_is_odd() -> None:
    labels = torch.tensor([0] * 30 + [1])
    split = split_images(labels, 3, 6, seed=0)
    every = points(31, 0)
    features = [every[each] for each in split.bank]
    bank = fill_bank(split, features, features, [torch.zeros(len(each)) for each in split.references])
    assert bank.counts == (30, 1, 0)
    far = points(4, 1, centre=500.0)
    assert (realism(bank, far, torch.full((4,), 9.0), 0) == 0).all()
    for target in (1, 2):
        assert (realism(bank, far, torch.full((4,), 9.0), target) == 1).all()


def test_distances_are_to_the_fifth_nearest() -> None:
    bank = torch.arange(10.0)[:, None]
    assert distances_to(torch.tensor([[0.0], [-3.0]]), bank).tolist() == [4.0, 7.0]
    assert distances_to(torch.tensor([[0.0]]), bank, skip=1).tolist() == [5.0]
    assert distances_to(torch.tensor([[0.0]]), bank[:2]).tolist() == [1.0]
    assert distances_to(torch.tensor([[1.0]]), bank[:0]).tolist() == [0.0]
