"""What training minimises: the terms of one step, put together from named losses.

Plain torch. Two networks learn beside the VAE and never see a gradient that would make the
task easier for it: the classifier learns from real images only, the discriminator from real
and drawn ones. The VAE learns through *frozen* copies of both (same weights, detached), so
that one backward pass and one optimiser serve all three.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from cvae_cli.engine.augment import differentiable, random_affine, random_flip
from cvae_cli.engine.recipes import LossWeights, Recipe
from cvae_cli.model import losses
from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.network import (
    ConditionalVAE,
    FeatureDiscriminator,
    ProjectionDiscriminator,
    ResidualClassifier,
)

_FIT_STEPS = 50
"""Steps between two fits of the common code."""

_TEACHING_BATCH = 128
_TEACHING_RATE = 2e-3

_STYLES: dict[str, tuple[Callable[[Tensor], Tensor] | None, int]] = {
    "strokes": (losses.stroke_style, 3),
    "silhouettes": (losses.silhouette_style, 2),
    "colours": (None, 0),
}
"""Of each kind of style its measure, which is compared among the images of a class, and its figures."""


def other_labels(y: Tensor, num_classes: int) -> Tensor:
    """For each label a different one, uniformly at random; (B,) int64."""
    return (y + torch.randint(1, num_classes, y.shape, device=y.device)) % num_classes


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """Call a module so that gradients reach its inputs but not its parameters."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, parameters, inputs)


