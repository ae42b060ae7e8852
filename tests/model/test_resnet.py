"""The prior work's networks; but for the label's row they need lightning-bolts, the extra ``[bolts]``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import HAS_BOLTS, export_untrained
from torch import nn

from cvae_cli.errors import UserError
from cvae_cli.model import weights
from cvae_cli.model.resnet import with_label
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE

needs_bolts = pytest.mark.skipif(not HAS_BOLTS, reason="needs lightning-bolts")

RESNET = ModelSpec(
    classes=tuple("abc"), image_size=28, canvas_size=32, latent_dim=16, arch="resnet18", likelihood="gaussian"
)


@pytest.mark.parametrize(("classes", "rows"), [(3, 1), (8, 1), (20, 3)])
def test_a_label_is_a_white_pixel_below_the_image(classes: int, rows: int) -> None:
    x, y = torch.rand(classes, 3, 4, 8), torch.arange(classes)
    labelled = with_label(x, y, classes)
    assert labelled.shape == (classes, 3, 4 + rows, 8)
    assert labelled[:, :, :4].equal(x)
    for label, added in enumerate(labelled[:, :, 4:].flatten(2)):
        assert added.sum() == 3
        assert (added[:, label] == 1).all()


@pytest.mark.skipif(HAS_BOLTS, reason="is about its absence")
def test_without_the_extra_it_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"pip install '\.\[bolts\]'"):
        ConditionalVAE(RESNET)


@pytest.mark.bolts
@needs_bolts
@pytest.mark.parametrize(("channels", "canvas"), [(1, 32), (3, 32), (3, 48)])
def test_the_networks_are_those_of_the_prior_work(channels: int, canvas: int) -> None:
    spec = replace(RESNET, channels=channels, canvas_size=canvas, latent_dim=256)
    model = ConditionalVAE(spec).eval()
    x, y = torch.rand(2, channels, canvas, canvas), torch.tensor([0, 2])
    mu, logvar = model.encode(x, y)
    assert mu.shape == logvar.shape == (2, 256)
    assert model.decode(mu, y).shape == x.shape
    assert sum(value.numel() for value in model.encoder.backbone.parameters()) == 11_168_832
    assert model.decoder.backbone.linear.in_features == 256 + 3


@pytest.mark.bolts
@needs_bolts
def test_the_decoder_sees_the_label_unless_it_is_blind() -> None:
    z, labels = torch.randn(3, 16), torch.arange(3)
    for seen in (True, False):
        torch.manual_seed(0)
        model = ConditionalVAE(replace(RESNET, label_in_decoder=seen)).eval()
        drawn = model.decode(z[:1].expand(3, -1), labels)
        assert torch.allclose(drawn[0], drawn[1]) is not seen


@pytest.mark.bolts
@needs_bolts
def test_what_is_exported_draws_the_same(tmp_path: Path) -> None:
    file = export_untrained(RESNET, tmp_path / "resnet.safetensors")
    loaded, _ = weights.load(file)
    torch.manual_seed(0)
    model = ConditionalVAE(RESNET).eval()
    z, y = torch.randn(3, 16), torch.arange(3)
    assert torch.allclose(loaded.decode(z, y), model.decode(z, y), atol=2e-2)  # kept in half precision


def test_counts_of_batch_normalisation_are_not_kept(tmp_path: Path) -> None:
    """Half precision cannot hold them: after 65,504 steps a file would not have loaded any more."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    for value in (network[1].running_mean, network[1].running_var):
        value.uniform_(0.5, 1.5)
    network[1].num_batches_tracked.fill_(100_000)
    raw = weights.export(
        network,
        tmp_path / "n.safetensors",
        spec={},
        name="n",
        data_set="none",
        metrics={},
        train_command="none",
        versions={},
        training={},
        licence="MIT",
    )
    found = weights.load_network(
        tmp_path / "n.safetensors", raw, lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    )
    x = torch.rand(2, 1, 5, 5)
    assert torch.allclose(found(x), network.eval()(x), atol=1e-2)
