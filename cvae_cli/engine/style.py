"""What should survive relabelling, in figures: the hand of a drawing, the colours of a photograph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from cvae_cli.engine import strokes
from cvae_cli.engine.metrics import pearson
from cvae_cli.model.spec import ModelSpec

Measures = dict[str, NDArray[np.float32]]
"""By name, (N, M) each: M figures an image."""

_LAYOUT = 4


def measure(images: NDArray[np.uint8], spec: ModelSpec) -> Measures:
    """Style of images, as fits what a model draws.

    Strokes (``thickness``, ``slant``, ``width``: :mod:`cvae_cli.engine.strokes`) where images are
    grey and light on dark; otherwise ``colour``, the mean of each channel, and ``layout``, the
    means over a grid of 4x4 fields.

    Args:
        images: (N, C, H, W) uint8 at native size.
        spec: of the model.
    """
    pixels = torch.from_numpy(images)
    if spec.channels == 1 and spec.polarity == "light-on-dark":
        return {name: value[:, None].numpy() for name, value in strokes.measure(pixels)._asdict().items()}
    x = pixels.float()
    return {
        "colour": x.mean(dim=(2, 3)).numpy(),
        "layout": F.adaptive_avg_pool2d(x, _LAYOUT).flatten(1).numpy(),
    }


def kept(originals: NDArray[np.float32], drawn: NDArray[np.float32]) -> float:
    """Pearson's r between originals and what was drawn from them, averaged over the M figures.

    Args:
        originals: (N, M), of one class.
        drawn: (N, M), of one target, in the same order.

    Returns:
        0 where the originals differ and all that is drawn is the same; nan where the originals
        do not differ, or there are too few.
    """
    each = [
        0.0 if len(a) > 2 and np.ptp(b) < 1e-6 < np.ptp(a) else pearson(a, b)
        for a, b in zip(originals.T, drawn.T, strict=True)
    ]
    known = [r for r in each if not np.isnan(r)]
    return float(np.mean(known)) if known else float("nan")
