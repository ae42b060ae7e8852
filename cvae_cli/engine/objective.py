"""What training minimises: the terms of one step, put together from named losses.

Plain torch. Two networks learn beside the VAE and never see a gradient that would make the
task easier for it: the classifier learns from real images only, the discriminator from real
and drawn ones. The VAE learns through *frozen* copies of both (same weights, detached), so
that one backward pass and one optimiser serve all three.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from cvae_cli.engine.augment import random_affine
from cvae_cli.engine.recipes import Recipe
from cvae_cli.model import losses
from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.network import ConditionalVAE, ProjectionDiscriminator


def other_labels(y: Tensor, num_classes: int) -> Tensor:
    """For each label a different one, uniformly at random; (B,) int64."""
    return (y + torch.randint(1, num_classes, y.shape, device=y.device)) % num_classes


def frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Call a module so that gradients reach its inputs but not its parameters."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, parameters, inputs)


class Objective(nn.Module):
    """The networks of a training run and the terms that they are trained with."""

    def __init__(self, recipe: Recipe) -> None:
        """Build the networks of a recipe, with random weights."""
        super().__init__()
        self.recipe = recipe
        self.model = ConditionalVAE(recipe.spec).to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.discriminator: nn.Module | None = None
        if recipe.loss.realism:
            self.discriminator = ProjectionDiscriminator(recipe.spec, recipe.discriminator_width).to(
                memory_format=torch.channels_last
            )
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def to_input(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 at native size to the network's float32 canvas."""
        return to_canvas(images, self.recipe.spec.canvas_size)

    def training_terms(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One step's terms; ``loss`` is the sum to descend.

        Args:
            images: (B, C, H, W) uint8.
            y: (B,) int64.
        """
        weights, num_classes = self.recipe.loss, self.recipe.spec.num_classes
        x = self.to_input(images)
        target = other_labels(y, num_classes)

        mu, logvar = self.model.encode(x, y)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        # One decoder pass draws both: the image as itself, and as something else.
        logits = self.model.decode_logits(torch.cat([z, z]), torch.cat([y, target]))
        own_logits, tile_logits = logits.chunk(2)
        tile = torch.sigmoid(tile_logits)

        recon_loss = losses.bernoulli_nll(own_logits, x)
        kl = losses.gaussian_kl(mu, logvar)
        terms = {"recon_loss": recon_loss, "kl": kl, "elbo": -(recon_loss + kl)}
        loss = weights.recon * recon_loss + weights.kl * kl

        augmented = random_affine(x, *self.recipe.classifier_affine)
        terms["classifier"] = F.cross_entropy(self.model.classify(augmented).float(), y)
        terms["target"] = F.cross_entropy(frozen(self.model.classifier, tile).float(), target)
        loss = loss + terms["classifier"] + weights.target * terms["target"]

        if weights.cycle:
            again, _ = self.model.encode(tile, target)
            terms["cycle"] = (again.float() - z.detach().float()).square().sum(dim=1).mean()
            loss = loss + weights.cycle * terms["cycle"]
        if self.discriminator is not None:
            scores = self.discriminator(torch.cat([x, tile.detach()]), torch.cat([y, target]))
            real, fake = scores.chunk(2)
            terms["discriminator"] = losses.discriminator_hinge(real, fake)
            terms["realism"] = -frozen(self.discriminator, tile, target).float().mean()
            loss = loss + terms["discriminator"] + weights.realism * terms["realism"]

        terms["loss"] = loss
        return terms

    @torch.no_grad()
    def validation_terms(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The averaged weights' terms on held-out images; ``objective`` is what is compared.

        ``label_effect`` is the mean absolute change, in grey levels (0-255), of the drawn image
        when only the label changes; ``effectiveness`` the share of the drawn images that the
        training classifier reads as their target.
        """
        model, weights = self.averaged, self.recipe.loss
        x = self.to_input(images)
        mu, logvar = model.encode(x, y)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        target = other_labels(y, self.recipe.spec.num_classes)
        recon_loss = losses.bernoulli_nll(model.decode_logits(z, y), x)
        kl = losses.gaussian_kl(mu, logvar)
        own, tile = model.decode(mu, y), model.decode(mu, target)
        logits = model.classify(tile).float()
        objective = weights.recon * recon_loss + weights.kl * kl
        return {
            "recon_loss": recon_loss,
            "kl": kl,
            "elbo": -(recon_loss + kl),
            "objective": objective + weights.target * F.cross_entropy(logits, target),
            "label_effect": 255.0 * (own.float() - tile.float()).abs().mean(),
            "effectiveness": (logits.argmax(dim=1) == target).float().mean(),
            "accuracy": (model.classify(x).argmax(dim=1) == y).float().mean(),
        }

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the model's, after each step of the optimiser.

        The decay grows from zero, as in torchvision's and timm's exponential averages, so that
        the random start is forgotten soon.
        """
        self.updates += 1
        step = int(self.updates)
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = list(self.averaged.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](self.model.parameters()), 1.0 - decay)

    def parameter_groups(self) -> list[dict[str, object]]:
        """What the optimiser takes: the model, and the discriminator at its own rate."""
        rate = self.recipe.learning_rate
        groups: list[dict[str, object]] = [{"params": list(self.model.parameters()), "lr": rate}]
        if self.discriminator is not None:
            parameters = list(self.discriminator.parameters())
            groups.append({"params": parameters, "lr": rate * self.recipe.discriminator_rate})
        return groups
