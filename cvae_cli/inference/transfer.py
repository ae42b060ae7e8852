"""Arrays to a device and back; to a GPU by way of pinned memory, so that a thread need not wait for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; on the CPU both share their memory."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def download(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """Tensors of one device as arrays, which takes one wait for all of them."""
    if tensors[0].device.type != "cuda":
        return tuple(tensor.cpu().numpy() for tensor in tensors)
    copies = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return tuple(copy.numpy() for copy in copies)


def padded_batch(images: NDArray[np.uint8] | Tensor, size: int, device: torch.device) -> Tensor:
    """Images on a device, with zeros behind them up to a batch of one size.

    Args:
        images: (N, C, H, W) uint8; tensors are on the device already.
        size: images of the batch, at least N.
        device: which one.

    Returns:
        (size, C, H, W) uint8.
    """
    if isinstance(images, Tensor):
        missing = size - len(images)
        return torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images
    batch = np.zeros((size, *images.shape[1:]), np.uint8)
    batch[: len(images)] = images
    return upload(batch, device)
