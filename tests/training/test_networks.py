from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import small_recipe

from cvae_cli.errors import UserError
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.networks import Networks, frozen
from cvae_cli.training.recipes import CIFAR10, SILHOUETTES, STROKES


def test_frozen_passes_gradients_through_but_keeps_none(small_spec: ModelSpec) -> None:
    model = ConditionalVAE(small_spec)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    frozen(model.classifier, x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.classifier.parameters())


def test_the_ema_follows_the_model() -> None:
    networks = Networks(small_recipe(STROKES))
    with torch.no_grad():
        for parameter in networks.model.parameters():
            parameter.fill_(1.0)
    networks.update_ema()
    first = next(networks.ema.parameters())
    assert not torch.allclose(first, torch.ones(()), atol=0.01)
    for _ in range(50):
        networks.update_ema()
    assert all(torch.allclose(value, torch.ones(()), atol=0.01) for value in networks.ema.parameters())


def test_a_checkpoint_holds_the_steps_and_whether_the_decoder_is_fine_tuned() -> None:
    first, second = Networks(small_recipe(STROKES)), Networks(small_recipe(STROKES))
    first.update_ema()
    first.freeze_encoder()
    second.load_state_dict(first.state_dict())
    assert (second.steps, second.fine_tuning) == (1, True)


def test_a_recipe_decides_which_networks_there_are() -> None:
    digits, photographs = Networks(small_recipe(STROKES)), Networks(small_recipe(CIFAR10))
    assert digits.feature_discriminator is None
    assert photographs.feature_discriminator is not None
    assert [len(networks.parameter_groups()) for networks in (digits, photographs)] == [2, 3]
    for networks in (digits, photographs):
        assert not any(value.requires_grad for value in networks.model.classifier.parameters())
    clothes = Networks(small_recipe(SILHOUETTES))
    assert all(value.requires_grad for value in clothes.model.classifier.parameters())


def test_starting_from_a_model_takes_its_classifier_only_if_it_knows_the_images() -> None:
    torch.manual_seed(0)
    recipe = small_recipe(STROKES)
    networks, other = Networks(recipe), ConditionalVAE(recipe.spec)
    before = {name: value.clone() for name, value in networks.model.classifier.state_dict().items()}
    networks.start_from(other, same_images=False)
    assert not networks.has_classifier
    for model in (networks.model, networks.ema):
        for name, value in model.state_dict().items():
            if not name.startswith("classifier."):
                assert torch.equal(value, other.state_dict()[name])
    assert all(torch.equal(v, before[k]) for k, v in networks.model.classifier.state_dict().items())
    wider = ConditionalVAE(replace(recipe.spec, latent_dim=recipe.spec.latent_dim + 1))
    with pytest.raises(UserError, match="--from: this model's networks have other shapes"):
        networks.start_from(wider, same_images=True)
    networks.start_from(other, same_images=True)
    assert networks.has_classifier
    for name, value in networks.model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_model_without_latent_maps_is_a_start_for_one_with_them() -> None:
    torch.manual_seed(0)
    recipe = small_recipe(STROKES)
    networks = Networks(recipe)
    maps = {name: value.clone() for name, value in networks.model.decoder.maps.state_dict().items()}
    assert maps
    without = ConditionalVAE(replace(recipe.spec, latent_maps=()))
    networks.start_from(without, same_images=True)
    assert networks.has_classifier
    taken = networks.model.state_dict()
    for name, value in without.state_dict().items():
        assert torch.equal(value, taken[name])
    for name, value in networks.model.decoder.maps.state_dict().items():
        assert torch.equal(value, maps[name])
    # What a model has learned is not thrown away unasked.
    with pytest.raises(UserError, match="other shapes"):
        Networks(replace(recipe, spec=without.spec)).start_from(networks.model, same_images=True)
