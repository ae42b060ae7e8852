"""How models are trained: networks, losses and schedules, one recipe per data set. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from cvae_cli.data.catalogue import CLASSES
from cvae_cli.model.spec import ImageKind, ModelSpec, from_plain, to_plain


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms of the training objective, which are in ``model/losses.py``."""

    recon: float = 1.0
    """Of the negative log-likelihood, nats per image."""
    kl: float = 1.0
    """Of the KL divergence, nats per image: with ``recon`` = ``kl`` = 1 the sum of both is -ELBO."""
    map_kl: float = 1.0
    """Of the latent maps' KL divergence, times ``kl``: where it is above 1, what can be said by the latent
    vector, which is carried to other labels, is said by it."""
    free_nats: float = 0.0
    """KL divergence of the latent vector that costs nothing (Kingma et al. 2016, "Improved variational
    inference with inverse autoregressive flow", appendix C.8), for the same reason."""
    pairs: float = 1.0
    """Of the error of a tile against its true counterpart, where the training images are paired: the
    likelihood and the sharpness, as of a reconstruction."""
    target: float = 10.0
    """Of the classifier's cross-entropy on tiles drawn with a random other label. It is what makes the
    decoder use its label."""
    realism: float = 0.0
    """Of the discriminator's score of those tiles: crisp strokes, no ghost of the original."""
    cycle: float = 0.0
    """Of the squared distance between a latent and the latent of its tile: the tile must carry the style
    that it was drawn from."""
    sharpness: float = 0.0
    """Of the absolute error of the reconstruction, summed over pixels."""
    features: float = 0.0
    """Of the difference between an image and its reconstruction in the discriminator's features (Larsen
    et al. 2016, "Autoencoding beyond pixels"). If it is not zero the discriminator sees reconstructions
    too."""
    perceptual: float = 0.0
    """Of the difference between an image and its reconstruction in the classifier's feature maps (Johnson
    et al. 2016, "Perceptual losses"); with a frozen classifier only."""
    feature_style: float = 0.0
    """Of the difference between an image and its tile in the second moments of a frozen classifier's feature
    maps, in standard deviations within their class: how strokes end, outlines, textures."""
    style: float = 0.0
    """Of the difference in style between an image and its tile: strokes and silhouettes in standard
    deviations within their class, colours as shares of the range."""


@dataclass(frozen=True)
class OptimizerRecipe:
    """Adam; linear warm-up, then half a cosine down to zero at the last step."""

    learning_rate: float = 1e-3
    """Peak rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 200
    max_gradient: float = 0.0
    """Norm of the gradient above which it is scaled down to it; 0 for never."""


@dataclass(frozen=True)
class DiscriminatorRecipe:
    """The networks that tell real images from tiles; unused where ``LossWeights.realism`` is 0."""

    width: int = 32
    """Channels of the first layer."""
    learning_rate_factor: float = 1.0
    """Learning rate, relative to the model's."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Of its Adam: less momentum than the model's, since its task keeps changing."""
    centred: bool = False
    """See :class:`cvae_cli.model.discriminators.ProjectionDiscriminator`."""
    augment: bool = False
    """Whether real images and tiles are augmented before it sees them."""
    feature_width: int = 0
    """Channels of the discriminators on the feature maps of a frozen classifier; 0 for none."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """The model's own classifier, and what it asks of a tile."""

    pretrain_epochs: int = 0
    """Epochs in which it is trained alone, before everything else: what it does not know yet it cannot
    ask for."""
    pretrain_steps: int = 0
    """Least number of steps of that."""
    frozen: bool = False
    """Whether it stays as it is after that."""
    affine: tuple[float, float, float] = (15.0, 0.15, 0.15)
    """Largest random rotation (degrees), change of scale and shift (share of the side), either way, of the
    real images that it is trained on."""
    margin: float = 0.0
    """Cross-entropy of a tile, in nats, below which it asks for no more: a photograph of a horse need not
    be more of a horse than real ones are."""
    square: float = 0.0
    """How much of the square of that cross-entropy is added, so that one misclassified tile weighs more
    than many that are nearly right."""


