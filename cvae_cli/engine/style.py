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
_GROUND = 25
"""Up to this grey level a pixel is black ground."""


def measure(images: NDArray[np.uint8], spec: ModelSpec) -> Measures:
    """Style of images, as fits what a model draws.

    Of strokes ``thickness``, ``slant`` and ``width`` (:mod:`cvae_cli.engine.strokes`); of silhouettes
    ``brightness``, the mean, and ``area``, the share of the picture that is no ground; otherwise
    ``colour``, the mean of each channel, and ``layout``, the means over a grid of 4x4 fields.

    Args:
        images: (N, C, H, W) uint8 at native size.
        spec: of the model.
    """
    pixels = torch.from_numpy(images)
    if spec.kind_of_style == "strokes":
        return {name: value[:, None].numpy() for name, value in strokes.measure(pixels)._asdict().items()}
    x = pixels.float()
    if spec.kind_of_style == "silhouettes":
        return {
            "brightness": x.mean(dim=(2, 3)).numpy(),
            "area": (x > _GROUND).float().mean(dim=(2, 3)).numpy(),
        }
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
