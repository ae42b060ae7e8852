"""Pre-training: the model's classifier is trained alone before everything else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.data.fitting import Fitting, fit
from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.whitened import WhitenedClassifier
from cvae_cli.training.augmentation import NOISE, augment_for_pretraining, augment_inputs
from cvae_cli.training.recipe import Recipe

_BATCH = 128
_LEARNING_RATE = 2e-3
_MOST_EPOCHS = 50
"""After which a few images have been learned by heart, however many steps a recipe asks for."""
_LEAST_EPOCHS = 2
"""Of a small folder's least number of steps, in which a whitened classifier is fitted."""
_MIN_STEPS_SHARE = 4
"""Of the recipe's least number of steps an epoch, since a classifier learns faster than a decoder."""


def pretrain_classifier(
    classifier: nn.Module,
    recipe: Recipe,
    images: Tensor,
    y: Tensor,
    *,
    device: torch.device,
    bf16: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Train a classifier alone, for as many epochs as the recipe says, and keep its last weights.

    Args:
        classifier: of the model.
        recipe: of the run.
        images: (N, C, H, W) uint8, real training images.
        y: (N,) int64.
        device: that the classifier is on.
        bf16: whether to compute in 16 bits.
        progress: called after each step with the number of steps done and in all.
    """
    canvas = recipe.spec.canvas_size
    if isinstance(classifier, WhitenedClassifier):
        options = Fitting(
            recipe.classifier.pretrain_epochs, min_steps=_LEAST_EPOCHS * recipe.min_steps, noise=NOISE
        )

        def prepare(batch: Tensor) -> Tensor:
            return to_canvas(batch.to(device), canvas)

        fit(classifier, options, images, y, prepare=prepare, bf16=bf16, progress=progress)
        classifier.requires_grad_(False)
        return
    batch = min(_BATCH >> (recipe.spec.depth - 3), len(y))  # deeper ones are for larger images
    steps = recipe.classifier.pretrain_epochs * max(len(y) // batch, recipe.min_steps // _MIN_STEPS_SHARE)
    steps = max(steps, min(recipe.classifier.pretrain_steps, _MOST_EPOCHS * (len(y) // batch)))
    classifier.requires_grad_(True)
    optimizer = torch.optim.Adam(classifier.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    order: list[Tensor] = []
    for step in range(steps):
        order = order or list(torch.randperm(len(y))[: len(y) // batch * batch].split(batch))
        chosen = order.pop()
        x = augment_inputs(to_canvas(images[chosen].to(device), canvas), recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = classifier(augment_for_pretraining(x, recipe))
            loss = F.cross_entropy(logits.float(), y[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        progress(step + 1, steps)
    if recipe.classifier.frozen:
        classifier.requires_grad_(False)
