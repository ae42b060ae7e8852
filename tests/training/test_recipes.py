from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cvae_cli.data.catalogue import CLASSES, SIZES
from cvae_cli.model.spec import ImageKind
from cvae_cli.training import recipes
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.spec.classes == CLASSES[name]


@pytest.mark.parametrize("kind", ImageKind)
def test_own_images_get_the_recipe_of_their_kind(kind: ImageKind) -> None:
    recipe = recipes.for_images(kind, ("a", "b"), 50, 3 if kind is ImageKind.PHOTOGRAPHS else 1)
    assert recipe.spec.kind is kind
    assert (recipe.spec.image_size, recipe.spec.canvas_size) == (50, 64)
    assert recipe.min_steps > 0
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("kind", ImageKind)
def test_few_large_images_are_learned_in_no_fewer_steps_than_the_least(kind: ImageKind) -> None:
    channels = 3 if kind is ImageKind.PHOTOGRAPHS else 1
    few = {size: recipes.for_images(kind, ("a", "b"), size, channels, count=300) for size in SIZES}
    assert [few[size].min_steps for size in (32, 64, 128, 256)] == [80, 20, 20, 20]
    assert {recipe.classifier.pretrain_steps for recipe in few.values()} == {
        few[32].classifier.pretrain_steps
    }


def test_what_is_summed_over_pixels_does_not_drown_the_label_in_large_images() -> None:
    losses = {size: recipes.for_images(ImageKind.PHOTOGRAPHS, ("a", "b"), size, 3) for size in (32, 64, 256)}
    assert losses[32].loss == losses[64].loss
    for small, large in (
        (losses[64].loss, losses[256].loss),
        (losses[64].fine_tuning, losses[256].fine_tuning),
    ):
        assert small is not None
        assert large is not None
        assert (large.recon, large.kl) == (small.recon / 16, small.kl / 16)
        assert (large.target, large.realism) == (small.target, small.realism)


def test_without_the_features_of_imagenet_the_classifier_has_to_do() -> None:
    photographs = recipes.for_images(ImageKind.PHOTOGRAPHS, ("a", "b"), 32, 3)
    assert photographs.discriminator.eyes == "imagenet"
    assert recipes.with_these_eyes(photographs, imagenet=True) == photographs
    assert recipes.with_these_eyes(photographs, imagenet=False).discriminator.eyes == "classifier"
    strokes = recipes.for_images(ImageKind.STROKES, ("a", "b"), 32, 1)
    assert recipes.with_these_eyes(strokes, imagenet=False) == strokes


def test_large_images_get_deeper_networks_and_smaller_batches() -> None:
    specs = {size: recipes.for_images(ImageKind.PHOTOGRAPHS, ("a", "b"), size, 3) for size in SIZES}
    assert {size: recipe.spec.depth for size, recipe in specs.items()} == {
        28: 3, 32: 3, 48: 3, 64: 3, 96: 4, 128: 4, 192: 5, 256: 5,
    }  # fmt: skip
    assert all(4 <= recipe.spec.coarsest_side <= 8 for recipe in specs.values())
    assert [specs[size].batch_size for size in (64, 128, 256)] == [64, 32, 16]
    prior = recipes.resnet18(specs[256], "folder", label_blind=False)
    assert len(prior.spec.widths) == 4


@pytest.mark.parametrize(("data", "epochs"), [("mnist", 50), ("cifar10", 30)])
def test_the_schedule_of_resnet18_is_that_of_the_prior_work(data: str, epochs: int) -> None:
    blind, ours = (recipes.resnet18(RECIPES[data], data, label_blind=blind) for blind in (True, False))
    for recipe in (blind, ours):
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (epochs, 16, 1e-4)
        assert (recipe.spec.latent_dim, recipe.spec.label_in_encoder) == (256, True)
    assert (blind.spec.label_in_decoder, ours.spec.label_in_decoder) == (False, True)
    assert (blind.loss.target, ours.loss.target > 0) == (0.0, True)


def test_few_images_are_learned_in_few_steps() -> None:
    many, few = (
        recipes.for_images(ImageKind.STROKES, ("a", "b"), 28, 1, count=count) for count in (501, 500)
    )
    assert (many.epochs * many.min_steps, many.patience) == (6000, 0)
    assert (few.epochs * few.min_steps, few.patience > 0) == (1280, True)
    large = recipes.for_images(ImageKind.PHOTOGRAPHS, ("a", "b"), 64, 3, count=100)
    assert large.min_steps == few.min_steps / 4


def test_clothes_are_drawn_with_the_means_of_latent_maps_and_digits_without() -> None:
    assert recipes.distilled(RECIPES["fashion"]).spec.tile_maps
    assert not recipes.distilled(RECIPES["mnist"]).spec.tile_maps
    # Models from before there were latent maps have none.
    plain = RECIPES["fashion"]
    plain = replace(plain, spec=replace(plain.spec, latent_maps=()))
    assert not recipes.distilled(plain).spec.tile_maps


def test_a_student_of_paired_images_only_imitates() -> None:
    recipe = recipes.distilled(RECIPES["mnist"])
    paired = recipes.with_pairs(recipe)
    for part, weights in ((paired.loss, recipe.loss), (paired.fine_tuning, recipe.fine_tuning)):
        assert part == weights
        assert part is not None
        assert (part.target, part.style, part.cycle, part.realism) == (0.0, 0.0, 0.0, 0.0)
