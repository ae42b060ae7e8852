from __future__ import annotations

import pytest
import torch

from cvae_cli.model import style_losses


def test_colour_layout_is_the_means_of_fields() -> None:
    x = torch.zeros(2, 3, 8, 8)
    x[1, 2, 2:4, 6:8] = 1  # the second row of fields, the last column
    layout = style_losses.colour_layout(x)
    assert layout.shape == (2, 48)
    assert layout[1].nonzero().tolist() == [[2 * 16 + 1 * 4 + 3]]


def strokes(thickness: float, slant: float, length: float, size: int = 32) -> torch.Tensor:
    """A soft slanted bar on black, (1, 1, size, size)."""
    at = torch.arange(size, dtype=torch.float32) - size / 2 + 0.5
    across = at[None, :] + slant * at[:, None]
    inside = torch.sigmoid(4 * (thickness / 2 - across.abs())) * torch.sigmoid(
        4 * (length / 2 - at[:, None].abs())
    )
    return inside[None, None]


def test_stroke_style_tells_thickness_slant_and_width_apart() -> None:
    thin, thick = (style_losses.stroke_style(strokes(width, 0.0, 20))[0] for width in (2.0, 4.0))
    assert 1.5 < thick[0] / thin[0] < 2  # its ends are outline too
    assert thick[1].item() == pytest.approx(0, abs=1e-3)
    assert thick[2] > 1.3 * thin[2]
    slanted = style_losses.stroke_style(strokes(4.0, 0.5, 20))[0]
    assert slanted[1].item() == pytest.approx(-0.5, abs=0.05)
    assert slanted[2] == pytest.approx(thick[2].item(), rel=0.1)  # measured along the slant


def test_stroke_style_has_a_gradient_also_for_a_blank_image() -> None:
    x = torch.cat([strokes(3.0, 0.2, 18), torch.zeros(1, 1, 32, 32)]).requires_grad_()
    style = style_losses.stroke_style(x)
    style.sum().backward()
    assert style.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().sum() > 0
