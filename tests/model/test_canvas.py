from __future__ import annotations

import pytest
import torch

from cvae_cli.model.canvas import from_canvas, to_canvas


@pytest.mark.parametrize(("size", "canvas"), [(28, 32), (12, 16), (32, 32), (13, 16)])
def test_canvas_and_back(size: int, canvas: int) -> None:
    images = torch.randint(0, 256, (3, 1, size, size), dtype=torch.uint8)
    x = to_canvas(images, canvas)
    assert x.shape == (3, 1, canvas, canvas)
    assert torch.equal(from_canvas(x, size), images)
