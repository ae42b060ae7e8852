"""Lightning's view of a training run: steps, logs, the optimiser."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvae_cli.data.fitting import temperature
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.model.canvas import from_canvas, images_at_once, to_canvas
from cvae_cli.model.precision import fit_to_bf16
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training import compat
from cvae_cli.training.classifier import pretrain_classifier
from cvae_cli.training.compat import pl
from cvae_cli.training.distillation import Distillation
from cvae_cli.training.objective import Objective, Truth
from cvae_cli.training.recipe import Recipe

_CLASS_IMAGES = 20_000
"""Training images from which the style and the latents of each class are measured, at most."""
_BATCH = 500
_USUAL_SHARE = 0.95
"""Share of the training images whose latent vectors count as usual."""
_ENOUGH_TO_CALIBRATE = 200
"""Validation images from which the classifier's certainty can be calibrated."""
_PICTURE_ROWS = 10
_RANK_STRIDE, _STEP_STRIDE = 1_000_003, 7_919
"""Between the seeds of processes that train together, and of steps that a session may begin with."""


class TrainingModule(pl.LightningModule):  # type: ignore[misc]
    """An :class:`Objective` as Lightning trains it."""

    def __init__(
        self,
        recipe: Recipe,
        training: LabelledImages,
        pretraining: Callable[[int, int], None] = lambda done, steps: None,
        *,
        seed: int = 0,
        validation: LabelledImages | None = None,
    ) -> None:
        """Build the networks of a recipe.

        Args:
            recipe: what to train, and how.
            training: real training images.
            pretraining: called after each step of the classifier's pre-training; what it raises ends it.
            seed: of the run.
            validation: images that are not trained on; the classifier's certainty is calibrated on them.
        """
        super().__init__()
        self.recipe = recipe
        self.training_images, self.validation_images = training, validation
        self.class_images = training.subset(torch.arange(min(_CLASS_IMAGES, len(training))))
        if recipe.spec.tile_widths:
            self.objective: Objective = Distillation(recipe)
        else:
            self.objective = Objective(recipe)
            self.objective.style_targets.fit(self.class_images.images, self.class_images.labels)
        self.terms: dict[str, Tensor] = {}
        self._taught_by: ModelSpec | None = None
        self._pretraining = pretraining
        self._seed = seed

    def start_from(self, model: ConditionalVAE, *, same_images: bool) -> None:
        """As :meth:`cvae_cli.training.networks.Networks.start_from`."""
        distils = bool(self.recipe.spec.tile_widths)
        self.objective.networks.start_from(model, same_images=same_images or distils)
        if distils:
            self._taught_by = model.spec

    def on_train_start(self) -> None:
        """Pre-train the classifier, if the recipe says so and the run is new."""
        networks = self.objective.networks
        done = _STEP_STRIDE * networks.steps
        if networks.steps > 0:
            # Or each session would begin with the same images and noise, and those that are shorter than an
            # epoch would never see the rest.
            torch.manual_seed(self._seed + done)
            compat.reorder(self.trainer, self._seed + done)
        if self.trainer.world_size > 1:
            # Labels and noise are drawn by each process for itself, or all would draw the same; the order
            # of the images has a generator of its own, which they share.
            torch.manual_seed(self._seed + done + _RANK_STRIDE * (1 + self.trainer.global_rank))
        if not self.recipe.classifier.pretrain_epochs or networks.steps > 0:
            return
        classifier = networks.model.classifier
        if self.trainer.is_global_zero and not networks.has_classifier:
            pretrain_classifier(
                classifier,
                self.recipe,
                self.training_images.images,
                self.training_images.labels,
                device=self.device,
                bf16="bf16" in str(self.trainer.precision),
                progress=self._pretraining,
            )
        state = self.trainer.strategy.broadcast(classifier.state_dict())
        classifier.load_state_dict(state)
        networks.ema.classifier.load_state_dict(state)
        self.objective.feature_style.fit(classifier, self.class_images.images, self.class_images.labels)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """One step's loss."""
        # Checked in every step, since a run that is resumed within an epoch has no start of it.
        if self.current_epoch >= self.recipe.fine_tuning_begins(int(self.trainer.max_epochs or 0)):
            self.objective.begin_fine_tuning(self.class_images.images, self.class_images.labels)
        else:
            # A run that is resumed for more epochs fine-tunes its decoder in the last of these.
            self.objective.networks.fine_tuning = False
        images, y, *truth = batch
        terms = self.objective.training_terms(images, y, Truth(*truth) if truth else None)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self.log_dict(self.terms)
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        """Align the EMA, which is what is validated and exported."""
        self.objective.align_ema(self.class_images.images, self.class_images.labels)

    @torch.no_grad()
    def latent_norm(self) -> float | None:
        """The norm of the EMA's latent vectors that all but a few training images stay below."""
        if self._taught_by is not None:
            return self._taught_by.latent_norm
        ema, data = self.objective.networks.ema, self.class_images
        batch = images_at_once(_BATCH, self.recipe.spec.canvas_size)
        batches = zip(data.images.split(batch), data.labels.split(batch), strict=True)
        norms = [
            ema.encode(self.objective.to_input(images.to(self.device)), y.to(self.device))[0].norm(dim=1)
            for images, y in batches
        ]
        return float(torch.cat(norms).float().quantile(_USUAL_SHARE))

    @torch.no_grad()
    def label_temperature(self) -> float:
        """What the logits of the EMA's classifier are to be divided by, on validation images."""
        if self._taught_by is not None:
            return self._taught_by.label_temperature
        ema, data = self.objective.networks.ema, self.validation_images
        if data is None or len(data) < _ENOUGH_TO_CALIBRATE:
            return 1.0
        parts = data.images.split(images_at_once(_BATCH, self.recipe.spec.canvas_size))
        logits = [ema.classify(self.objective.to_input(part.to(self.device))).float().cpu() for part in parts]
        return temperature(torch.cat(logits), data.labels)

    def exported(self) -> tuple[ConditionalVAE, ModelSpec]:
        """The EMA as it is exported, and its spec with what is measured only then."""
        spec = replace(
            self.recipe.spec, latent_norm=self.latent_norm(), label_temperature=self.label_temperature()
        )
        model = copy.deepcopy(self.objective.networks.ema)
        model.spec = spec  # tiles depend on it
        data = self.validation_images or self.training_images.subset(torch.arange(0))
        model, auto_precision = fit_to_bf16(model, data.images, data.labels)
        return model, replace(spec, auto_precision=auto_precision)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the EMA's terms, as ``val_NAME``, over all validation images."""
        terms = self.objective.validation_terms(*batch)
        self.log_dict(
            {f"val_{name}": value.float() for name, value in terms.items()},
            sync_dist=True,
            batch_size=len(batch[1]),
        )
        if batch_idx == 0 and self.trainer.is_global_zero:
            self._log_pictures(*batch)

    def measure(self, data: LabelledImages, count: int = 2000) -> dict[str, float]:
        """The EMA's terms on some validation images, outside of Lightning's loops."""
        self.eval()
        self.on_validation_epoch_start()
        count = images_at_once(count, self.recipe.spec.canvas_size)
        images, labels = data.images[:count].to(self.device), data.labels[:count].to(self.device)
        terms = self.objective.validation_terms(images, labels)
        return {name: float(value) for name, value in terms.items()}

    def configure_optimizers(self) -> Any:
        """Adam; linear warm-up, then half a cosine down to zero."""
        options = self.recipe.optimizer
        optimizer = torch.optim.Adam(self.objective.networks.parameter_groups(), betas=options.betas)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = min(options.warmup_steps, max(1, total // 10))

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @torch.no_grad()
    def _log_pictures(self, images: Tensor, y: Tensor) -> None:
        """``reconstruction``: originals above their reconstructions; ``relabelled``: one row per image."""
        writer = getattr(self.logger, "experiment", None)
        if writer is None or not hasattr(writer, "add_image"):
            return
        spec, model = self.recipe.spec, self.objective.networks.ema
        images, y = images[:_PICTURE_ROWS], y[:_PICTURE_ROWS]
        every = torch.arange(spec.num_classes, device=y.device)[None]
        drawn = []
        # One at a time: the tiles of ten large images under many labels would fill the memory.
        for image, own in zip(images.split(1), y.split(1), strict=True):
            latent = model.infer(to_canvas(image, spec.canvas_size), own)
            drawn.append(from_canvas(model.relabel(latent, own, every), spec.image_size))
        tiles = torch.cat(drawn)  # (N, K, C, H, W)
        own = tiles[torch.arange(len(y)), y]
        rows = torch.cat([images[:, None], tiles], dim=1)
        writer.add_image("reconstruction", _mosaic(torch.stack([images, own])), self.current_epoch)
        writer.add_image("relabelled", _mosaic(rows), self.current_epoch)


def _mosaic(tiles: Tensor) -> Tensor:
    """(R, K, C, H, W) uint8 to one picture (C, R*H, K*W)."""
    rows, columns, channels, height, width = tiles.shape
    return tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width).cpu()
