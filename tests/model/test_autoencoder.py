from __future__ import annotations

import pytest
import torch
from helpers import RESIDUAL_SPEC

from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE


@pytest.fixture
def model(small_spec: ModelSpec) -> ConditionalVAE:
    torch.manual_seed(0)
    return ConditionalVAE(small_spec).eval()


SCALES = ("block8", "block4", "block2", "block1")


@pytest.mark.parametrize("scale", [*SCALES, None])
def test_the_label_enters_at_every_scale(model: ConditionalVAE, scale: str | None) -> None:
    """Cut the label off everywhere but at one scale: the picture still follows it; at all: no more."""
    decoder = model.decoder
    with torch.no_grad():
        for name in SCALES:
            if name != scale:
                getattr(decoder, name).film.weight.zero_()
        # The first layer takes the condition beside z, whose columns come last.
        decoder.start.weight[:, : -model.spec.latent_dim] = 0
        drawn = [model.decode(torch.ones(1, 4), torch.tensor([y])) for y in (0, 1)]
    assert torch.equal(*drawn) is (scale is None)


@pytest.mark.parametrize("scale", ["up4", "up2", "last", None])
def test_the_label_enters_a_residual_decoder_at_every_scale(scale: str | None) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(RESIDUAL_SPEC).eval()
    decoder = model.decoder
    with torch.no_grad():
        for name in ("up4", "up2", "last"):
            if name != scale:
                getattr(decoder, name).film1.weight.zero_()
                getattr(decoder, name).film2.weight.zero_()
        decoder.start.weight[:, : -RESIDUAL_SPEC.latent_dim] = 0
        drawn = [model.decode(torch.ones(1, 4), torch.tensor([y])) for y in (0, 1)]
    assert drawn[0].shape == (1, 3, 16, 16)
    assert torch.equal(*drawn) is (scale is None)
