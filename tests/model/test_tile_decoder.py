from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cvae_cli.errors import WeightsError
from cvae_cli.model.autoencoder import Decoder
from cvae_cli.model.latent_maps import Latent
from cvae_cli.model.spec import ImageKind, ModelSpec
from cvae_cli.model.tile_decoder import TileDecoder
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import FASHION, MNIST, distilled


@pytest.fixture
def spec() -> ModelSpec:
    return replace(MNIST.spec, widths=(16, 8, 8, 8), latent_dim=6, tile_widths=(12, 3))


@pytest.fixture(params=[False, True], ids=["without maps", "with maps"])
def either_spec(spec: ModelSpec, request: pytest.FixtureRequest) -> ModelSpec:
    return replace(spec, tile_maps=request.param)


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


OTHER_SIZES = [
    ({}, slice(7, 25)),
    ({"image_size": 32}, slice(5, 27)),
    ({"image_size": 36, "canvas_size": 48, "widths": (16, 16, 8, 8, 8)}, slice(11, 37)),
    ({"channels": 3, "kind": ImageKind.PHOTOGRAPHS}, slice(7, 25)),
    ({"tile_maps": True}, slice(11, 21)),
    (
        {"tile_maps": True, "image_size": 36, "canvas_size": 48, "widths": (16, 16, 8, 8, 8)},
        slice(11, 37),
    ),
]
"""Changes of the spec, and where the edge of the native image is out of sight."""


@pytest.mark.parametrize(("change", "inner"), OTHER_SIZES)
def test_it_begins_as_the_decoder_that_it_learns_from(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], inner: slice
) -> None:
    torch.manual_seed(0)
    spec = replace(spec, latent_maps=(2, 2), **change)
    decoder = Decoder(spec)
    for latents in decoder.maps:
        torch.nn.init.normal_(latents.get_submodule("prior").weight, std=0.3)  # type: ignore[arg-type]
    tiles = TileDecoder(replace(spec, tile_widths=(12, 8)))  # as many planes as it has channels: exact
    tiles.begin_as(decoder)
    # What is left out on purpose: the last block, the exact SiLU, and latent maps where they are not wanted.
    left_out = [decoder.get_submodule("block1.conv")]
    if not spec.tile_maps:
        left_out += [latents.get_submodule("into") for latents in decoder.maps]
    with torch.no_grad():
        for silent in left_out:
            for value in silent.parameters():
                value.zero_()
    silu = torch.nn.functional.silu
    monkeypatch.setattr(torch.nn.functional, "hardswish", lambda h, inplace=False: silu(h))
    z, y = torch.randn(5, 6), torch.arange(5)
    with torch.no_grad():
        wanted, drawn = (
            each[..., inner, inner] for each in (decoder(z, y), tiles.finish(*decoder.coarsest(z, y)))
        )
    torch.testing.assert_close(drawn, wanted, atol=1e-5, rtol=0)
    assert wanted.std() > 1e-3


def test_more_planes_are_nearer_and_as_many_as_channels_are_enough(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    decoder = Decoder(spec)
    z, y = torch.randn(5, 6), torch.arange(5)
    drawn = {}
    for planes in (1, 3, 8, 20):
        tiles = TileDecoder(replace(spec, tile_widths=(12, planes)))
        tiles.begin_as(decoder)
        with torch.no_grad():
            drawn[planes] = tiles.finish(*decoder.coarsest(z, y))
    torch.testing.assert_close(drawn[20], drawn[8])
    off = [float((drawn[planes] - drawn[8]).abs().mean()) for planes in (1, 3)]
    assert off[0] > 1.5 * off[1] > 0


def test_the_first_layer_stays_in_full_precision_under_autocast(either_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    decoder = TileDecoder(either_spec).use(torch.bfloat16)
    z, y = torch.randn(5, 6), torch.arange(5)
    with torch.no_grad():
        outside = decoder(z, y)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(decoder(z, y), outside, rtol=0, atol=0)


def test_it_answers_in_float32_whatever_it_computes_in(either_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    decoder = TileDecoder(either_spec)
    z, y = torch.randn(5, 6), torch.arange(5)
    with torch.no_grad():
        exact = decoder(z, y)
        rounded = decoder.use(torch.bfloat16)(z, y)
    assert rounded.dtype == exact.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_only_what_is_not_the_own_label_is_drawn_by_it(either_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(either_spec).eval()
    assert model.tiles is not None
    x, y = torch.rand(3, 1, 32, 32), torch.tensor([4, 5, 6])
    targets = torch.tensor([[4, 1], [2, 3], [6, 6]])
    with torch.no_grad():
        latent = model.infer(x, y)
        tiles = model.relabel(latent, y, targets)
        itself = model.decode(latent.z, y, latent.maps)
        every = targets.flatten()
        z = model.alignment.inverse(latent.z.repeat_interleave(2, 0), every)
        fast = torch.sigmoid(model.tiles(z, every))
        for row, column, own in ((0, 0, True), (0, 1, False), (1, 0, False), (1, 1, False), (2, 1, True)):
            wanted = itself[row] if own else fast[2 * row + column]
            torch.testing.assert_close(tiles[row, column], wanted)
        samples = model.relabel(Latent(latent.z), None, targets)
        torch.testing.assert_close(samples[0, 1], tiles[0, 1])
        assert (samples[0, 0] - tiles[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize(("recipe", "share"), [(MNIST, 0.6), (FASHION, 0.75)], ids=["mnist", "fashion"])
def test_it_takes_a_fraction_of_the_work_of_the_decoder(recipe: Recipe, share: float) -> None:
    """How much faster it is, is more than that, and is measured by ``benchmarks/precision.py``."""
    spec = distilled(recipe).spec
    work = []
    for decoder in (TileDecoder(spec), Decoder(spec)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            decoder(torch.zeros(1, spec.latent_dim), torch.tensor([3]))
        work.append(counter.get_total_flops())
    assert 0 < work[0] < share * work[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tile_widths": (8, 0)}, "tile_widths must be"),
        ({"tile_widths": (8, 8, 8)}, "tile_widths must be"),
        ({"tile_widths": (8, 2), "latent_maps": (2, 2), "map_carry": 0.5}, "map_carry of 0"),
        ({"tile_widths": (), "auto_precision": "tiles"}, "no tile_widths"),
        ({"tile_maps": True, "latent_maps": ()}, "tile_maps are for"),
        ({"tile_maps": True, "tile_widths": ()}, "tile_maps are for"),
        ({"tile_maps": 1}, "tile_maps must be"),
        ({"auto_precision": "fp8"}, "auto_precision"),
    ],
)
def test_a_bad_spec_is_refused(spec: ModelSpec, change: dict[str, object], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        replace(spec, **change)
