"""What training minimises: the terms of one step, put together from named losses.

Two networks are trained beside the VAE and never see a gradient that would make the task easier for
it: the classifier learns from real images only, the discriminator from real and drawn ones. The VAE
learns through *frozen* copies of both (the same weights, detached), so that one backward pass and one
optimiser serve all three.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.data.augment import differentiable_augment
from cvae_cli.model import losses
from cvae_cli.model.autoencoder import Encoded
from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.classifiers import ResidualClassifier, classifier_widths
from cvae_cli.model.latent_maps import Inferred, map_shapes
from cvae_cli.model.whitened import WhitenedClassifier
from cvae_cli.training.augmentation import augment_for_classifier, augment_inputs, with_noise
from cvae_cli.training.feature_moments import FeatureMoments
from cvae_cli.training.latent_moments import LatentMoments
from cvae_cli.training.networks import Networks, frozen
from cvae_cli.training.recipe import LossWeights, Recipe
from cvae_cli.training.style_targets import FeatureStyle, StyleTargets

Terms = dict[str, Tensor]


class Truth(NamedTuple):
    """What some tiles should look like.

    Attributes:
        images: (B, C, H, W) uint8, the counterparts; anything where none is known.
        labels: (B,) int64, their labels.
        known: (B,) bool, whether there is one.
    """

    images: Tensor
    labels: Tensor
    known: Tensor


class _HasMaps(Protocol):
    """A network whose feature maps can be looked at."""

    def maps(self, x: Tensor) -> list[Tensor]:
        """Of (B, C, H, W), from fine to coarse."""


class _Classifies(_HasMaps, Protocol):
    """A classifier whose feature maps can be looked at."""

    def logits(self, maps: list[Tensor]) -> Tensor:
        """(B, K), from these maps."""


class Objective(nn.Module):
    """The terms that the networks of a training run are trained with."""

    def __init__(self, recipe: Recipe) -> None:
        """Build the networks of a recipe, with random weights."""
        super().__init__()
        self.recipe, spec = recipe, recipe.spec
        self.networks = Networks(recipe)
        self.style_targets = StyleTargets(recipe.spec)
        self.feature_style = FeatureStyle(recipe.spec, self.networks.model.classifier)
        self.feature_moments = FeatureMoments(spec.num_classes, self._feature_sizes())
        self.latent_moments = LatentMoments(recipe.alignment, spec.num_classes, spec.latent_dim)

    @property
    def weights(self) -> LossWeights:
        """The factors of the terms at this time."""
        fine_tuning = self.recipe.fine_tuning if self.networks.fine_tuning else None
        return fine_tuning or self.recipe.loss

    def to_input(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 at native size to the network's float32 canvas."""
        return to_canvas(images, self.recipe.spec.canvas_size)

    def align_ema(self, images: Tensor, y: Tensor) -> None:
        """Fit the alignment of the EMA to its own latents.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        ema = self.networks.ema
        if not self.networks.fine_tuning:
            self.latent_moments.fit_exactly(
                ema.alignment, lambda part, labels: ema.encoder(self.to_input(part), labels), images, y
            )

    def begin_fine_tuning(self, images: Tensor, y: Tensor) -> None:
        """Freeze the encoder, once: from now on only the decoder is trained.

        While the encoder changes, its alignment, which is measured, always lags a little. By that lag the
        decoder can tell latents that come from another class, and obeys the label for those alone: what
        is drawn once training has ended looks as if it had never learned to. So the final lesson is
        given to the decoder alone, with the EMA's encoder and its exact alignment.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if not self.networks.fine_tuning:
            self.align_ema(images, y)
            self.networks.freeze_encoder()

    def training_terms(self, images: Tensor, y: Tensor, truth: Truth | None = None) -> Terms:
        """One step's terms; ``loss`` is the sum to minimise.

        Args:
            images: (B, C, H, W) uint8.
            y: (B,) int64.
            truth: where the training images are paired, what the tiles should look like.
        """
        weights, networks, model = self.weights, self.networks, self.networks.model
        x, true = self.to_input(images), None
        if truth is None:
            x = augment_inputs(x, self.recipe)
        else:
            # As channels of one image, so that both are changed alike.
            both = augment_inputs(torch.cat([x, self.to_input(truth.images)], dim=1), self.recipe)
            x, true = both.chunk(2, dim=1)
        target = other_labels(y, self.recipe.spec.num_classes)
        if truth is not None:
            target = torch.where(truth.known, truth.labels, target)

        # The image itself is drawn without the alignment: there and back is the same, and an alignment
        # that lags cannot be exploited.
        mu, logvar, features = self._encode(x, y)
        # Half of the time a sample, as the bound requires, half the mean, as relabelling uses it;
        # independently for both, or the decoder could tell by the noise which of them it is to draw.
        own_latent, tile_latent = (_sample_or_mean(mu, logvar) for _ in range(2))
        aligned = model.alignment.inverse(model.alignment(tile_latent, y), target)
        kept = None
        if features and self.recipe.map_dropout:
            kept = (torch.rand(len(x), device=x.device) >= self.recipe.map_dropout).float()
        noise = self._map_noise(len(x), x.device)
        maps = Inferred(features, noise, carry=self.recipe.spec.map_carry, kept=kept)
        # One pass of the decoder draws both, the image as itself and as something else.
        logits = model.decoder(torch.cat([own_latent, aligned]), torch.cat([y, target]), maps)
        own_logits, tile_logits = logits.chunk(2)
        tile = torch.sigmoid(tile_logits)

        recon_loss = model.recon_loss(own_logits, x)
        # Relative to N(class mean, I), not to the prior in the shared space: that follows the latents,
        # and they would shrink together without end.
        kl = losses.gaussian_kl(mu.float() - model.alignment.class_mean[y], logvar)
        loss = weights.recon * recon_loss + weights.kl * F.relu(kl - weights.free_nats)
        terms = {"recon_loss": recon_loss}
        if features:
            terms["kl_maps"] = torch.as_tensor(maps.kl).mean()
            loss = loss + weights.kl * weights.map_kl * terms["kl_maps"]
            kl = kl + terms["kl_maps"]
        terms |= {"kl": kl, "elbo": -(recon_loss + kl)}
        if weights.sharpness:
            terms["sharpness"] = losses.absolute_error(own_logits, x)
            loss = loss + weights.sharpness * terms["sharpness"]
        if truth is not None and true is not None:
            terms["pairs"] = self._truth_error(tile_logits, true, truth.known)
            loss = loss + weights.pairs * terms["pairs"]
        if not self.recipe.classifier.frozen:
            terms["classifier"] = self._classifier_loss(x, y)
            loss = loss + terms["classifier"]
        if weights.cycle:
            terms["cycle"] = self._cycle(tile, target, tile_latent, y)
            loss = loss + weights.cycle * terms["cycle"]
        if weights.feature_style:
            classifier = networks.model.classifier
            terms["feature_style"] = self.feature_style.difference(classifier, x, y, tile, target)
            loss = loss + weights.feature_style * terms["feature_style"]
        if weights.style:
            terms["style"] = self.style_targets.difference(x, y, tile, target)
            loss = loss + weights.style * terms["style"]
        terms |= self._critics(x, y, tile, target, own_logits)
        for name in ("target", "realism", "features", "perceptual", "moments", "distances"):
            if name in terms:
                loss = loss + getattr(weights, name) * terms[name]
        if "discriminator" in terms:
            loss = loss + terms["discriminator"]

        if networks.fine_tuning:
            # Zero, but DistributedDataParallel waits for a gradient of every parameter.
            loss = loss + 0.0 * torch.stack([value.sum() for value in model.encoder.parameters()]).sum()
        else:
            self.latent_moments.follow(
                model.alignment, mu, logvar, y,
                step=networks.steps, warmup_steps=self.recipe.optimizer.warmup_steps,
            )  # fmt: skip
        terms["loss"] = loss
        return terms

    def _encode(self, x: Tensor, y: Tensor) -> Encoded:
        """What the encoder says, which learns from it unless it is frozen."""
        encoder = self.networks.model.encoder
        encoded: Encoded = frozen(encoder, x, y) if self.networks.fine_tuning else encoder(x, y)
        return encoded

    def _map_noise(self, count: int, device: torch.device) -> list[Tensor]:
        """Noise of the latent maps: for each image of a batch from N(0, 1), or none."""
        spec = self.recipe.spec
        if not spec.latent_maps:
            return []  # and draws nothing: trainings without maps stay what they were
        sampled = torch.randint(0, 2, (count, 1, 1, 1), device=device)
        shapes = map_shapes(spec.latent_maps, spec.coarsest_side)
        return [sampled * torch.randn(count, *shape, device=device) for shape in shapes]

    def _truth_error(self, tile_logits: Tensor, true: Tensor, known: Tensor) -> Tensor:
        """How far tiles are from their counterparts, weighed as reconstructions are."""
        # Where nothing is known the tile is compared with itself, at no gradient: choosing the others would
        # wait for the device.
        each = known[:, None, None, None]
        logits = torch.where(each, tile_logits, tile_logits.detach())
        true = torch.where(each, true, torch.sigmoid(tile_logits.detach()))
        error = self.weights.recon * self.networks.model.recon_loss(logits, true)
        return error + self.weights.sharpness * losses.absolute_error(logits, true)

    def _classifier_loss(self, x: Tensor, y: Tensor) -> Tensor:
        x = augment_for_classifier(x, self.recipe)
        return F.cross_entropy(self.networks.model.classify(x).float(), y)

    def _cycle(self, tile: Tensor, target: Tensor, latent: Tensor, y: Tensor) -> Tensor:
        """How far the latents of tiles are from the latents that they were drawn from."""
        alignment = self.networks.model.alignment
        some = slice(max(1, round(self.recipe.cycle_share * len(tile))))
        again = alignment(self._encode(tile[some], target[some]).mu, target[some])
        # Compared where the decoder would take them to draw the image itself again.
        returned = alignment.inverse(again, y[some])
        return (returned - latent[some].detach()).square().sum(dim=1).mean()

    def _critics(self, x: Tensor, y: Tensor, tile: Tensor, target: Tensor, own_logits: Tensor) -> Terms:
        """What the classifier and the discriminators make of what was drawn, and their own loss."""
        networks, weights = self.networks, self.weights
        drawn, labels = tile, target
        if weights.features or weights.perceptual or networks.feature_discriminator is not None:
            drawn, labels = torch.cat([tile, torch.sigmoid(own_logits)]), torch.cat([target, y])
        images = torch.cat([x, drawn])
        if self.recipe.discriminator.augment:
            images = differentiable_augment(images, groups=len(images) // len(x))
        count, tiles, every = len(x), len(tile), torch.cat([y, labels])

        terms: Terms = {}
        eyes, classifier = self._eyes(), networks.model.classifier
        # Noise, which a classifier of photographs has learned to see through, blurs what it asks for: else a
        # decoder learns patterns of single pixels that please it.
        seen = tile if eyes is None else with_noise(tile)
        if eyes is not None:
            with torch.no_grad():
                real_maps = eyes.maps(images[:count])
            maps = eyes.maps(images[count:])
            terms = self._on_feature_maps(real_maps, maps, every, tiles)
        if eyes is not None and self.feature_moments.sizes:
            reader = cast(_Classifies, classifier)
            asked = reader.maps(seen)
            tile_logits = reader.logits(asked)
            with torch.no_grad():
                usual = reader.maps(with_noise(x))
            terms["moments"], terms["distances"] = self.feature_moments(
                [_quarters(real_maps), _quarters(usual[-1:])],
                y,
                [_quarters([one[:tiles] for one in maps]), _quarters(asked[-1:])],
                target,
            )
        else:
            tile_logits = frozen(classifier, seen)
        cross_entropy = F.cross_entropy(tile_logits.float(), target, reduction="none")
        terms["target"] = self._misclassified(cross_entropy)
        if networks.discriminator is not None:
            for name, value in self._on_pixels(networks.discriminator, images, every, count).items():
                terms[name] = terms[name] + value if name in terms else value
        return terms

    def _eyes(self) -> _HasMaps | None:
        """The frozen network by whose feature maps photographs are compared; ``None`` for other images."""
        return self._reader() if self.networks.eyes is None else cast(_HasMaps, self.networks.eyes)

    def _reader(self) -> _Classifies | None:
        """The model's classifier, if it is frozen and one of photographs."""
        classifier = self.networks.model.classifier
        usable = isinstance(classifier, (ResidualClassifier, WhitenedClassifier))
        return cast(_Classifies, classifier) if usable and self.recipe.classifier.frozen else None

    def _feature_sizes(self) -> tuple[int, ...]:
        """How many features are compared class by class: those of the eyes, and of the classifier."""
        if self._reader() is None or not (self.recipe.loss.moments or self.recipe.loss.distances):
            return ()
        eyes, widths = self.networks.eyes, classifier_widths(self.recipe.spec)
        return sum(widths if eyes is None else eyes.channels) * 4, widths[-1] * 4

    def _on_feature_maps(
        self, real_maps: list[Tensor], maps: list[Tensor], every: Tensor, tiles: int
    ) -> Terms:
        """Realism and likeness of reconstructions by the feature maps of a frozen network.

        Args:
            real_maps: of the real images.
            maps: of the tiles, then of the reconstructions.
            every: (B,) int64, the labels of real images, tiles and reconstructions.
            tiles: how many are tiles.
        """
        terms: Terms = {}
        count = len(real_maps[0])
        if self.weights.perceptual:
            each = [
                F.l1_loss(drawn[tiles:].float(), real.float()) / real.float().abs().mean()
                for drawn, real in zip(maps, real_maps, strict=True)
            ]
            terms["perceptual"] = torch.stack(each).sum()
        discriminator = self.networks.feature_discriminator
        if discriminator is not None:
            # The largest map of a model's own classifier takes no part.
            scales = len(discriminator.steps)  # type: ignore[arg-type]
            real_maps, maps = real_maps[-scales:], maps[-scales:]
            both = [torch.cat([real, drawn.detach()]) for real, drawn in zip(real_maps, maps, strict=True)]
            scores = discriminator(both, every)
            terms["discriminator"] = losses.discriminator_hinge(scores[:count], scores[count:])
            terms["realism"] = -frozen(discriminator, maps, every[count:]).float().mean()
        return terms

    def _on_pixels(self, discriminator: nn.Module, images: Tensor, every: Tensor, count: int) -> Terms:
        """Realism, likeness of reconstructions, and the discriminator's own loss."""
        scores, maps = discriminator(images.detach(), every)
        drawn_scores, drawn_maps = frozen(discriminator, images[count:], every[count:])
        terms = {
            "discriminator": losses.discriminator_hinge(scores[:count], scores[count:]),
            "realism": -drawn_scores.float().mean(),
        }
        if self.weights.features:
            pairs = zip(maps, drawn_maps, strict=True)
            each = [F.l1_loss(b[count:].float(), a[:count].detach().float()) for a, b in pairs]
            terms["features"] = torch.stack(each).sum()
        return terms

    def _misclassified(self, cross_entropy: Tensor) -> Tensor:
        """What the classifier's cross-entropy of each tile, (B,), adds up to."""
        options = self.recipe.classifier
        beyond = F.relu(cross_entropy - options.margin)
        return (beyond + options.square * beyond.square()).mean()

    @torch.no_grad()
    def validation_terms(self, images: Tensor, y: Tensor) -> Terms:
        """The EMA's terms on validation images; ``objective`` is what epochs are compared by.

        ``label_effect`` is the mean absolute change, in grey levels (0-255), of what is drawn when only
        the label changes; ``effectiveness`` the share of tiles that the model's own classifier
        recognises as their target.

        Args:
            images: (B, C, H, W) uint8.
            y: (B,) int64.
        """
        model, weights = self.networks.ema, self.weights
        x = self.to_input(images)
        latent = model.infer(x, y)
        target = other_labels(y, self.recipe.spec.num_classes)
        bound = model(x, y)
        own, tile = model.relabel(latent, y, torch.stack([y, target], dim=1)).unbind(dim=1)
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


def other_labels(y: Tensor, num_classes: int) -> Tensor:
    """For each label a different one, uniformly at random; (B,) int64."""
    return (y + torch.randint(1, num_classes, y.shape, device=y.device)) % num_classes


def _quarters(maps: list[Tensor]) -> Tensor:
    """Feature maps averaged over the quarters of an image, so that shape and pose count; (B, D) float32."""
    return torch.cat([F.adaptive_avg_pool2d(one.float(), 2).flatten(1) for one in maps], dim=1)


def _sample_or_mean(mu: Tensor, logvar: Tensor) -> Tensor:
    """For each image of a batch a sample of its posterior, or its mean; (B, Z) float32."""
    sampled = torch.randint(0, 2, (len(mu), 1), device=mu.device)
    return mu.float() + sampled * torch.randn_like(mu) * (0.5 * logvar).exp()
