from __future__ import annotations

import pytest
import torch

from cvae_cli.model.whitened import WhitenedClassifier


@pytest.mark.parametrize("patch", [2, 3])
def test_whitening_gives_every_direction_of_the_patches_the_same_weight(patch: int) -> None:
    dice = torch.Generator().manual_seed(0)
    # Neighbouring pixels and channels are alike, as in photographs.
    coarse = torch.rand(200, 1, 8, 8, generator=dice).repeat(1, 3, 1, 1)
    x = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    x = (x + 0.3 * torch.rand(x.shape, generator=dice)).clamp(0, 1)
    network = WhitenedClassifier(3, (8, 16), 10, patch=patch)
    network.fit_whitening(x.split(7))
    found = network.whiten(4 * (x - 0.5))
    count = 3 * patch**2
    # The filters and their negatives, so that what GELU drops of one is kept by the other.
    assert torch.allclose(found[:, :count], -found[:, count:], atol=1e-5)
    flat = found[:, :count].permute(1, 0, 2, 3).flatten(1)
    moments = flat @ flat.T / flat.shape[1]
    assert (moments - torch.diag(moments.diag())).abs().max() < 1e-3
    assert moments.diag().max() <= 1.0
    assert moments.diag().min() > 0.5


def test_normalisation_is_folded_into_the_convolutions() -> None:
    torch.manual_seed(0)
    network = WhitenedClassifier(3, (8, 16, 16), 10)
    trained = network.for_training()
    x = torch.rand(16, 3, 32, 32)
    trained.fit_whitening([x])
    trained.train()
    for _ in range(3):
        trained(x)
    network.take(trained)
    assert torch.allclose(network(x), trained(x), atol=1e-5)
    assert not any("Norm" in type(layer).__name__ for layer in network.modules())


@pytest.mark.parametrize("side", [28, 32, 48, 64])
def test_any_side_is_taken(side: int) -> None:
    network = WhitenedClassifier(3, (4, 8, 8), 5)
    maps = network.maps(torch.rand(2, 3, side, side))
    assert [each.shape[1] for each in maps] == [4, 8, 8]
    assert network(torch.rand(2, 3, side, side)).shape == (2, 5)


def test_an_image_and_its_mirror_image_get_the_same_logits() -> None:
    torch.manual_seed(0)
    network, x = WhitenedClassifier(3, (4, 8), 5), torch.rand(3, 3, 32, 32)
    assert torch.allclose(network.mirrored_logits(x), network.mirrored_logits(x.flip(3)), atol=1e-6)
    assert not torch.allclose(network(x), network(x.flip(3)), atol=1e-4)
