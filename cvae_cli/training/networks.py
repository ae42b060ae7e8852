"""The networks of a training run, and the exponential moving average (EMA) of the model's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cvae_cli.errors import UserError
from cvae_cli.model.autoencoder import Decoder
from cvae_cli.model.classifiers import classifier_widths
from cvae_cli.model.discriminators import FeatureDiscriminator, ProjectionDiscriminator
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.eyes import load_eyes
from cvae_cli.training.recipe import Recipe

_CLASSIFIER, _LATENT_MAPS, _TILES = "classifier.", "decoder.maps.", "tiles."
"""Begin the names of their tensors."""


class Networks(nn.Module):
    """The model, its EMA, and the discriminators.

    Attributes:
        model: what is trained.
        ema: what is validated and exported.
        discriminator: on pixels; ``None`` where the recipe has none.
        eyes: a network trained on ImageNet, whose feature maps are looked at; ``None`` where it is the
            model's classifier, or none.
        feature_discriminator: on these feature maps; ``None`` where the recipe has none.
        steps: number of optimiser steps so far; part of a checkpoint.
        fine_tuning: whether the encoder is frozen; part of a checkpoint.
        has_classifier: whether the classifier is that of another model, and needs no pre-training.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Build the networks of a recipe, with random weights."""
        super().__init__()
        self.recipe = recipe
        self.model = ConditionalVAE(recipe.spec).to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.discriminator: nn.Module | None = None
        options = recipe.discriminator
        if recipe.loss.realism or (recipe.fine_tuning and recipe.fine_tuning.realism):
            on_pixels = ProjectionDiscriminator(recipe.spec, options.width, centred=options.centred)
            self.discriminator = on_pixels.to(memory_format=torch.channels_last)
        self.feature_discriminator: nn.Module | None = None
        self.eyes = load_eyes() if options.feature_width and options.eyes == "imagenet" else None
        if options.feature_width:
            channels = classifier_widths(recipe.spec)[-2:] if self.eyes is None else self.eyes.channels
            on_features = FeatureDiscriminator(channels, recipe.spec.num_classes, options.feature_width)
            self.feature_discriminator = on_features.to(memory_format=torch.channels_last)
        if recipe.classifier.frozen:
            self.model.classifier.requires_grad_(False)
        # Plain values, not buffers: reading a buffer on a GPU would wait for the GPU.
        self.steps = 0
        self.fine_tuning = False
        self.has_classifier = False

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the tensors."""
        return {"steps": self.steps, "fine_tuning": self.fine_tuning}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`get_extra_state`."""
        self.steps, self.fine_tuning = state["steps"], state["fine_tuning"]

    def start_from(self, other: ConditionalVAE, *, same_images: bool) -> None:
        """Take over what another model has learned.

        Args:
            other: with networks of the same shapes. It may lack latent maps: they start as they are, and say
                nothing yet.
            same_images: whether it was trained on these images: then its classifier, if it is of the same
                shape, is kept too, and need not be trained again.

        Raises:
            UserError: they have others.
        """
        # A decoder of tiles begins as the other one, not as what it may have been taught before.
        learned, own = (_without(_TILES, model.state_dict()) for model in (other, self.model))
        if not other.spec.latent_maps:
            own = _without(_LATENT_MAPS, own)
        self.has_classifier = same_images and _shapes(learned) == _shapes(own)
        if not self.has_classifier:
            learned, own = _without(_CLASSIFIER, learned), _without(_CLASSIFIER, own)
        if _shapes(learned) != _shapes(own):
            raise UserError(
                "--from: this model's networks have other shapes than those that these images are trained "
                "with, or another number of classes."
            )
        for model in (self.model, self.ema):
            model.load_state_dict(learned, strict=False)
            if model.tiles is not None:
                assert isinstance(model.decoder, Decoder)
                model.tiles.begin_as(model.decoder)

    def freeze_encoder(self) -> None:
        """Use the EMA's encoder and alignment from now on, and train the decoder only."""
        self.model.encoder.load_state_dict(self.ema.encoder.state_dict())
        self.model.alignment.load_state_dict(self.ema.alignment.state_dict())
        self.fine_tuning = True

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the EMA towards the model, after each step of the optimiser.

        The decay grows from zero, as in torchvision's and timm's averages, so that the random initial
        weights are forgotten soon. (``torch.optim.swa_utils.AveragedModel`` starts from a copy instead,
        and averages all buffers or none.)
        """
        self.steps += 1
        decay = min(self.recipe.ema_decay, (1 + self.steps) / (10 + self.steps))
        if self.fine_tuning:
            # Undoes what momentum the optimiser had left for the encoder.
            torch._foreach_copy_(
                list[Tensor](self.model.encoder.parameters()), list[Tensor](self.ema.encoder.parameters())
            )
        averaged: list[Tensor] = list(self.ema.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](self.model.parameters()), 1.0 - decay)
        if statistics := _running_statistics(self.ema):
            torch._foreach_lerp_(statistics, _running_statistics(self.model), 1.0 - decay)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser takes: the model, and the discriminators at their own rate."""
        rate, options = self.recipe.optimizer.learning_rate, self.recipe.discriminator
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters()), "lr": rate}]
        for network in (self.discriminator, self.feature_discriminator):
            if network is not None:
                groups.append(
                    {
                        "params": list(network.parameters()),
                        "lr": rate * options.learning_rate_factor,
                        "betas": options.betas,
                    }
                )
        return groups


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """Call a module so that gradients reach its inputs but not its parameters."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, parameters, inputs)


def _without(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(prefix)}


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _running_statistics(module: nn.Module) -> list[Tensor]:
    """Those of batch normalisation, which are averaged like parameters."""
    return [value for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var"))]
