"""A loaded judge at work."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.errors import UserError
from cvae_cli.inference.batching import AdaptiveBatcher
from cvae_cli.inference.transfer import download, padded_batch
from cvae_cli.judge.files import NO_BANK, read_judge
from cvae_cli.judge.network import JudgeNetwork
from cvae_cli.model import weights
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.device import resolve_device, use_full_fp32
from cvae_cli.storage import Location


class Predictions(NamedTuple):
    """What a judge makes of N images."""

    probabilities: NDArray[np.float32]
    """(N, K), of each class."""
    features: NDArray[np.float32]
    """(N, D), the inputs of its last layer."""
    blemishes: NDArray[np.float32]
    """(N,) logits that an image has a blemish; zeros of a judge that does not look for any."""


class Judge:
    """A judge on its device."""

    def __init__(self, file: Location, *, device: str = "auto", batch_size: int = 500) -> None:
        """Load a judge.

        Args:
            file: its ``.safetensors`` file.
            device: as ``--device``.
            batch_size: images per batch; smaller batches are padded, so that predictions do not depend
                on what else is in the batch.

        Raises:
            WeightsError: the file fails a check.
            UserError: there is no such device.
        """
        self.raw, self.spec = read_judge(file)
        network = weights.load_network(file, self.raw, lambda: JudgeNetwork(self.spec))
        self.file = file
        self._batches = AdaptiveBatcher(images_at_once(batch_size, self.spec.image_size))
        self.device = resolve_device(device)
        use_full_fp32(self.device)
        # It stays on the CPU: one device, one result, and a few hundred distances for each tile.
        self.bank, network.bank = network.bank, None
        self.network = network.to(memory_format=torch.channels_last).to(self.device)

    @property
    def sha256(self) -> str:
        """Of the weights file, in hexadecimal."""
        return str(self.raw["sha256"])

    @property
    def has_bank(self) -> bool:
        """Whether it can tell how realistic a tile is; judges of earlier versions cannot."""
        return self.bank is not None

    def realism(self, predictions: Predictions, targets: NDArray[np.int64]) -> NDArray[np.float32]:
        """How usual images are for the class that they should show.

        Args:
            predictions: of N images.
            targets: (N,), their classes.

        Returns:
            (N,) in [0, 1]: about the share of real images of the class that are at least as unusual.

        Raises:
            UserError: the judge has no bank.
        """
        if self.bank is None:
            raise UserError(f"{self.file}: {NO_BANK}")
        return self.bank.realism(predictions.features, predictions.blemishes, targets)

    def predict(self, images: NDArray[np.uint8] | torch.Tensor) -> Predictions:
        """Classify images.

        Args:
            images: (N, C, H, W) uint8, of the judge's size and channels; a tensor is on the judge's device.
        """

        def predict_batch(part: slice, size: int) -> tuple[NDArray[Any], ...]:
            count = len(images[part])
            x = padded_batch(images[part], size, self.device).float() / 255
            with torch.inference_mode():
                x = x.contiguous(memory_format=torch.channels_last)
                features = self.network.features(x)
                probabilities = self.network.classify(features).softmax(dim=1)
                looks = self.network.blemishes
                blemishes = features.new_zeros(size) if looks is None else looks(x)
            return download(probabilities[:count], features[:count], blemishes[:count])

        parts = zip(*self._batches.run(len(images), predict_batch), strict=True)
        return Predictions(*(np.concatenate(part) for part in parts))
