"""Teaching the fast decoder of tiles what the model's own decoder draws (knowledge distillation).

Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network". All of it but the coarsest
feature maps begins as a copy of its teacher, so these are taught as they are (hints, Romero et al. 2015,
"FitNets"), and meanwhile half of the tiles are finished from the teacher's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvae_cli.model import losses
from cvae_cli.training.augmentation import augment_inputs
from cvae_cli.training.objective import Objective, Terms, Truth, other_labels
from cvae_cli.training.recipe import Recipe

_HINT = 30.0
"""Weight of the mean absolute errors of coarsest feature maps and condition, beside that of pixels."""
_PRIOR_SHARE = 0.125
"""Samples from the prior, beside the images of a batch: they are drawn, too (``cvae grid``)."""


class Distillation(Objective):
    """The terms of a run that trains the decoder of tiles, and leaves all else of a model as it is."""

    def __init__(self, recipe: Recipe) -> None:
        """Build the networks of a recipe, whose model has a decoder of tiles."""
        super().__init__(recipe)
        for model in (self.networks.model, self.networks.ema):
            model.requires_grad_(False)
        assert self.networks.model.tiles is not None
        self.networks.model.tiles.requires_grad_(True)

    def align_ema(self, images: Tensor, y: Tensor) -> None:
        """Nothing: the alignment stays as it is."""

    def begin_fine_tuning(self, images: Tensor, y: Tensor) -> None:
        """All tiles are its own from now on; the encoder is frozen from the start."""
        self.networks.fine_tuning = True

    def training_terms(self, images: Tensor, y: Tensor, truth: Truth | None = None) -> Terms:
        """As :meth:`Objective.training_terms`; ``truth`` is not used: the teacher takes its place."""
        weights, model = self.weights, self.networks.model
        assert model.tiles is not None
        x = augment_inputs(self.to_input(images), self.recipe)
        target = other_labels(y, self.recipe.spec.num_classes)
        with torch.no_grad():
            # Means, as tiles are drawn from; samples of posteriors are covered by those of the prior.
            shared = model.alignment(model.encoder(x, y).mu, y)
            drawn = torch.randn_like(shared[: max(1, round(_PRIOR_SHARE * len(x)))])
            every = torch.cat([target, target[: len(drawn)]])
            latent = model.alignment.inverse(torch.cat([shared, drawn]), every)
            taught = torch.sigmoid(model.decoder(latent, every).float())
        coarsest, condition = model.tiles.coarsest(latent, every)
        hint = None
        if not self.networks.fine_tuning:
            hint, coarsest, condition = self._hint(coarsest, condition, latent, every)
        logits = model.tiles.finish(coarsest, condition).float()
        terms = {"imitation": losses.absolute_error(logits, taught)}
        loss = weights.recon * losses.bernoulli_nll(logits, taught) + weights.sharpness * terms["imitation"]
        if hint is not None:
            terms["hint"] = hint
            loss = loss + _HINT * hint
        return {**terms, "loss": loss}

    def _hint(self, h: Tensor, condition: Tensor, latent: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far coarsest maps and condition are off; and both, of half of the images the teacher's."""
        with torch.no_grad():
            decoder = self.networks.model.decoder
            taught_h, taught_condition = decoder.coarsest(latent, y)  # type: ignore[operator]
        taught_h, taught_condition = taught_h.to(h.dtype), taught_condition.to(h.dtype)
        error = (h - taught_h).abs().float().mean() + (condition - taught_condition).abs().float().mean()
        own = torch.rand(len(y), 1, device=y.device) < 0.5
        mixed = torch.where(own[:, :, None, None], h, taught_h)
        return error, mixed, torch.where(own, condition, taught_condition)

    @torch.no_grad()
    def validation_terms(self, images: Tensor, y: Tensor) -> Terms:
        """As :meth:`Objective.validation_terms`, and ``imitation``, how far tiles are from what is taught.

        That is a mean absolute difference in grey levels (0-255).
        """
        ema = self.networks.ema
        target = other_labels(y, self.recipe.spec.num_classes)
        latent = ema.alignment.inverse(ema.encode(self.to_input(images), y)[0], target)
        assert ema.tiles is not None
        apart = torch.sigmoid(ema.tiles(latent, target)) - torch.sigmoid(ema.decoder(latent, target))
        return {**super().validation_terms(images, y), "imitation": 255.0 * apart.abs().mean()}
