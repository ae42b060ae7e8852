"""Between uint8 images of native size and the float canvas that the network sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_canvas(images: Tensor, canvas_size: int) -> Tensor:
    """Grey values to [0, 1], padded with black; MNIST 28 -> 32, as the prior work did.

    Args:
        images: (B, C, H, W) uint8.
        canvas_size: side of the canvas, at least H and W.

    Returns:
        (B, C, canvas_size, canvas_size) float32 in [0, 1], channels last; an odd remainder
        of the padding goes to the right and the bottom.
    """
    height, width = images.shape[-2:]
    top, left = (canvas_size - height) // 2, (canvas_size - width) // 2
    padding = (left, canvas_size - width - left, top, canvas_size - height - top)
    x = F.pad(images.float() / 255.0, padding)
    return x.contiguous(memory_format=torch.channels_last)


def images_at_once(usual: int, canvas_size: int) -> int:
    """How many images of a canvas take no more memory than ``usual`` ones of 32x32 pixels; at least 1."""
    return max(1, min(usual, usual * 32**2 // canvas_size**2))


def from_canvas(canvas: Tensor, image_size: int) -> Tensor:
    """The inverse: the native part of a canvas, rounded to grey levels.

    Args:
        canvas: (..., H, W) float in [0, 1].
        image_size: native height and width.

    Returns:
        (..., image_size, image_size) uint8.
    """
    top, left = (canvas.shape[-2] - image_size) // 2, (canvas.shape[-1] - image_size) // 2
    native = canvas[..., top : top + image_size, left : left + image_size]
    return (native.float() * 255.0).round_().clamp_(0, 255).to(torch.uint8)
