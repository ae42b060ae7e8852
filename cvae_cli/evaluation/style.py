"""What should survive relabelling, in numbers: the strokes of a drawing, the colours of a photograph."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from cvae_cli.errors import UserError
from cvae_cli.evaluation.metrics import pearson
from cvae_cli.model.spec import ImageKind, ModelSpec

Measures = dict[str, NDArray[np.float32]]
"""By name, (N, M) each: M numbers per image."""

_LAYOUT = 4
_BACKGROUND = 25
"""Up to this grey level a pixel is black background."""


def check_available(spec: ModelSpec) -> None:
    """Raise :class:`UserError` if the style of a model's images needs an extra that is not installed."""
    missing = [name for name in ("scipy", "skimage") if importlib.util.find_spec(name) is None]
    if spec.kind is ImageKind.STROKES and missing:
        raise UserError(
            "measuring strokes needs scikit-image and scipy: pip install '.[evaluate]' in a clone of cvae."
        )


def measure(images: NDArray[np.uint8], spec: ModelSpec) -> Measures:
    """The style of images, measured as fits what they show.

    For strokes ``thickness``, ``slant`` and ``width`` (:mod:`cvae_cli.evaluation.strokes`); for
    silhouettes ``brightness``, the mean, and ``area``, the share of the picture that is not background;
    for photographs ``colour``, the mean of each channel, and ``layout``, the means over a 4x4 grid.

    Args:
        images: (N, C, H, W) uint8 at native size.
        spec: of the model.
    """
    pixels = torch.from_numpy(images)
    if spec.kind is ImageKind.STROKES:
        # Imported here because it needs the extra [evaluate].
        from cvae_cli.evaluation import strokes

        return {name: value[:, None].numpy() for name, value in strokes.measure(pixels)._asdict().items()}
    x = pixels.float()
    if spec.kind is ImageKind.SILHOUETTES:
        return {
            "brightness": x.mean(dim=(2, 3)).numpy(),
            "area": (x > _BACKGROUND).float().mean(dim=(2, 3)).numpy(),
        }
    return {
        "colour": x.mean(dim=(2, 3)).numpy(),
        "layout": F.adaptive_avg_pool2d(x, _LAYOUT).flatten(1).numpy(),
    }


def correlation(originals: NDArray[np.float32], drawn: NDArray[np.float32]) -> float:
    """Pearson's r between originals and their tiles, averaged over the M numbers.

    Args:
        originals: (N, M), of one class.
        drawn: (N, M), of their tiles of one target, in the same order.

    Returns:
        0 where the originals differ and the tiles are all alike; nan where the originals do not
        differ, or there are too few.
    """
    each = [
        0.0 if len(a) > 2 and np.ptp(b) < 1e-6 < np.ptp(a) else pearson(a, b)
        for a, b in zip(originals.T, drawn.T, strict=True)
    ]
    known = [r for r in each if not np.isnan(r)]
    return float(np.mean(known)) if known else float("nan")
