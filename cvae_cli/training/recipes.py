"""The recipes: networks, losses and schedules, one for each data set or kind of images. Needs no torch."""

from __future__ import annotations

from dataclasses import replace

from cvae_cli.data.catalogue import CLASSES, LARGEST_UNASKED
from cvae_cli.errors import UserError
from cvae_cli.model.spec import ImageKind, ModelSpec
from cvae_cli.training.recipe import (
    AlignmentRecipe,
    AugmentationRecipe,
    ClassifierRecipe,
    DiscriminatorRecipe,
    LossWeights,
    OptimizerRecipe,
    Recipe,
)

STROKES = Recipe(
    spec=ModelSpec(
        classes=CLASSES["mnist"],
        image_size=28,
        canvas_size=32,
        channels=1,
        latent_dim=64,
        latent_maps=(4, 2),
        widths=(128, 64, 32, 16),
        label_dim=32,
        polarity="light-on-dark",
        fit="pad",
        margin=1 / 7,
        kind=ImageKind.STROKES,
    ),
    batch_size=64,
    # Usual norms are about 200; without a limit a few large ones ended a training after 4,000 steps.
    optimizer=OptimizerRecipe(learning_rate=1.5e-3, max_gradient=300.0),
    # The maps are dear and the vector's first nats free: what can be carried is to be in the vector.
    loss=LossWeights(
        kl=0.15,
        map_kl=3.0,
        free_nats=30.0,
        target=25.0,
        realism=8.0,
        cycle=1.5,
        sharpness=2.5,
        style=5.0,
        feature_style=60.0,
    ),
    discriminator=DiscriminatorRecipe(learning_rate_factor=2.0),
    classifier=ClassifierRecipe(
        pretrain_epochs=2, pretrain_steps=1500, frozen=True, affine=(8.0, 0.12, 0.1), square=0.5
    ),
    augmentation=AugmentationRecipe(
        affine_share=0.5, affine=(5.0, 0.1, 0.03, 0.2), stretch=0.15, thickness=0.7, elastic=0.06
    ),
)
"""Thin strokes of one tone on an even background: letters, signs."""

MNIST = replace(
    STROKES,
    # What moments of features say of a hand does not carry over to another digit, and pulls tiles towards the
    # usual one.
    loss=replace(STROKES.loss, map_kl=1.0, feature_style=0.0),
    map_dropout=0.5,
    augmentation=replace(STROKES.augmentation, drawn_digits=0.1),
)

CIFAR10 = Recipe(
    spec=ModelSpec(
        classes=CLASSES["cifar10"],
        image_size=32,
        canvas_size=32,
        channels=3,
        latent_dim=128,
        latent_maps=(4, 3),
        widths=(192, 96, 32, 32),
        decoder_widths=(256, 144, 80, 64),
        arch="residual",
        label_dim=32,
        classifier="whitened",
        classifier_width=64,
        likelihood="laplace",
        fit="crop",
        kind=ImageKind.PHOTOGRAPHS,
    ),
    batch_size=64,
    optimizer=OptimizerRecipe(learning_rate=7e-4, betas=(0.5, 0.99)),
    # The likelihood of a photograph is two thousand nats: it is scaled to balance the other terms.
    loss=LossWeights(
        recon=0.0015,
        kl=0.0045,
        target=1.0,
        realism=1.0,
        cycle=0.01,
        features=2.0,
        perceptual=1.0,
        style=5.0,
        moments=10.0,
        distances=6.0,
    ),
    fine_tuning=LossWeights(
        recon=0.0007,
        kl=0.002,
        target=5.0,
        realism=1.5,
        cycle=0.01,
        features=2.0,
        perceptual=1.0,
        style=10.0,
        moments=10.0,
        distances=6.0,
    ),
    map_dropout=0.5,
    cycle_share=0.25,
    discriminator=DiscriminatorRecipe(
        width=32,
        learning_rate_factor=2.0,
        betas=(0.0, 0.99),
        centred=True,
        augment=True,
        feature_width=96,
        eyes="imagenet",
    ),
    classifier=ClassifierRecipe(pretrain_epochs=12, frozen=True, margin=0.1),
    augmentation=AugmentationRecipe(flips=True),
    alignment=AlignmentRecipe(strength=1.0),
)

