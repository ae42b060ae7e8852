"""The random changes that a recipe asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from cvae_cli.data.augment import differentiable_augment, random_affine, random_flip, random_thickness
from cvae_cli.training.recipe import Recipe

NOISE = 0.05
"""Largest standard deviation of the noise that frozen classifiers learn to see through."""


def augment_inputs(x: Tensor, recipe: Recipe) -> Tensor:
    """Training images as the model sees them, (B, C, H, W) in [0, 1]; all channels are changed alike."""
    options = recipe.augmentation
    if options.flips:
        x = random_flip(x)
    if options.affine_share:
        chosen = torch.rand(len(x), device=x.device) < options.affine_share
        changed = random_affine(x, *options.affine, stretch=options.stretch, elastic=options.elastic)
        if options.thickness:
            changed = random_thickness(changed, options.thickness)
        x = torch.where(chosen[:, None, None, None], changed, x)
    return x


def augment_for_classifier(x: Tensor, recipe: Recipe) -> Tensor:
    """Real images as the classifier sees them in training, (B, C, H, W) in [0, 1]."""
    # Strokes stand on black; a photograph goes on beyond its edge.
    outside = "zeros" if recipe.spec.polarity == "light-on-dark" else "reflection"
    return random_affine(x, *recipe.classifier.affine, outside=outside)


def augment_for_pretraining(x: Tensor, recipe: Recipe) -> Tensor:
    """Real images as the classifier sees them while it is pre-trained: as it will see tiles."""
    x = augment_for_classifier(x, recipe)
    if not recipe.classifier.frozen:
        return x
    if recipe.discriminator.augment:
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.3, differentiable_augment(x), x)
    # It keeps it from deciding by single pixels (Kaur et al. 2019, "Are perceptually-aligned gradients
    # a general property of robust classifiers?").
    return with_noise(x)


def with_noise(x: Tensor) -> Tensor:
    """Images, (B, C, H, W), with noise of another strength each, up to ``NOISE``."""
    return x + NOISE * torch.rand(len(x), 1, 1, 1, device=x.device) * torch.randn_like(x)
