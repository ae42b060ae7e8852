"""Pre-training: the model's classifier is trained alone before everything else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.classifiers import ResidualClassifier
from cvae_cli.training.augmentation import augment_for_pretraining, augment_inputs
from cvae_cli.training.recipe import Recipe

_BATCH = 128
_LEARNING_RATE = 2e-3
_MOST_EPOCHS = 50
"""After which a few images have been learned by heart, however many steps a recipe asks for."""
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
    batch = min(_BATCH >> (recipe.spec.depth - 3), len(y))  # deeper ones are for larger images
    steps = recipe.classifier.pretrain_epochs * max(len(y) // batch, recipe.min_steps // _MIN_STEPS_SHARE)
    steps = max(steps, min(recipe.classifier.pretrain_steps, _MOST_EPOCHS * (len(y) // batch)))
    network = classifier
    if isinstance(classifier, ResidualClassifier):
        network = classifier.with_batch_norm()
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    order: list[Tensor] = []
    for step in range(steps):
        order = order or list(torch.randperm(len(y))[: len(y) // batch * batch].split(batch))
        chosen = order.pop()
        x = augment_inputs(to_canvas(images[chosen].to(device), recipe.spec.canvas_size), recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = network(augment_for_pretraining(x, recipe))
            loss = F.cross_entropy(logits.float(), y[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        progress(step + 1, steps)
    if isinstance(classifier, ResidualClassifier) and isinstance(network, ResidualClassifier):
        classifier.fold(network)
    if recipe.classifier.frozen:
        classifier.requires_grad_(False)
