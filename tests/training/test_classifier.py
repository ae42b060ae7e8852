from __future__ import annotations

from dataclasses import replace

import torch
from helpers import small_recipe

from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.classifier import pretrain_classifier
from cvae_cli.training.recipes import CIFAR10


def test_pretraining_teaches_the_classifier_and_nothing_else() -> None:
    torch.manual_seed(0)
    recipe = small_recipe(CIFAR10)
    recipe = replace(recipe, classifier=replace(recipe.classifier, pretrain_epochs=1), min_steps=30)
    model = ConditionalVAE(recipe.spec)
    y = torch.arange(128) % 10
    patterns = torch.randint(0, 200, (10, 3, 4, 4)).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    images = (patterns[y] + torch.randint(0, 50, (128, 3, 32, 32))).to(torch.uint8)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    steps: list[tuple[int, int]] = []
    pretrain_classifier(
        model.classifier, recipe, images, y,
        device=torch.device("cpu"), bf16=False, progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert steps[0] == (1, 64)
    assert steps[-1] == (64, 64)
    predicted = model.eval().classify(to_canvas(images, recipe.spec.canvas_size)).argmax(dim=1)
    assert (predicted == y).float().mean() > 0.3  # chance is a tenth
    assert all(torch.equal(value, before[name]) for name, value in model.decoder.state_dict().items())
