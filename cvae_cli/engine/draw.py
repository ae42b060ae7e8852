"""A loaded model at work: batches of one fixed shape in, labels and tiles out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.engine.device import resolve_device
from cvae_cli.errors import LabelIgnoredWarning, UserError
from cvae_cli.model import weights
from cvae_cli.model.canvas import from_canvas, to_canvas
from cvae_cli.model.network import ConditionalVAE

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(asked: str) -> str:
    """The precision of ``--precision``.

    ``auto`` is fp32, not bf16, also where that is fast: bf16 moves some pixels by more than two
    grey levels, and the same image should give the same picture on every machine.
    """
    return "fp32" if asked == "auto" else asked


class Drawer:
    """A model on its device, fed with batches that are always padded to the same size.

    One shape means one set of kernels: an image's tiles do not depend on its neighbours, on
    the order, or on where a run was interrupted.
    """

    def __init__(
        self, file: Path, *, device: str = "auto", precision: str = "auto", batch_size: int | None = None
    ) -> None:
        """Load a model.

        Args:
            file: the ``.safetensors`` file.
            device: as ``--device``.
            precision: as ``--precision``.
            batch_size: images drawn at once; ``None`` chooses by the device.

        Raises:
            WeightsError: the file is damaged.
            UserError: no such device, or a precision it does not have.

        Warns:
            LabelIgnoredWarning: the label changes next to nothing, or to no purpose, as training
                measured, or as is measured here and now.
        """
        self.device = resolve_device(device)
        precision = resolve_precision(precision)
        if precision == "fp16" and self.device.type == "cpu":
            raise UserError("--precision fp16 needs a GPU; use bf16 or fp32 on the CPU.")
        self.precision = precision
        self.batch_size = batch_size or (32 if self.device.type == "cpu" else 256)
        model, self.card = weights.load(file)
        self.spec = self.card.spec
        self.model: ConditionalVAE = model.to(memory_format=torch.channels_last).to(self.device)

        effect, effectiveness = self.use_of_label()
        self.ignores_label = self.card.ignores_label or weights.ignores_label(
            self.spec.num_classes, {"label_effect": effect, "effectiveness": effectiveness}
        )
        if self.ignores_label:
            measured = self.card.raw["metrics"] if self.card.ignores_label else {}
            effect = measured.get("label_effect", effect)
            effectiveness = measured.get("effectiveness", effectiveness)
            warnings.warn(
                f"the model {self.card.name} ignores its label: between two labels its pictures differ by "
                f"{effect:.1f} of 255 grey levels, and {effectiveness:.0%} of them are read by its own "
                "classifier as what their label says" + (", as training measured." if measured else "."),
                LabelIgnoredWarning,
                stacklevel=2,
            )

    def use_of_label(self, styles: int = 16) -> tuple[float, float]:
        """What the label does, on a few styles from the prior under every label (at most ten).

        Returns:
            The mean absolute difference, in grey levels, between the tiles of two labels; and the
            share of all tiles that the model's own classifier reads as what their label says.
        """
        labels = min(10, self.spec.num_classes)
        z = torch.randn(styles, self.spec.latent_dim, generator=torch.Generator().manual_seed(0))
        every = torch.arange(labels, device=self.device).expand(styles, -1)
        with torch.inference_mode():
            tiles = self.model.relabel(z.to(self.device), every).float()
            pairs = (tiles[:, :, None] - tiles[:, None]).abs().mean(dim=(0, 3, 4, 5))  # (L, L)
            read = self.model.classify(tiles.flatten(0, 1)).argmax(dim=1).view(styles, labels)
        effect = 255 * float(pairs.sum()) / (labels * (labels - 1))
        return effect, float((read == every).float().mean())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=PRECISIONS[self.precision], enabled=self.precision != "fp32"
        )

    def _canvas(self, images: NDArray[np.uint8]) -> torch.Tensor:
        batch = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
        batch[: len(images)] = images
        return to_canvas(torch.from_numpy(batch).to(self.device), self.spec.canvas_size)

    def classify(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The labels that the model's classifier reads.

        Args:
            images: (N, C, H, W) uint8 at native size, N up to the batch size.

        Returns:
            (N,) int64 labels and (N,) float32 probabilities of them.
        """
        # In fp32 whatever the precision: it is one small network, and its verdict is printed.
        with torch.inference_mode():
            logits = self.model.classify(self._canvas(images))
            confidence, labels = logits.softmax(dim=1).max(dim=1)
        count = len(images)
        return labels[:count].cpu().numpy(), confidence[:count].float().cpu().numpy()

    def draw(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Encode images once, with their own labels, and draw each under several others.

        Args:
            images: (N, C, H, W) uint8 at native size, N up to the batch size.
            labels: (N,) int64.
            targets: (N, T) int64.

        Returns:
            (N, T, C, H, W) uint8 at native size.
        """
        count = len(images)
        wanted = np.zeros((self.batch_size, targets.shape[1]), np.int64)
        wanted[:count] = targets
        with torch.inference_mode(), self._autocast():
            mu, _ = self.model.encode(self._canvas(images), self._padded(labels))
            tiles = self.model.relabel(mu, torch.from_numpy(wanted).to(self.device))
            return from_canvas(tiles, self.spec.image_size)[:count].cpu().numpy()

    def draw_each(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """As :meth:`draw` for any number of images, each under one label of its own.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.
            targets: (N,) int64.

        Returns:
            (N, C, H, W) uint8 at native size.
        """
        parts = [
            self.draw(images[part], labels[part], targets[part, None])[:, 0]
            for part in self._parts(len(images))
        ]
        return np.concatenate(parts)

    def encode(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """The posterior means, (N, Z) float32, of any number of images under their own labels."""
        codes = []
        with torch.inference_mode(), self._autocast():
            for part in self._parts(len(images)):
                mu, _ = self.model.encode(self._canvas(images[part]), self._padded(labels[part]))
                codes.append(mu[: len(images[part])].float().cpu().numpy())
        return np.concatenate(codes)

    def terms(self, images: NDArray[np.uint8], labels: NDArray[np.int64], *, seed: int) -> dict[str, float]:
        """Mean ``elbo``, ``kl`` and ``recon_loss`` in nats, by one sample of each posterior.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.
            seed: of the samples.
        """
        totals = torch.zeros(2, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            for part in self._parts(len(images)):
                count = len(images[part])
                x, y = self._canvas(images[part]), self._padded(labels[part])
                noise = torch.randn(count, self.spec.latent_dim, generator=generator).to(self.device)
                found = self.model(x[:count], y[:count], noise)
                totals += count * torch.stack([found.recon_loss, found.kl]).cpu().double()
        recon, kl_mean = (totals / len(images)).tolist()
        return {"recon_loss": recon, "kl": kl_mean, "elbo": -(recon + kl_mean)}

    def _parts(self, count: int) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, count, self.batch_size)]

    def _padded(self, labels: NDArray[np.int64]) -> torch.Tensor:
        padded = np.zeros(self.batch_size, np.int64)
        padded[: len(labels)] = labels
        return torch.from_numpy(padded).to(self.device)

    def sample(self, count: int, *, seed: int) -> NDArray[np.uint8]:
        """Draw styles from the prior under every label.

        A generator for each style, on the CPU, so that style ``i`` of a seed is the same
        whatever the device and however many are drawn.

        Returns:
            (count, K, C, H, W) uint8 at native size.
        """
        styles = [
            torch.randn(self.spec.latent_dim, generator=torch.Generator().manual_seed(seed * 100_003 + i))
            for i in range(count)
        ]
        every = torch.arange(self.spec.num_classes, device=self.device)
        drawn = []
        with torch.inference_mode(), self._autocast():
            for start in range(0, count, self.batch_size):
                z = torch.stack(styles[start : start + self.batch_size]).to(self.device)
                tiles = self.model.relabel(z, every.expand(len(z), -1))
                drawn.append(from_canvas(tiles, self.spec.image_size).cpu().numpy())
        return np.concatenate(drawn)
