from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cvae_cli.model.precision import Difference, measure_precisions, right_precision, rounded_for_bf16
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.recipes import MNIST


@pytest.fixture
def spec() -> ModelSpec:
    return replace(MNIST.spec, widths=(16, 8, 8, 8), latent_dim=6)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8), torch.arange(30) % 10


def test_the_fastest_that_is_right_is_chosen(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(replace(spec, tile_widths=(12,))).eval()
    found = measure_precisions(model, *images())
    assert list(found) == ["bf16", "tiles"]
    assert found["bf16"].is_right  # grey all over, as of random weights
    assert right_precision(model, *images()) == "bf16"
    # Where the latent decides between black and white, rounding it shows.
    with torch.no_grad():
        for value in model.encoder.parameters():
            value.mul_(3.0)
        assert model.tiles is not None
        model.tiles.pixels.weight.mul_(400.0)
        model.tiles.first.layer.weight.mul_(10.0)
    found = measure_precisions(model, *images())
    assert not found["bf16"].is_right
    assert right_precision(model, *images()) == "fp32"


def test_a_model_without_a_decoder_of_tiles_has_one_choice(spec: ModelSpec) -> None:
    model = ConditionalVAE(spec).eval()
    assert list(measure_precisions(model, *images())) == ["bf16"]
    assert rounded_for_bf16(model) is model


@pytest.mark.parametrize(
    ("difference", "right"),
    [(Difference(0.0, 2), True), (Difference(0.001, 12), True), (Difference(0.0001, 13), False),
     (Difference(0.01, 3), False)],
)  # fmt: skip
def test_what_is_right(difference: Difference, right: bool) -> None:
    assert difference.is_right is right


def test_rounding_keeps_what_bfloat16_can_hold_and_leaves_the_model_alone(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(replace(spec, tile_widths=(12,)))
    rounded = rounded_for_bf16(model)
    assert rounded.tiles is not None
    assert model.tiles is not None
    before, after = model.tiles.pixels.weight, rounded.tiles.pixels.weight
    assert not torch.equal(before, after)
    assert torch.equal(after, after.bfloat16().float())
    assert torch.equal(rounded.decoder.out.weight, model.decoder.out.weight)
