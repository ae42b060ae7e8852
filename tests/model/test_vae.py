from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cvae_cli.model.latent_maps import Latent
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.recipes import CIFAR10, MNIST


@pytest.fixture
def model(small_spec: ModelSpec) -> ConditionalVAE:
    torch.manual_seed(0)
    return ConditionalVAE(small_spec).eval()


def test_shapes_and_ranges(model: ConditionalVAE) -> None:
    x, y = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    mu, logvar = model.encode(x, y)
    assert mu.shape == logvar.shape == (5, 4)
    drawn = model.decode(mu, y)
    assert drawn.shape == x.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert model.classify(x).shape == (5, 3)


def test_terms_are_named_and_add_up(model: ConditionalVAE) -> None:
    terms = model(torch.rand(5, 3, 16, 16), torch.zeros(5, dtype=torch.int64))
    assert terms.elbo.item() == pytest.approx(-(terms.recon_loss + terms.kl).item())
    assert terms.kl.item() >= 0


def test_relabel_is_decode_for_every_target(model: ConditionalVAE) -> None:
    mu, targets = torch.randn(4, 4), torch.tensor([[0, 1], [1, 2], [2, 0], [1, 1]])
    with torch.no_grad():
        tiles = model.relabel(Latent(mu), None, targets)
        for row in range(4):
            for column in range(2):
                alone = model.decode(mu[row : row + 1], targets[row, column : column + 1])[0]
                torch.testing.assert_close(tiles[row, column], alone)


def test_an_output_depends_on_its_own_image_alone(model: ConditionalVAE) -> None:
    x, y = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        together = model.encode(x, y)[0]
        x[1:] = torch.rand(5, 3, 16, 16)
        assert torch.equal(model.encode(x, y)[0][0], together[0])


@pytest.mark.parametrize(
    ("spec", "parameters", "products"),
    [(MNIST.spec, 4e6, 13e6), (CIFAR10.spec, 8e6, 80e6)],
    ids=["mnist", "cifar10"],
)
def test_the_models_stay_small(spec: ModelSpec, parameters: float, products: float) -> None:
    """Parameters, and multiply-adds to draw a tile."""
    model = ConditionalVAE(spec)
    assert sum(value.numel() for value in model.parameters()) <= parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decode(torch.zeros(1, spec.latent_dim), torch.tensor([3]))
    assert 0 < counter.get_total_flops() / 2 <= products