SILHOUETTES = replace(
    STROKES,
    spec=replace(STROKES.spec, kind=ImageKind.SILHOUETTES, margin=1 / 28),
    # Prints, weaves and seams are not strokes: the likelihood alone would leave them grey.
    loss=LossWeights(
        recon=0.5,
        kl=0.06,
        free_nats=25.0,
        target=20.0,
        realism=8.0,
        cycle=0.8,
        sharpness=1.5,
        features=20.0,
        style=5.0,
    ),
    discriminator=DiscriminatorRecipe(width=48, learning_rate_factor=2.0, centred=True),
    # A coat and a pullover differ in little: images that are changed less are classified better.
    classifier=ClassifierRecipe(pretrain_epochs=2, affine=(7.0, 0.1, 0.08), square=0.3),
    augmentation=AugmentationRecipe(),
    map_dropout=0.5,
)
"""Objects on an even background: clothes, leaves, tools."""

FASHION = replace(SILHOUETTES, spec=replace(SILHOUETTES.spec, classes=CLASSES["fashion"]))

RECIPES = {"mnist": MNIST, "fashion": FASHION, "cifar10": CIFAR10}
"""By the name of the data set."""

_BY_KIND = {
    ImageKind.STROKES: STROKES,
    ImageKind.SILHOUETTES: SILHOUETTES,
    ImageKind.PHOTOGRAPHS: CIFAR10,
}
_COARSEST_SIDE = 8
"""Largest side of the coarsest feature maps: dense layers grow with its square."""
_MIN_STEPS = 200
_FEW_IMAGES = 500
"""Up to which training on a folder is a matter of minutes, on two cores."""
_EPOCHS_OF_FEW, _STEPS_OF_FEW = 16, 80
_LEAST_SHARE = 0.25
_PATIENCE = 5
_TILE_WIDTHS = {ImageKind.STROKES: (512, 4), ImageKind.SILHOUETTES: (1024, 4)}
_DISTILLATION_EPOCHS, _DISTILLATION_FINE_TUNING = 40, 0.5
_IMITATION = LossWeights(recon=0.25, sharpness=2.5, target=0.0)
_PRIOR_WORK_EPOCHS = {"mnist": 50}
"""Epochs of the prior work where they were not 30."""


