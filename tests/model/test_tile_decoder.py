from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cvae_cli.errors import WeightsError
from cvae_cli.model.latent_maps import Latent
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.tile_decoder import TileDecoder
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.recipes import MNIST, distilled


@pytest.fixture
def spec() -> ModelSpec:
    return replace(MNIST.spec, widths=(16, 8, 8, 8), latent_dim=6, tile_widths=(12, 12, 20))


def test_it_draws_the_native_image_on_a_black_canvas(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    decoder = TileDecoder(spec)
    z, y = torch.randn(5, 6), torch.arange(5)
    with torch.no_grad():
        drawn = torch.sigmoid(decoder(z, y))
        assert drawn.shape == (5, 1, 32, 32)
        around = torch.ones(32, 32, dtype=torch.bool)
        around[2:30, 2:30] = False
        assert drawn[:, 0, around].max() < 1e-4
        assert drawn[:, 0, ~around].min() > 0.01
        other = torch.sigmoid(decoder(z, (y + 1) % 10))
        assert (other - drawn).abs().max() > 1e-3  # the label counts


def test_it_answers_in_float32_whatever_it_computes_in(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    decoder = TileDecoder(spec)
    z, y = torch.randn(5, 6), torch.arange(5)
    with torch.no_grad():
        exact = decoder(z, y)
        rounded = decoder.use(torch.bfloat16)(z, y)
    assert rounded.dtype == exact.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_only_what_is_not_the_own_label_is_drawn_by_it(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(spec).eval()
    assert model.tiles is not None
    x, y = torch.rand(3, 1, 32, 32), torch.tensor([4, 5, 6])
    targets = torch.tensor([[4, 1], [2, 3], [6, 6]])
    with torch.no_grad():
        latent = model.infer(x, y)
        tiles = model.relabel(latent, y, targets)
        itself = model.decode(latent.z, y, latent.maps)
        for row, column, own in ((0, 0, True), (0, 1, False), (1, 0, False), (1, 1, False), (2, 1, True)):
            target = targets[row, column][None]
            fast = torch.sigmoid(
                model.tiles(model.alignment.inverse(latent.z[row : row + 1], target), target)
            )
            torch.testing.assert_close(tiles[row, column], itself[row] if own else fast[0])
        samples = model.relabel(Latent(latent.z), None, targets)
        torch.testing.assert_close(samples[0, 1], tiles[0, 1])
        assert (samples[0, 0] - tiles[0, 0]).abs().max() > 1e-3


def test_it_takes_a_fraction_of_the_work_of_the_decoder() -> None:
    """By the measure of the machine: products of matrices run at several times the speed of convolutions."""
    spec = distilled(MNIST).spec
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        TileDecoder(spec)(torch.zeros(1, spec.latent_dim), torch.tensor([3]))
    assert 1e6 < counter.get_total_flops() / 2 < 13e6 / 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tile_widths": (0,)}, "tile_widths must be"),
        ({"tile_widths": (8,) * 9}, "tile_widths must be"),
        ({"tile_widths": (8,), "latent_maps": (2, 2), "map_carry": 0.5}, "map_carry of 0"),
        ({"tile_widths": (), "auto_precision": "tiles"}, "no tile_widths"),
        ({"auto_precision": "fp8"}, "auto_precision"),
    ],
)
def test_a_bad_spec_is_refused(spec: ModelSpec, change: dict[str, object], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        replace(spec, **change)