@dataclass(frozen=True)
class AugmentationRecipe:
    """Random changes to the training images."""

    flips: bool = False
    """Whether half of the images are mirrored."""
    affine_share: float = 0.0
    """Share of the images that are changed as ``affine`` says, so that the model has seen handwriting
    that the data set does not hold."""
    affine: tuple[float, float, float, float] = (5.0, 0.07, 0.02, 0.12)
    """Their largest rotation (degrees), change of scale, shift and shear (shares of the side)."""
    stretch: float = 0.0
    """Largest change of the width alone, as a share of it; of the same images."""
    thickness: float = 0.0
    """How far strokes may be thinned or thickened: 1 for a pixel on either side; of the same images."""
    elastic: float = 0.0
    """Largest displacement, as a share of half the side, of a smooth distortion; of the same images."""


@dataclass(frozen=True)
class AlignmentRecipe:
    """How far the latents of the classes are aligned (:class:`cvae_cli.model.alignment.LatentAlignment`)."""

    strength: float | None = 0.6
    """How far their covariances are made equal, from 0 to 1; their means always are. ``None`` for no
    alignment at all. The stronger, the less a latent tells of the label, and the less of the handwriting
    is carried over."""
    moments_rate: float = 0.002
    """Share of the latest batch in the running moments that the alignment is fitted to."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes, apart from data and seed."""

    spec: ModelSpec
    epochs: int = 30
    """Passes over the training images, by default."""
    batch_size: int = 128
    """Images per step, over all processes."""
    ema_decay: float = 0.999
    """Of the exponential moving average of the weights, which is what is validated and exported."""
    validation_images: int = 5000
    """Held out of the training set, the same ones for every seed."""
    min_steps: int = 0
    """Least number of steps per epoch: few images are repeated within an epoch."""
    patience: int = 0
    """Epochs without a better one after which training ends; 0 for never."""
    loss: LossWeights = field(default_factory=LossWeights)
    fine_tuning: LossWeights | None = None
    """Other factors for the last epochs, in which the encoder is frozen and the decoder fine-tuned
    (:meth:`cvae_cli.training.objective.Objective.begin_fine_tuning`): a model that keeps the image is then
    made to obey its label, under a looser bound (Ribeiro et al. 2023, "High fidelity image counterfactuals
    with probabilistic causal models", section 4.3, which keeps the bound as a constraint)."""
    fine_tuning_share: float = 0.4
    """Share of the epochs that are fine-tuning, rounded to whole ones."""
    cycle_share: float = 1.0
    """Share of a batch for which the term ``cycle`` is computed."""
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    discriminator: DiscriminatorRecipe = field(default_factory=DiscriminatorRecipe)
    classifier: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    alignment: AlignmentRecipe = field(default_factory=AlignmentRecipe)

    def fine_tuning_begins(self, epochs: int) -> int:
        """The epoch, counted from 0, with which fine-tuning begins; ``epochs`` if there is none."""
        return epochs if self.fine_tuning is None else round(epochs * (1 - self.fine_tuning_share))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, as JSON and a checkpoint take them."""
        return {**to_plain(self), "spec": self.spec.to_dict()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {**raw, "spec": ModelSpec.from_dict(raw["spec"])}
        for name, part in _PARTS.items():
            if values.get(name) is not None:
                values[name] = from_plain(part, values[name])
        return cls(**values)


_PARTS: dict[str, type] = {
    "loss": LossWeights,
    "fine_tuning": LossWeights,
    "optimizer": OptimizerRecipe,
    "discriminator": DiscriminatorRecipe,
    "classifier": ClassifierRecipe,
    "augmentation": AugmentationRecipe,
    "alignment": AlignmentRecipe,
}
assert set(_PARTS) < {part.name for part in fields(Recipe)}

MNIST = Recipe(
    spec=ModelSpec(
        classes=CLASSES["mnist"],
        image_size=28,
        canvas_size=32,
        channels=1,
        latent_dim=64,
        widths=(128, 64, 32, 16),
        label_dim=32,
        polarity="light-on-dark",
        fit="pad",
        margin=1 / 7,
        kind=ImageKind.STROKES,
    ),
    batch_size=64,
    optimizer=OptimizerRecipe(learning_rate=2e-3),
    loss=LossWeights(kl=0.15, target=25.0, realism=8.0, cycle=1.5, sharpness=2.5, style=5.0),
    discriminator=DiscriminatorRecipe(learning_rate_factor=2.0),
    classifier=ClassifierRecipe(square=0.5),
    augmentation=AugmentationRecipe(affine_share=0.3),
)

STROKES = replace(
    MNIST,
    spec=replace(MNIST.spec, latent_maps=(4, 2)),
    # Usual norms are about 200; without a limit a few large ones ended a training after 4,000 steps.
    optimizer=OptimizerRecipe(learning_rate=1.5e-3, max_gradient=300.0),
    # The maps are dear and the vector's first nats free: what can be carried is to be in the vector.
    loss=replace(MNIST.loss, map_kl=3.0, free_nats=30.0, feature_style=60.0),
    classifier=ClassifierRecipe(
        pretrain_epochs=2, pretrain_steps=1500, frozen=True, affine=(8.0, 0.12, 0.1), square=0.5
    ),
    augmentation=AugmentationRecipe(
        affine_share=0.5, affine=(5.0, 0.1, 0.03, 0.2), stretch=0.15, thickness=0.7, elastic=0.06
    ),
)
"""Thin strokes of one tone on an even background: letters, signs."""

CIFAR10 = Recipe(
    spec=ModelSpec(
        classes=CLASSES["cifar10"],
        image_size=32,
        canvas_size=32,
        channels=3,
        latent_dim=128,
        widths=(192, 96, 32, 32),
        decoder_widths=(256, 144, 80, 64),
        arch="residual",
        label_dim=32,
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
    ),
    cycle_share=0.25,
    discriminator=DiscriminatorRecipe(
        width=32,
        learning_rate_factor=2.0,
        betas=(0.0, 0.99),
        centred=True,
        augment=True,
        feature_width=96,
    ),
    classifier=ClassifierRecipe(pretrain_epochs=8, frozen=True, affine=(5.0, 0.1, 0.1), margin=0.1),
    augmentation=AugmentationRecipe(flips=True),
    alignment=AlignmentRecipe(strength=1.0),
)

SILHOUETTES = replace(
    MNIST,
    spec=replace(MNIST.spec, kind=ImageKind.SILHOUETTES, margin=1 / 28),
    # Prints, weaves and seams are not strokes: the likelihood alone would leave them grey.
    loss=LossWeights(
        recon=0.5, kl=0.06, target=20.0, realism=8.0, cycle=0.5, sharpness=1.5, features=20.0, style=5.0
    ),
    discriminator=DiscriminatorRecipe(width=48, learning_rate_factor=2.0, centred=True),
    # A coat and a pullover differ in little: images that are changed less are classified better.
    classifier=ClassifierRecipe(pretrain_epochs=2, affine=(7.0, 0.1, 0.08), square=0.3),
    augmentation=AugmentationRecipe(),
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
_MIN_STEPS = 200
_FEW_IMAGES = 500
"""Up to which training on a folder is a matter of minutes, on two cores."""
_EPOCHS_OF_FEW, _STEPS_OF_FEW = 16, 80
_PATIENCE = 5
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
    spec = replace(recipe.spec, classes=classes, image_size=image_size, canvas_size=canvas, channels=channels)
    recipe = replace(recipe, spec=spec, min_steps=_MIN_STEPS)
    if count is not None and count <= _FEW_IMAGES:
        # Larger canvases take longer; what their many pixels need more steps for, few images do not hold.
        steps = round(_STEPS_OF_FEW * min(1.0, (32 / canvas) ** 2))
        pretrain_steps = min(recipe.classifier.pretrain_steps, 2 * steps)
        recipe = replace(
            recipe,
            epochs=_EPOCHS_OF_FEW,
            min_steps=steps,
            patience=_PATIENCE,
            classifier=replace(recipe.classifier, pretrain_steps=pretrain_steps),
        )
    return recipe


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
    )
    return replace(recipe, loss=loss)


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
