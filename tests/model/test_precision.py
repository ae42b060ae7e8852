from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cvae_cli.model.precision import Difference, fit_to_bf16, measure_precisions, right_precision
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
    model = ConditionalVAE(replace(spec, tile_widths=(12, 3))).eval()
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


@pytest.mark.parametrize(
    ("difference", "right"),
    [(Difference(0.0, 2), True), (Difference(0.001, 12), True), (Difference(0.0001, 13), False),
     (Difference(0.01, 3), False)],
)  # fmt: skip
def test_what_is_right(difference: Difference, right: bool) -> None:
    assert difference.is_right is right


def changed(model: ConditionalVAE, rounded: ConditionalVAE) -> set[str]:
    """Which networks of a model were rounded."""
    before = model.state_dict()
    return {
        name.split(".")[0]
        for name, value in rounded.state_dict().items()
        if not torch.equal(value, before[name])
    }


def test_all_is_rounded_where_that_makes_bfloat16_right(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(spec).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rounded, auto = fit_to_bf16(model, *images())
    assert auto == "bf16"
    assert changed(model, rounded) == {"encoder", "decoder"}
    for part in (rounded.encoder, rounded.decoder):
        assert all(torch.equal(value, value.bfloat16().float()) for value in part.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # Where bfloat16 is wrong all the same, nothing.
    monkeypatch.setattr(Difference, "is_right", property(lambda found: found.most < 0))
    rounded, auto = fit_to_bf16(model, *images())
    assert auto == "fp32"
    assert changed(model, rounded) == set()


def test_nothing_is_rounded_that_rounding_would_change(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(spec).eval()
    found = iter([Difference(0.5, 99), Difference(0.0, 0)])  # by rounding; by bfloat16 after that
    monkeypatch.setattr("cvae_cli.model.precision._difference", lambda *_: next(found))
    rounded, auto = fit_to_bf16(model, *images())
    assert auto == "fp32"
    assert changed(model, rounded) == set()


def test_beside_a_decoder_of_tiles_all_else_stays_as_it_was_taught(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(replace(spec, tile_widths=(12, 3))).eval()
    rounded, auto = fit_to_bf16(model, *images())
    assert auto == "bf16"
    assert changed(model, rounded) == {"tiles"}
    assert rounded.tiles is not None
    assert model.tiles is not None
    assert torch.equal(rounded.tiles.first.layer.weight, model.tiles.first.layer.weight)
    assert torch.equal(rounded.tiles.pixels.weight, model.tiles.pixels.weight.bfloat16().float())


def test_without_images_nothing_is_found_right(spec: ModelSpec) -> None:
    some, labels = images()
    assert fit_to_bf16(ConditionalVAE(spec), some[:0], labels[:0])[1] == "fp32"
