from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import small_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from cvae_cli.data.catalogue import SIZES
from cvae_cli.model.spec import ImageKind
from cvae_cli.training import recipes
from cvae_cli.training.augmentation import augment_inputs
from cvae_cli.training.eyes import are_installed
from cvae_cli.training.objective import Objective, Truth, other_labels
from cvae_cli.training.recipe import ClassifierRecipe, Recipe
from cvae_cli.training.recipes import CIFAR10, STROKES

DIGITS, PHOTOS = small_recipe(STROKES), small_recipe(CIFAR10)


def images_of(recipe: recipes.Recipe, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images of a recipe's size, and labels in turn."""
    spec = recipe.spec
    shape = (count, spec.channels, spec.image_size, spec.image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8), torch.arange(count) % spec.num_classes


def build(recipe: recipes.Recipe) -> Objective:
    torch.manual_seed(0)
    return Objective(recipe)


def test_a_step_names_its_terms_and_sums_them() -> None:
    objective = build(replace(DIGITS, classifier=replace(DIGITS.classifier, frozen=False)))
    terms = objective.training_terms(*images_of(DIGITS, 20))
    weights = DIGITS.loss
    factors = {
        "recon_loss": weights.recon, "kl_maps": weights.kl * weights.map_kl, "sharpness": weights.sharpness,
        "classifier": 1.0, "target": weights.target, "cycle": weights.cycle, "style": weights.style,
        "feature_style": weights.feature_style, "discriminator": 1.0, "realism": weights.realism,
    }  # fmt: skip
    assert set(terms) == {*factors, "kl", "elbo", "loss"}
    assert all(factor > 0 for factor in factors.values())
    total = sum(factor * float(terms[name].detach()) for name, factor in factors.items())
    of_vector = float((terms["kl"] - terms["kl_maps"]).detach())
    total += weights.kl * max(0.0, of_vector - weights.free_nats)
    assert float(terms["loss"].detach()) == pytest.approx(total, rel=1e-5)
    assert float(terms["elbo"].detach()) == pytest.approx(
        -float((terms["recon_loss"] + terms["kl"]).detach())
    )


class Waits(TorchDispatchMode):
    """Notes what reads a value of a tensor, for which a GPU has to finish all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select", "unique")):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def seen_with(recipe: Recipe, eyes: str) -> Recipe:
    return replace(recipe, discriminator=replace(recipe.discriminator, eyes=eyes))


needs_eyes = pytest.mark.skipif(not are_installed(), reason="without the extra [photographs]")


@pytest.mark.parametrize(
    "recipe",
    [DIGITS, PHOTOS, pytest.param(seen_with(PHOTOS, "imagenet"), marks=needs_eyes)],
    ids=["digits", "photographs", "photographs seen by ImageNet's features"],
)
def test_no_step_waits_for_the_device(recipe: Recipe) -> None:
    objective = build(recipe)
    images, y = images_of(recipe)
    objective.networks.steps = recipe.optimizer.warmup_steps + 1  # the alignment is in use
    for fine_tuning in (False, True) if recipe.fine_tuning else (False,):
        if fine_tuning:
            objective.begin_fine_tuning(images, y)
        with Waits() as waits:
            objective.training_terms(images, y)["loss"].backward()
            objective.networks.update_ema()
        assert waits.found == []


@pytest.mark.parametrize(
    "eyes",
    ["classifier", pytest.param("imagenet", marks=[needs_eyes, pytest.mark.long])],
    ids=["own eyes", "ImageNet's eyes"],
)
def test_moments_and_distances_teach_the_decoder_alone(eyes: str) -> None:
    recipe = seen_with(replace(PHOTOS, loss=replace(PHOTOS.loss, moments=10.0, distances=3.0)), eyes)
    objective = build(recipe)
    assert objective.feature_moments.sizes
    images, y = images_of(recipe, 40)
    for _ in range(40):  # until every class has been seen often enough
        terms = objective.training_terms(images, y)
    with Waits() as waits:
        terms = objective.training_terms(images, y)
    assert waits.found == []
    for name in ("moments", "distances"):
        assert float(terms[name].detach()) > 0.0
    before = float((terms["loss"] - 10.0 * terms["moments"] - 3.0 * terms["distances"]).detach())
    assert before < float(terms["loss"].detach())
    networks = objective.networks
    networks.zero_grad()
    (terms["moments"] + terms["distances"]).backward()
    assert all(value.grad is None for value in networks.model.classifier.parameters())
    assert any(value.grad is not None and value.grad.any() for value in networks.model.decoder.parameters())


def test_without_their_maps_images_are_drawn_from_the_vector_alone() -> None:
    recipe = replace(DIGITS, map_dropout=1.0)
    objective = build(recipe)
    for latent_map in objective.networks.model.decoder.maps:  # type: ignore[union-attr]
        torch.nn.init.ones_(latent_map.posterior.weight)  # type: ignore[union-attr, arg-type]
    terms = objective.training_terms(*images_of(recipe))
    assert float(terms["kl_maps"].detach()) == 0.0
    terms["loss"].backward()
    assert all(
        value.grad is None or not value.grad.any()
        for latent_map in objective.networks.model.decoder.maps  # type: ignore[union-attr]
        for value in latent_map.posterior.parameters()  # type: ignore[union-attr]
    )


def test_what_the_vector_says_for_free_costs_nothing() -> None:
    free = replace(DIGITS, loss=replace(DIGITS.loss, free_nats=1e6))
    losses = []
    for factor in (0.0, 1.0):
        objective = build(replace(free, loss=replace(free.loss, kl=factor, map_kl=0.0)))
        losses.append(float(objective.training_terms(*images_of(free))["loss"].detach()))
    assert losses[0] == losses[1]


def test_a_tile_is_held_against_its_true_counterpart() -> None:
    recipe = recipes.with_pairs(DIGITS)
    objective = build(recipe)
    images, y = images_of(recipe)
    counterparts, labels = images_of(recipe)[0], (y + 1) % 10
    known = torch.tensor([True] * 4 + [False] * 4)
    terms = objective.training_terms(images, y, Truth(counterparts, labels, known))
    assert not {"style", "feature_style", "cycle"} & set(terms)
    (gradient,) = torch.autograd.grad(terms["pairs"], objective.networks.model.decoder.out.weight)
    assert gradient.abs().sum() > 0
    # The less the truth is known, the less it asks for.
    none = objective.training_terms(images, y, Truth(counterparts, labels, torch.zeros(8, dtype=torch.bool)))
    (gradient,) = torch.autograd.grad(none["pairs"], objective.networks.model.decoder.out.weight)
    assert gradient.abs().sum() == 0


def test_an_image_and_its_counterpart_are_changed_alike() -> None:
    recipe = replace(DIGITS, augmentation=replace(DIGITS.augmentation, affine_share=1.0))
    image = torch.rand(6, 1, 32, 32)
    one, other = augment_inputs(torch.cat([image, image], dim=1), recipe).chunk(2, dim=1)
    assert torch.equal(one, other)
    assert (one - image).abs().mean() > 0.01


def test_the_target_term_trains_the_decoder_and_not_the_classifier() -> None:
    objective = build(DIGITS)
    model = objective.networks.model
    objective.training_terms(*images_of(DIGITS))["target"].backward()
    assert all(value.grad is None for value in model.classifier.parameters())
    assert model.decoder.out.weight.grad.abs().sum() > 0
    assert model.encoder.stem.weight.grad.abs().sum() > 0


def test_the_realism_term_does_not_train_the_discriminator() -> None:
    objective = build(DIGITS)
    networks = objective.networks
    terms = objective.training_terms(*images_of(DIGITS))
    terms["realism"].backward(retain_graph=True)
    assert all(value.grad is None for value in networks.discriminator.parameters())
    networks.model.zero_grad()
    terms["discriminator"].backward()
    assert all(value.grad is not None for value in networks.discriminator.parameters())
    assert all(value.grad is None for value in networks.model.parameters())


@pytest.mark.parametrize("term", ["target", "realism", "perceptual", "features"])
def test_each_term_of_photographs_trains_the_decoder_and_no_critic(term: str) -> None:
    objective = build(replace(PHOTOS, classifier=replace(PHOTOS.classifier, margin=0.0)))
    networks = objective.networks
    objective.training_terms(*images_of(PHOTOS))[term].backward()
    assert networks.model.decoder.out.weight.grad.abs().sum() > 0
    for network in (networks.discriminator, networks.feature_discriminator, networks.model.classifier):
        assert network is not None
        assert all(value.grad is None for value in network.parameters())


def test_a_frozen_classifier_stays_as_it_is() -> None:
    objective = build(PHOTOS)
    networks = objective.networks
    before = {name: value.clone() for name, value in networks.model.classifier.state_dict().items()}
    optimizer = torch.optim.Adam(networks.parameter_groups())
    terms = objective.training_terms(*images_of(PHOTOS))
    assert "classifier" not in terms
    terms["loss"].backward()
    optimizer.step()
    after = networks.model.classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for network in (networks.model.decoder, networks.model.encoder, networks.feature_discriminator):
        assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())


def test_other_labels_are_other_and_uniform() -> None:
    y = torch.randint(0, 10, (20_000,))
    other = other_labels(y, 10)
    assert (other != y).all()
    counts = torch.bincount((other - y) % 10, minlength=10)[1:]
    assert counts.min() > 0.85 * counts.max()


def test_the_classifier_asks_no_more_of_a_tile_that_is_good_enough() -> None:
    objective = build(replace(DIGITS, classifier=ClassifierRecipe(margin=0.5, square=2.0)))
    assert objective._misclassified(torch.tensor([0.1, 0.4])).item() == 0
    assert objective._misclassified(torch.tensor([0.1, 1.5])).item() == pytest.approx((1 + 2 * 1) / 2)


def test_aligning_the_ema_leaves_its_reconstructions_as_they_are() -> None:
    objective = build(DIGITS)
    images, y = images_of(DIGITS, 60)
    ema, x = objective.networks.ema, objective.to_input(images)
    with torch.no_grad():
        before = ema.decode(ema.encode(x, y)[0], y)
        objective.align_ema(images, y)
        latent, _ = ema.encode(x, y)
        torch.testing.assert_close(ema.decode(latent, y), before, rtol=1e-3, atol=1e-3)
    means = torch.stack([latent[y == label].mean(dim=0) for label in range(10)])
    assert means.abs().max() < 1e-2
    assert not torch.equal(ema.alignment.to_shared[0], torch.eye(DIGITS.spec.latent_dim))


def test_the_alignment_follows_the_model_and_is_not_trained() -> None:
    objective = build(replace(DIGITS, optimizer=replace(DIGITS.optimizer, warmup_steps=1)))
    images, y = images_of(DIGITS, 20)
    for _ in range(60):
        with torch.no_grad():
            objective.training_terms(images, y)
            objective.networks.update_ema()
    assert objective.networks.model.alignment.class_mean.abs().max() > 0
    parameters = {name for name, _ in objective.named_parameters()}
    assert not any("alignment" in name or "moments" in name for name in parameters)


def test_fine_tuning_trains_the_decoder_alone() -> None:
    objective = build(PHOTOS)
    networks = objective.networks
    images, y = images_of(PHOTOS, 40)
    optimizer = torch.optim.Adam(networks.parameter_groups(), lr=1e-3)

    def step() -> dict[str, torch.Tensor]:
        terms = objective.training_terms(images[:8], y[:8])
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        networks.update_ema()
        return terms

    def state(*parts: str) -> dict[str, torch.Tensor]:
        every = networks.model.state_dict().items()
        return {name: value.clone() for name, value in every if name.startswith(parts)}

    for _ in range(3):  # so that the optimiser has momentum
        step()
    objective.begin_fine_tuning(images, y)
    assert objective.weights == PHOTOS.fine_tuning
    still, moving = state("encoder", "alignment"), state("decoder")
    for name, value in networks.model.encoder.state_dict().items():
        assert torch.equal(value, networks.ema.encoder.state_dict()[name])
    terms = [step() for _ in range(3)][-1]
    assert terms["cycle"].requires_grad
    assert all(torch.equal(value, still[name]) for name, value in state("encoder", "alignment").items())
    assert not all(torch.equal(value, moving[name]) for name, value in state("decoder").items())
    # Every parameter has a gradient, which training on several processes waits for.
    assert all(value.grad is not None for value in networks.model.encoder.parameters())


@needs_eyes
def test_grey_photographs_are_trained_with_the_features_of_imagenet() -> None:
    recipe = small_recipe(recipes.for_images(ImageKind.PHOTOGRAPHS, ("a", "b"), 32, 1))
    assert recipe.discriminator.eyes == "imagenet"
    terms = build(recipe).training_terms(*images_of(recipe))
    assert all(bool(value.isfinite()) for value in terms.values()), terms


@pytest.mark.parametrize("kind", ImageKind)
@pytest.mark.parametrize(("size", "classes"), [(size, {48: 3, 64: 101}.get(size, 2)) for size in SIZES])
def test_every_kind_and_size_of_model_can_be_trained(kind: ImageKind, size: int, classes: int) -> None:
    """All terms of a step are finite and reach everything that learns, also while fine-tuning."""
    channels = 3 if kind is ImageKind.PHOTOGRAPHS else 1
    recipe = small_recipe(recipes.for_images(kind, tuple(map(str, range(classes))), size, channels))
    recipe = recipes.with_these_eyes(recipe, imagenet=are_installed() and size in (28, 128))
    objective = build(recipe)
    assert recipe.spec.coarsest_side <= 8
    images, y = images_of(recipe, 12 if size <= 64 else 3)
    objective.style_targets.fit(images, y)

    def share_moved(network: torch.nn.Module) -> float:
        moved = [value.grad is not None and bool(value.grad.any()) for value in network.parameters()]
        return sum(moved) / len(moved)

    for fine_tuning in (False, True) if recipe.fine_tuning else (False,):
        if fine_tuning:
            objective.begin_fine_tuning(images, y)
        objective.zero_grad(set_to_none=True)
        terms = objective.training_terms(images, y)
        assert all(bool(value.isfinite()) for value in terms.values()), terms
        terms["loss"].backward()
        assert share_moved(objective.networks.model.decoder) > 0.8
        # While fine-tuning, gradients pass through the encoder and are not kept.
        assert (share_moved(objective.networks.model.encoder) > 0) != fine_tuning
    validated = objective.validation_terms(images, y)
    assert all(bool(value.isfinite()) for value in validated.values()), validated
