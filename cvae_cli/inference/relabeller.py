"""A loaded model at work: batches of one fixed shape in, labels and tiles out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cvae_cli.errors import LabelIgnoredWarning, UserError
from cvae_cli.inference.batching import AdaptiveBatcher
from cvae_cli.inference.transfer import download, padded_batch, upload
from cvae_cli.model import registry, weights
from cvae_cli.model.canvas import from_canvas, images_at_once, to_canvas
from cvae_cli.model.device import bf16_is_fast, resolve_device, use_full_fp32
from cvae_cli.model.latent_maps import Latent
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.storage import Location

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Relabeller:
    """A model on its device, fed with batches that are always padded to the same size.

    One shape means one set of kernels, so an image's tiles do not depend on its neighbours, on the
    order, or on where a run was interrupted.
    """

    def __init__(
        self, file: Location, *, device: str = "auto", precision: str = "auto", batch_size: int | None = None
    ) -> None:
        """Load a model.

        Args:
            file: the ``.safetensors`` file.
            device: as ``--device``.
            precision: as ``--precision``; ``auto`` is what the spec says is right, where that is fast.
            batch_size: images per batch; ``None`` chooses by the device.

        Raises:
            WeightsError: the file is damaged.
            UserError: no such device, or a precision that it does not support.

        Warns:
            LabelIgnoredWarning: the label hardly changes what is drawn, as training measured or as
                is measured here.
        """
        self.device = resolve_device(device)
        use_full_fp32(self.device)
        if precision == "fp16" and self.device.type == "cpu":
            raise UserError("--precision fp16 needs a GPU; use bf16 or fp32 on the CPU.")
        model, self.card = weights.load(file)
        self.spec = self.card.spec
        in_tiles = precision
        if precision == "auto":
            measured = self.spec.auto_precision if bf16_is_fast(self.device) else "fp32"
            precision = "bf16" if measured == "bf16" else "fp32"
            in_tiles = "fp32" if measured == "fp32" else "bf16"
        self.precision = precision
        self.tiles_precision = in_tiles if model.tiles is not None else precision
        if model.tiles is not None:
            # Once: autocast would convert its weights for every batch anew.
            model.tiles.use(PRECISIONS[in_tiles])
        # Counted in tiles, since an image of a hundred classes is drawn a hundred times. On a CPU core
        # small batches are faster: their feature maps, half as large in 16 bits, stay in its cache. Those of
        # a decoder of tiles are a fraction of that, and its weights are what has to be fetched.
        on_cpu = 160 if self.precision == "bf16" else 80
        if model.tiles is not None and self.tiles_precision == "bf16":
            on_cpu = 320
        tiles = images_at_once(on_cpu if self.device.type == "cpu" else 2560, self.spec.canvas_size)
        self.batch_size = batch_size or max(1, tiles // max(10, self.spec.num_classes))
        self._batches = AdaptiveBatcher(self.batch_size)
        self.model: ConditionalVAE = model.to(memory_format=torch.channels_last).to(self.device)

        effect, effectiveness = self.use_of_label()
        self.ignores_label = self.card.ignores_label or registry.ignores_label(
            self.spec.num_classes, {"label_effect": effect, "effectiveness": effectiveness}
        )
        if self.ignores_label:
            measured = self.card.raw["metrics"] if self.card.ignores_label else {}
            effect = measured.get("label_effect", effect)
            effectiveness = measured.get("effectiveness", effectiveness)
            warnings.warn(
                f"the model {self.card.name} ignores its label: tiles of two labels differ by "
                f"{effect:.1f} of 255 grey levels, and its own classifier recognises {effectiveness:.0%} of "
                "the tiles as their label" + (", as training measured." if measured else "."),
                LabelIgnoredWarning,
                stacklevel=2,
            )

    @property
    def described_precision(self) -> str:
        """What it computes in, in words."""
        if self.tiles_precision == self.precision:
            return self.precision
        return f"{self.precision}, tiles in {self.tiles_precision}"

    def use_of_label(self, styles: int = 16) -> tuple[float, float]:
        """Measure the effect of the label, on a few styles from the prior under at most ten labels.

        Returns:
            The mean absolute difference, in grey levels, between the tiles of two labels; and the
            share of all tiles that the model's own classifier reads as their label.
        """
        labels = min(10, self.spec.num_classes)
        latent = self.model.draw_noise(styles, torch.Generator().manual_seed(0))
        if self.model.tiles is not None:
            latent = Latent(latent.z)  # tiles know of no maps
        every = torch.arange(labels, device=self.device).expand(styles, -1)
        with torch.inference_mode():
            tiles = self.model.relabel(self._moved(latent), None, every).float()
            pairs = (tiles[:, :, None] - tiles[:, None]).abs().mean(dim=(0, 3, 4, 5))  # (L, L)
            read = self.model.classify(tiles.flatten(0, 1)).argmax(dim=1).view(styles, labels)
        effect = 255 * float(pairs.sum()) / (labels * (labels - 1))
        return effect, float((read == every).float().mean())

    def _moved(self, latent: Latent) -> Latent:
        """A latent on the model's device."""
        return Latent(latent.z.to(self.device), tuple(each.to(self.device) for each in latent.maps))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=PRECISIONS[self.precision], enabled=self.precision != "fp32"
        )

    def _canvas(self, images: NDArray[np.uint8] | torch.Tensor, size: int) -> torch.Tensor:
        return to_canvas(padded_batch(images, size, self.device), self.spec.canvas_size)

    def classify(
        self, images: NDArray[np.uint8] | torch.Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The labels that the model's classifier reads.

        Args:
            images: (N, C, H, W) uint8 at native size; a tensor is on the model's device.

        Returns:
            (N,) int64 labels and (N,) float32 probabilities of them.
        """

        def read(part: slice, size: int) -> tuple[NDArray[Any], ...]:
            # In fp32 whatever the precision: it is one small network, and its verdict is printed.
            with torch.inference_mode():
                logits = self.model.classify(self._canvas(images[part], size))
                confidence, labels = logits.softmax(dim=1).max(dim=1)
            count = len(images[part])
            return download(confidence[:count].float(), labels[:count])

        confidences, labels = zip(*self._batches.run(len(images), read), strict=True)
        return np.concatenate(labels), np.concatenate(confidences)

    def draw(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Encode images once, with their own labels, and draw each under several others.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.
            targets: (N, T) int64.

        Returns:
            (N, T, C, H, W) uint8 at native size.
        """
        return self.draw_with_scales(images, labels, targets)[0]

    def draw_with_scales(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """As :meth:`draw`, and (N,) float32, by how much each image's latent vector was shrunk.

        1 for all that are like the training images: see ``latent_norm`` in
        :class:`cvae_cli.model.spec.ModelSpec`.
        """
        draw = self._drawing(images, labels, targets)
        parts = self._batches.run(len(images), lambda part, size: download(*draw(part, size)))
        tiles, scales = zip(*parts, strict=True)
        return np.concatenate(tiles), np.concatenate(scales)

    def draw_on_device(
        self,
        images: NDArray[np.uint8] | torch.Tensor,
        labels: NDArray[np.int64],
        targets: NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`draw_with_scales`, but tiles and scales stay where they were drawn.

        ``images`` may be a tensor on the model's device.
        """
        found = self._batches.run(len(images), self._drawing(images, labels, targets))
        if len(found) == 1:
            return found[0]
        tiles, scales = zip(*found, strict=True)
        return torch.cat(tiles), torch.cat(scales)

    def _drawing(
        self,
        images: NDArray[np.uint8] | torch.Tensor,
        labels: NDArray[np.int64],
        targets: NDArray[np.int64],
    ) -> Callable[[slice, int], tuple[torch.Tensor, torch.Tensor]]:
        """What draws a part of these images, in a batch of some size."""
        # They take another pass through most of the decoder.
        uses_maps = self.spec.map_carry > 0 or bool((targets == labels[:, None]).any())

        def draw_batch(part: slice, size: int) -> tuple[torch.Tensor, torch.Tensor]:
            count = len(images[part])
            with torch.inference_mode(), self._autocast():
                y = self._padded(labels[part], size)
                x = self._canvas(images[part], size)
                latent = self.model.infer(x, y, with_maps=uses_maps)
                # Of other labels than their own, which would be drawn by another decoder.
                tiles = self.model.relabel(latent, y, self._padded(targets[part], size, rest=1))
                drawn = from_canvas(tiles, self.spec.image_size)[:count]
                return drawn, self.model.latent_scale(latent.z)[:count].float()

        return draw_batch

    def draw_each(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """As :meth:`draw`, but each image under a single label of its own.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.
            targets: (N,) int64.

        Returns:
            (N, C, H, W) uint8 at native size.
        """
        return self.draw(images, labels, targets[:, None])[:, 0]

    def encode(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Posterior means, (N, Z) float32, of any number of images under their own labels."""

        def encode(part: slice, size: int) -> NDArray[np.float32]:
            with torch.inference_mode(), self._autocast():
                mu, _ = self.model.encode(self._canvas(images[part], size), self._padded(labels[part], size))
                return mu[: len(images[part])].float().cpu().numpy()

        return np.concatenate(self._batches.run(len(images), encode))

    def infer(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
        """All that is known of images beyond their labels.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.

        Returns:
            (N, Z) float32 latent vectors, and the residuals of the latent maps, each (N, c, h, w) float32.
        """

        def infer(part: slice, size: int) -> tuple[NDArray[np.float32], ...]:
            with torch.inference_mode(), self._autocast():
                x, y = self._canvas(images[part], size), self._padded(labels[part], size)
                latent = self.model.infer(x, y)
            count = len(images[part])
            return tuple(each[:count].float().cpu().numpy() for each in (latent.z, *latent.maps))

        z, *maps = map(np.concatenate, zip(*self._batches.run(len(images), infer), strict=True))
        return z, tuple(maps)

    def draw_latents(
        self,
        vectors: NDArray[np.float32],
        targets: NDArray[np.int64],
        maps: tuple[NDArray[np.float32], ...] = (),
        labels: NDArray[np.int64] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw latents, each under several labels.

        Args:
            vectors: (N, Z) float32.
            targets: (N, T) int64.
            maps: residuals, as :meth:`infer` returns them.
            labels: (N,) int64, of the images that the latents are of; ``None`` for samples.

        Returns:
            (N, T, C, H, W) uint8 at native size.
        """

        def draw(part: slice, size: int) -> NDArray[np.uint8]:
            count = len(vectors[part])
            with torch.inference_mode(), self._autocast():
                latent = Latent(
                    torch.from_numpy(vectors[part].copy()),
                    tuple(torch.from_numpy(each[part]) for each in maps),
                )
                y = None if labels is None else torch.from_numpy(labels[part].copy()).to(self.device)
                every = torch.from_numpy(targets[part].copy()).to(self.device)
                tiles = self.model.relabel(self._moved(latent), y, every)
                return from_canvas(tiles, self.spec.image_size)[:count].cpu().numpy()

        return np.concatenate(self._batches.run(len(vectors), draw))

    def terms(self, images: NDArray[np.uint8], labels: NDArray[np.int64], *, seed: int) -> dict[str, float]:
        """Mean ``elbo``, ``kl`` and ``recon_loss`` in nats, from one sample of each posterior.

        Args:
            images: (N, C, H, W) uint8 at native size.
            labels: (N,) int64.
            seed: of the samples.
        """
        noise = self.model.draw_noise(len(images), torch.Generator().manual_seed(seed))

        def measure(part: slice, size: int) -> torch.Tensor:
            count = len(images[part])
            with torch.inference_mode():
                x, y = self._canvas(images[part], size), self._padded(labels[part], size)
                some = Latent(noise.z[part], tuple(each[part] for each in noise.maps))
                found = self.model(x[:count], y[:count], some)
                return count * torch.stack([found.recon_loss, found.kl]).cpu().double()

        totals = torch.stack(self._batches.run(len(images), measure)).sum(dim=0)
        recon, kl_mean = (totals / len(images)).tolist()
        return {"recon_loss": recon, "kl": kl_mean, "elbo": -(recon + kl_mean)}

    def _padded(self, labels: NDArray[np.int64], size: int, rest: int = 0) -> torch.Tensor:
        padded = np.full((size, *labels.shape[1:]), rest, np.int64)
        padded[: len(labels)] = labels
        return upload(padded, self.device)

    def sample(self, count: int, *, seed: int) -> NDArray[np.uint8]:
        """Draw styles from the prior under every label.

        Every style has its own generator, on the CPU, so that style ``i`` of a seed is the same
        whatever the device and the number of styles.

        Returns:
            (count, K, C, H, W) uint8 at native size.
        """
        styles = [
            self.model.draw_noise(1, torch.Generator().manual_seed(seed * 100_003 + i)) for i in range(count)
        ]
        every = torch.arange(self.spec.num_classes, device=self.device)

        def draw(part: slice, size: int) -> NDArray[np.uint8]:
            # Latent maps at the mean of their prior, as for tiles: sampled, they make strokes ragged.
            z = torch.cat([style.z for style in styles[part]])
            with torch.inference_mode(), self._autocast():
                latent = Latent(z.to(self.device))
                tiles = self.model.relabel(latent, None, every.expand(len(z), -1))
                return from_canvas(tiles, self.spec.image_size).cpu().numpy()

        return np.concatenate(self._batches.run(count, draw))
