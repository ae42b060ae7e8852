from __future__ import annotations

import numpy as np
import pytest
import torch

from cvae_cli.inference.transfer import download, padded_batch, upload

CPU = torch.device("cpu")


def test_there_and_back() -> None:
    array, other = np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones(2, np.float32)
    assert all(map(np.array_equal, download(upload(array, CPU), upload(other, CPU)), (array, other)))


@pytest.mark.parametrize("size", [2, 5])
def test_batches_of_arrays_and_of_tensors_are_the_same(size: int) -> None:
    images = np.arange(1, 9, dtype=np.uint8).reshape(2, 1, 2, 2)
    images.flags.writeable = False  # as of a file that is mapped into memory
    batch = padded_batch(images, size, CPU)
    assert (batch.shape, batch.dtype) == ((size, 1, 2, 2), torch.uint8)
    assert np.array_equal(batch[:2].numpy(), images)
    assert not batch[2:].any()
    assert torch.equal(batch, padded_batch(torch.tensor(images), size, CPU))