def for_images(
    kind: ImageKind, classes: tuple[str, ...], image_size: int, channels: int, *, count: int | None = None
) -> Recipe:
    """The recipe for a user's own images.

    Args:
        kind: what they show; strokes and silhouettes are grey.
        classes: their names.
        image_size: native height and width in pixels.
        channels: 1 or 3.
        count: how many training images there are; few of them are learned in fewer steps. ``None`` for many.
    """
    recipe = _BY_KIND[kind]
    canvas = -(-image_size // 16) * 16
    deeper = max(0, (canvas // _COARSEST_SIDE - 1).bit_length() - recipe.spec.depth)
    spec = replace(
        recipe.spec,
        classes=classes,
        image_size=image_size,
        canvas_size=canvas,
        channels=channels,
        widths=recipe.spec.widths[:1] * deeper + recipe.spec.widths,
        decoder_widths=recipe.spec.decoder_widths[:1] * deeper + recipe.spec.decoder_widths,
    )
    recipe = replace(
        recipe,
        spec=spec,
        min_steps=_MIN_STEPS,
        batch_size=recipe.batch_size >> deeper,
        loss=_for_canvas(recipe.loss, canvas),
        fine_tuning=recipe.fine_tuning and _for_canvas(recipe.fine_tuning, canvas),
    )
    if count is not None and count <= _FEW_IMAGES:
        # Larger canvases take longer; what their many pixels need more steps for, few images do not hold.
        steps = round(_STEPS_OF_FEW * max(_LEAST_SHARE, min(1.0, (32 / canvas) ** 2)))
        pretrain_steps = min(recipe.classifier.pretrain_steps, 2 * _STEPS_OF_FEW)
        recipe = replace(
            recipe,
            epochs=_EPOCHS_OF_FEW,
            min_steps=steps,
            patience=_PATIENCE,
            classifier=replace(recipe.classifier, pretrain_steps=pretrain_steps),
        )
    return recipe


def _for_canvas(loss: LossWeights, canvas: int) -> LossWeights:
    """Weights for larger canvases: sums over pixels grow, and would drown what is asked of tiles."""
    share = min(1.0, (LARGEST_UNASKED / canvas) ** 2)
    return replace(loss, recon=share * loss.recon, kl=share * loss.kl, sharpness=share * loss.sharpness)


def with_these_eyes(recipe: Recipe, *, imagenet: bool) -> Recipe:
    """A recipe for what is installed: without the features of ImageNet those of the classifier do."""
    if imagenet or recipe.discriminator.eyes != "imagenet":
        return recipe
    return replace(recipe, discriminator=replace(recipe.discriminator, eyes="classifier"))


def distilled(recipe: Recipe) -> Recipe:
    """The recipe of the fast decoder of tiles of a model that was trained by another one.

    Raises:
        UserError: none of these networks can have one.
    """
    spec = recipe.spec
    if spec.arch != "compact" or spec.map_carry or spec.canvas_size > LARGEST_UNASKED or spec.image_size % 4:
        raise UserError(
            "--distill is for digits, clothes, and strokes and silhouettes of your own of up to "
            f"{LARGEST_UNASKED}x{LARGEST_UNASKED} pixels, in steps of 4: others have no such decoder."
        )
    return replace(
        recipe,
        spec=replace(
            spec,
            tile_widths=_TILE_WIDTHS[spec.kind],
            # Clothes came nearer to their teacher with these and a wider hidden layer; strokes do without.
            tile_maps=spec.kind is ImageKind.SILHOUETTES and bool(spec.latent_maps),
        ),
        epochs=_DISTILLATION_EPOCHS,
        batch_size=2 * recipe.batch_size,
        # The likelihood is content with grey, as it should be where nothing is known; here the teacher knows.
        loss=_IMITATION,
        fine_tuning=_IMITATION,  # without hints
        # Each pixel is told what it should be: steps may be larger than where networks play each other.
        optimizer=replace(recipe.optimizer, learning_rate=2 * recipe.optimizer.learning_rate),
        fine_tuning_share=_DISTILLATION_FINE_TUNING,
        patience=0,
        classifier=replace(recipe.classifier, pretrain_epochs=0, pretrain_steps=0, frozen=True),
    )


def with_pairs(recipe: Recipe) -> Recipe:
    """A recipe for training images that are paired: what stays is told by the truth.

    The terms that stand in for it elsewhere would only contradict it where they are wrong.
    """
    loss = replace(
        recipe.loss,
        style=0.0,
        feature_style=0.0,
        cycle=0.0,
        target=0.4 * recipe.loss.target,
        realism=0.4 * recipe.loss.realism,
        moments=0.0,
        distances=0.0,
    )
    last = recipe.fine_tuning and replace(recipe.fine_tuning, style=0.0, moments=0.0, distances=0.0)
    return replace(recipe, loss=loss, fine_tuning=last)


def resnet18(recipe: Recipe, data: str, *, label_blind: bool) -> Recipe:
    """The prior work's networks and schedule for the images of another recipe.

    A latent of 256, batches of 16, Adam at 1e-4, and nothing but the bound, with Gaussian pixels of one
    learned scale. The one change, giving the label to the decoder, comes with a reward for using it.

    Args:
        recipe: whose images it is for.
        data: the name of the data set.
        label_blind: whether to leave out that change, as the prior work did.
    """
    spec = replace(
        recipe.spec,
        arch="resnet18",
        widths=recipe.spec.widths[-4:],
        decoder_widths=(),
        latent_maps=(),
        latent_dim=256,
        likelihood="gaussian",
        label_in_decoder=not label_blind,
    )
    return Recipe(
        spec=spec,
        epochs=_PRIOR_WORK_EPOCHS.get(data, 30),
        batch_size=16,
        validation_images=recipe.validation_images,
        min_steps=recipe.min_steps,
        # In nats, beside a bound of a thousand and more.
        loss=LossWeights(target=0.0 if label_blind else 50.0),
        optimizer=OptimizerRecipe(learning_rate=1e-4, betas=(0.9, 0.999)),
        classifier=ClassifierRecipe(affine=recipe.classifier.affine),
        alignment=AlignmentRecipe(strength=None),
    )