def _running_statistics(module: nn.Module) -> list[Tensor]:
    """Those of batch normalisation, which are averaged as parameters are."""
    return [value for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var"))]


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
            discriminator = ProjectionDiscriminator(
                recipe.spec, recipe.discriminator_width, centred=recipe.discriminator_centred
            )
            self.discriminator = discriminator.to(memory_format=torch.channels_last)
        self.feature_discriminator: nn.Module | None = None
        if recipe.feature_discriminator_width:
            by_features = FeatureDiscriminator(recipe.spec, recipe.feature_discriminator_width)
            self.feature_discriminator = by_features.to(memory_format=torch.channels_last)
        if recipe.classifier_rests:
            self.model.classifier.requires_grad_(False)
        classes = recipe.spec.num_classes
        self.style_mean: Tensor
        self.style_std: Tensor
        self.style_of, figures = _STYLES[recipe.spec.kind_of_style]
        self.register_buffer("style_mean", torch.zeros(classes, figures))
        self.register_buffer("style_std", torch.ones(classes, figures))
        latent = recipe.spec.latent_dim
        self.code_share: Tensor
        self.code_mean: Tensor
        self.code_square: Tensor
        self.code_variance: Tensor
        self.register_buffer("code_share", torch.zeros(classes))
        self.register_buffer("code_mean", torch.zeros(classes, latent))
        self.register_buffer("code_square", torch.zeros(classes, latent, latent))
        self.register_buffer("code_variance", torch.zeros(classes, latent))
        self.finishing: Tensor
        self.register_buffer("finishing", torch.zeros((), dtype=torch.bool))
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def weights(self) -> LossWeights:
        """The factors of the terms at this time."""
        return self.recipe.finish if self.finishing and self.recipe.finish else self.recipe.loss

    @torch.no_grad()
    def finish(self, images: Tensor, y: Tensor) -> None:
        """Begin the last part of a training, in which the codes stay as they are.

        While the encoder moves, its common code, which is measured, is always a little behind. By
        that the decoder tells the codes that were carried over from another class, and obeys the
        label for those alone: what is drawn when all has come to rest looks as if there had been no
        such lesson. So the lesson that counts is given at rest, to the decoder, with the averaged encoder.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if self.finishing:
            return
        self.fit_average(images, y)
        self.model.encoder.load_state_dict(self.averaged.encoder.state_dict())
        self.model.common.load_state_dict(self.averaged.common.state_dict())
        self.finishing.fill_(True)

    def _encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's codes, from which it learns unless they stay as they are."""
        mu, logvar = frozen(self.model.encoder, x, y) if self.finishing else self.model.encoder(x, y)
        return mu, logvar

    def to_input(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 at native size to the network's float32 canvas."""
        return to_canvas(images, self.recipe.spec.canvas_size)

    @torch.no_grad()
    def measure_classes(self, images: Tensor, y: Tensor) -> None:
        """Take the usual style of each class from real training images.

        Args:
            images: (N, C, H, W) uint8.
            y: (N,) int64.
        """
        if self.style_of is None:
            return
        style = torch.cat([self.style_of(self.to_input(part)) for part in images.split(1000)])
        for label in range(self.recipe.spec.num_classes):
            of_class = style[y == label]
            if len(of_class) > 1:
                self.style_mean[label] = of_class.mean(dim=0)
                self.style_std[label] = of_class.std(dim=0).clamp(min=1e-3)

    @torch.no_grad()
    def fit_average(self, images: Tensor, y: Tensor) -> None:
        """Give the averaged weights the common code of their own codes.

        What the model has gathered on its way does not fit its average.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if self.recipe.common_code is None or self.finishing:
            return
        device = self.updates.device
        found = [
            self.averaged.encoder(self.to_input(part.to(device)), label.to(device))
            for part, label in zip(images.split(500), y.split(500), strict=True)
        ]
        codes, logvar = torch.cat([mu for mu, _ in found]), torch.cat([logvar for _, logvar in found])
        moments = self._moments_of(codes, logvar, y.to(device))
        self.averaged.common.fit(*moments, images=len(y), strength=self.recipe.common_code)

    @torch.no_grad()
    def _follow_codes(self, mu: Tensor, logvar: Tensor, y: Tensor) -> None:
        """Keep the moments of each class's codes, and now and then fit the common code to them."""
        if self.recipe.common_code is None or self.finishing:
            return
        step = int(self.updates)
        # Of few steps at first, while the codes change fast.
        rate = max(self.recipe.moments_rate, 1 / (1 + step))
        kept = [self.code_share, self.code_mean, self.code_square, self.code_variance]
        torch._foreach_lerp_(kept, list(self._moments_of(mu, logvar, y)), rate)
        if step >= self.recipe.warmup_steps and step % _FIT_STEPS == 0:
            images = int(len(y) / rate)
            self.model.common.fit(*kept, images=images, strength=self.recipe.common_code)

    def _moments_of(self, mu: Tensor, logvar: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each class its share, (K,), and times that the means of ``mu``, its square and variance."""
        with torch.autocast(mu.device.type, enabled=False):
            mu = mu.float()
            of_class = F.one_hot(y, self.recipe.spec.num_classes).float().T / len(y)  # (K, B)
            square = torch.einsum("kb,bi,bj->kij", of_class, mu, mu)
            return of_class.sum(dim=1), of_class @ mu, square, of_class @ logvar.float().exp()

    def training_terms(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One step's terms; ``loss`` is the sum to descend.

        Args:
            images: (B, C, H, W) uint8.
            y: (B,) int64.
        """
        weights, num_classes = self.weights, self.recipe.spec.num_classes
        x = self._changed(self.to_input(images))
        target = other_labels(y, num_classes)

        # The image itself takes the short way, around the common code: there and back is the
        # same, and what the maps still lack cannot be made use of.
        mu, logvar = self._encode(x, y)
        # Half of the time a sample, as the bound wants it, half the mean, as relabelling takes it:
        # in either drawing by itself, or the decoder would know by the noise which is wanted.
        own_code, tile_code = (self._sample_or_mean(mu, logvar) for _ in range(2))
        carried = self.model.common.inverse(self.model.common(tile_code, y), target)
        # One decoder pass draws both: the image as itself, and as something else.
        codes = torch.cat([own_code, carried])
        logits = self.model.decoder(codes, torch.cat([y, target]))
        own_logits, tile_logits = logits.chunk(2)
        tile = torch.sigmoid(tile_logits)

        recon_loss = self.model.recon_loss(own_logits, x)
        # From N(centre, I), not from the prior in the common code: that follows the codes, and
        # they would shrink together without end.
        kl = losses.gaussian_kl(mu.float() - self.model.common.centre[y], logvar)
        terms = {"recon_loss": recon_loss, "kl": kl, "elbo": -(recon_loss + kl)}
        loss = weights.recon * recon_loss + weights.kl * kl

        if weights.sharpness:
            terms["sharpness"] = losses.absolute_error(own_logits, x)
            loss = loss + weights.sharpness * terms["sharpness"]

        if not self.recipe.classifier_rests:
            terms["classifier"] = self._classifier_loss(x, y)
            loss = loss + terms["classifier"]

        if weights.cycle:
            some = slice(max(1, round(self.recipe.cycle_share * len(x))))
            again = self.model.common(self._encode(tile[some], target[some])[0], target[some])
            # Compared where the decoder takes them to draw the image itself again.
            returned = self.model.common.inverse(again, y[some])
            terms["cycle"] = (returned - tile_code[some].detach()).square().sum(dim=1).mean()
            loss = loss + weights.cycle * terms["cycle"]
        if weights.style:
            terms["style"] = self._style_difference(x, y, tile, target)
            loss = loss + weights.style * terms["style"]
        terms |= self._seen(x, y, tile, target, own_logits)
        for name in ("target", "realism", "features", "perceptual"):
            if name in terms:
                loss = loss + getattr(weights, name) * terms[name]
        if "discriminator" in terms:
            loss = loss + terms["discriminator"]

        self._follow_codes(mu, logvar, y)
        if self.finishing:
            # Nothing, but DistributedDataParallel waits for a gradient of every parameter.
            loss = loss + 0.0 * torch.stack([value.sum() for value in self.model.encoder.parameters()]).sum()
        terms["loss"] = loss
        return terms

    def _moved(self, x: Tensor) -> Tensor:
        """Images as the classifier sees them in training."""
        # Strokes stand on black; a photograph goes on beyond its edge.
        outside = "zeros" if self.recipe.spec.polarity == "light-on-dark" else "reflection"
        return random_affine(x, *self.recipe.classifier_affine, outside=outside)

    def _classifier_loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.model.classify(self._moved(x)).float(), y)

    def teach_classifier(
        self, images: Tensor, y: Tensor, *, bf16: bool, progress: Callable[[int, int], None]
    ) -> None:
        """Train the classifier alone, for as many epochs as the recipe says.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
            bf16: whether to compute in 16 bits.
            progress: told after each step how many are done, of how many.
        """
        device, batch = self.updates.device, min(_TEACHING_BATCH, len(y))
        steps = self.recipe.classifier_epochs * max(len(y) // batch, self.recipe.least_steps)
        classifier = self.model.classifier
        pupil = classifier
        if isinstance(classifier, ResidualClassifier):
            pupil = classifier.normalised().requires_grad_(True)
        optimizer = torch.optim.Adam(pupil.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _TEACHING_RATE, total_steps=steps)
        order: list[Tensor] = []
        for step in range(steps):
            order = order or list(torch.randperm(len(y))[: len(y) // batch * batch].split(batch))
            chosen = order.pop()
            x = self._changed(self.to_input(images[chosen].to(device)))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(pupil(self._taught(x)).float(), y[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, steps)
        if isinstance(classifier, ResidualClassifier) and isinstance(pupil, ResidualClassifier):
            classifier.fold(pupil)
        self.averaged.classifier.load_state_dict(classifier.state_dict())

    def _taught(self, x: Tensor) -> Tensor:
        """Images as the classifier sees them while it is taught: as it will see tiles."""
        x = self._moved(x)
        if not self.recipe.classifier_rests:
            return x
        if self.recipe.discriminator_augments:
            x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.3, differentiable(x), x)
        # What it learns under noise it does not read from single pixels (Kaur et al. 2019, "Are
        # perceptually-aligned gradients a general property of robust classifiers?").
        return x + 0.05 * torch.rand(len(x), 1, 1, 1, device=x.device) * torch.randn_like(x)

    def _changed(self, x: Tensor) -> Tensor:
        """Training images with the changes of the recipe, (B, C, H, W) in [0, 1]."""
        if self.recipe.flips:
            x = random_flip(x)
        if self.recipe.input_share:
            chosen = torch.rand(len(x), device=x.device) < self.recipe.input_share
            x = torch.where(chosen[:, None, None, None], random_affine(x, *self.recipe.input_affine), x)
        return x

    def _misread(self, cross_entropy: Tensor) -> Tensor:
        """What the classifier's cross-entropy of each tile, (B,), adds up to."""
        beyond = F.relu(cross_entropy - self.recipe.target_margin)
        return (beyond + self.recipe.target_square * beyond.square()).mean()

    def _seen(
        self, x: Tensor, y: Tensor, tile: Tensor, target: Tensor, own_logits: Tensor
    ) -> dict[str, Tensor]:
        """What the classifier and the discriminators make of what was drawn, and their own loss."""
        weights = self.weights
        terms: dict[str, Tensor] = {}
        drawn, labels = tile, target
        if weights.features or weights.perceptual or self.feature_discriminator is not None:
            drawn, labels = torch.cat([tile, torch.sigmoid(own_logits)]), torch.cat([target, y])
        images = torch.cat([x, drawn])
        if self.recipe.discriminator_augments:
            images = differentiable(images, groups=len(images) // len(x))
        every = torch.cat([y, labels])

        if isinstance(self.model.classifier, ResidualClassifier) and self.recipe.classifier_rests:
            # One look for all: the label of a tile, its realism, and the likeness of a reconstruction.
            with torch.no_grad():
                real_maps = self.model.classifier.maps(images[: len(x)])
            maps = self.model.classifier.maps(images[len(x) :])
            read = self.model.classifier.read([part[: len(tile)] for part in maps])
            if weights.perceptual:
                pairs = zip(maps, real_maps, strict=True)
                each = [F.l1_loss(a[len(tile) :].float(), b.float()) for a, b in pairs]
                terms["perceptual"] = torch.stack(each).sum()
            if self.feature_discriminator is not None:
                both = [torch.cat([a, b.detach()]) for a, b in zip(real_maps, maps, strict=True)]
                scores = self.feature_discriminator(both, every)
                terms["discriminator"] = losses.discriminator_hinge(scores[: len(x)], scores[len(x) :])
                terms["realism"] = -frozen(self.feature_discriminator, maps, labels).float().mean()
        else:
            # Changed as the images that the classifier learns from: what it reads only in one place,
            # or to the pixel, is a pattern and no thing.
            seen = self._moved(tile) if self.recipe.target_augmented else tile
            read = frozen(self.model.classifier, seen)
        terms["target"] = self._misread(F.cross_entropy(read.float(), target, reduction="none"))

        if self.discriminator is not None:
            scores, own_maps = self.discriminator(images.detach(), every)
            drawn_scores, drawn_maps = frozen(self.discriminator, images[len(x) :], labels)
            hinge = losses.discriminator_hinge(scores[: len(x)], scores[len(x) :])
            held_against = -drawn_scores.float().mean()
            terms["discriminator"] = terms["discriminator"] + hinge if "discriminator" in terms else hinge
            terms["realism"] = terms["realism"] + held_against if "realism" in terms else held_against
            if weights.features:
                pairs = zip(own_maps, drawn_maps, strict=True)
                each = [F.l1_loss(b[len(x) :].float(), a[: len(x)].detach().float()) for a, b in pairs]
                terms["features"] = torch.stack(each).sum()
        return terms

    @staticmethod
    def _sample_or_mean(mu: Tensor, logvar: Tensor) -> Tensor:
        """For each image of the batch a sample of its posterior, or its mean; (B, Z) float32."""
        sampled = torch.randint(0, 2, (len(mu), 1), device=mu.device)
        return mu.float() + sampled * torch.randn_like(mu) * (0.5 * logvar).exp()

    def _style_difference(self, x: Tensor, y: Tensor, tile: Tensor, target: Tensor) -> Tensor:
        """How far tiles stand from where their originals stand.

        Strokes and silhouettes each among its class; colours as they are, which is what keeps a
        picture.
        """
        if self.style_of is None:
            return F.l1_loss(losses.colour_layout(tile), losses.colour_layout(x))
        wanted = (self.style_of(x) - self.style_mean[y]) / self.style_std[y]
        found = (self.style_of(tile) - self.style_mean[target]) / self.style_std[target]
        # Beyond three standard deviations are scribbles that another class has no match for.
        difference = F.smooth_l1_loss(found, wanted.clamp(-3, 3), reduction="none")
        return difference.sum(dim=1).mean()

    @torch.no_grad()
    def validation_terms(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The averaged weights' terms on held-out images; ``objective`` is what is compared.

        ``label_effect`` is the mean absolute change, in grey levels (0-255), of the drawn image
        when only the label changes; ``effectiveness`` the share of the drawn images that the
        training classifier reads as their target.
        """
        model, weights = self.averaged, self.weights
        x = self.to_input(images)
        mu, _ = model.encode(x, y)
        target = other_labels(y, self.recipe.spec.num_classes)
        bound = model(x, y)
        own, tile = model.decode(mu, y), model.decode(mu, target)
        logits = model.classify(tile).float()
        objective = weights.recon * bound.recon_loss + weights.kl * bound.kl
        if weights.sharpness:
            objective = objective + weights.sharpness * (own.float() - x).abs().sum() / len(x)
        return {
            **bound._asdict(),
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
        if self.finishing:
            # What momentum the optimiser had left for it is taken back.
            self.model.encoder.load_state_dict(self.averaged.encoder.state_dict())
        averaged: list[Tensor] = list(self.averaged.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](self.model.parameters()), 1.0 - decay)
        if statistics := _running_statistics(self.averaged):
            torch._foreach_lerp_(statistics, _running_statistics(self.model), 1.0 - decay)

    def parameter_groups(self) -> list[dict[str, object]]:
        """What the optimiser takes: the model, and the discriminators at their own rate."""
        rate = self.recipe.learning_rate
        groups: list[dict[str, object]] = [{"params": list(self.model.parameters()), "lr": rate}]
        for network in (self.discriminator, self.feature_discriminator):
            if network is None:
                continue
            groups.append(
                {
                    "params": list(network.parameters()),
                    "lr": rate * self.recipe.discriminator_rate,
                    "betas": self.recipe.discriminator_betas,
                }
            )
        return groups
