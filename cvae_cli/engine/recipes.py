"""How each shipped data set is trained: sizes, losses and schedules, one recipe a data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cvae_cli.model.spec import ModelSpec


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms in the training objective; the terms are in ``model/losses.py``."""

    recon: float = 1.0
    """Of the negative log-likelihood, nats per image."""
    kl: float = 1.0
    """Of the KL divergence, nats per image: with ``recon`` = ``kl`` = 1 their sum is -ELBO."""
    target: float = 10.0
    """Of the classifier's cross-entropy on images drawn with a random other label: this is
    what makes the decoder use its label."""
    realism: float = 0.0
    """Of the discriminator's score of those images: strokes crisp, no ghost of the old one."""
    cycle: float = 0.0
    """Of the squared distance between a code and the code of its relabelled image: the drawn
    image must carry the style it was drawn from."""
    sharpness: float = 0.0
    """Of the absolute error of the reconstruction, summed over pixels."""
    features: float = 0.0
    """Of the difference between an image and its reconstruction in the discriminator's features
    (Larsen et al. 2016, "Autoencoding beyond pixels"); not zero, the discriminator
    sees reconstructions too."""
    perceptual: float = 0.0
    """Of the difference between an image and its reconstruction in the classifier's feature maps
    (Johnson et al. 2016, "Perceptual losses"); with ``classifier_rests`` only."""
    style: float = 0.0
    """Of the difference in style between an image and what is drawn from it: see
    ``ModelSpec.style``. Strokes and silhouettes in standard deviations among their class, colours
    in shares of the range."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes, apart from data and seed."""

    spec: ModelSpec
    epochs: int = 30
    """Passes over the training images, unless others are asked for."""
    batch_size: int = 128
    """Images a step, over all processes."""
    learning_rate: float = 1e-3
    """Peak rate of Adam; linear warm-up, then half a cosine down to zero at the last step."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 200
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is validated and exported."""
    validation_images: int = 5000
    """Held out of the training set, the same ones for every seed."""
    loss: LossWeights = field(default_factory=LossWeights)
    finish: LossWeights | None = None
    """Other factors for the last part of a training, in which the codes stay as they are
    (:meth:`cvae_cli.engine.objective.Objective.finish`): a model that keeps the picture is then made
    to obey its label, under a looser bound (Ribeiro et al. 2023, "High fidelity image counterfactuals
    with probabilistic causal models", section 4.3, who do so with the bound as a constraint)."""
    finish_share: float = 0.4
    """Of the epochs, rounded to whole ones."""
    discriminator_width: int = 32
    discriminator_rate: float = 1.0
    """The discriminator's learning rate, relative to the model's."""
    discriminator_betas: tuple[float, float] = (0.5, 0.99)
    """Of its Adam: less momentum than the model's, since what it learns from keeps moving."""
    discriminator_centred: bool = False
    """See :class:`cvae_cli.model.network.ProjectionDiscriminator`."""
    feature_discriminator_width: int = 0
    """Channels of the discriminators that see images through the classifier's feature maps
    (``arch`` residual only); 0 for none."""
    discriminator_augments: bool = False
    """Whether images are changed at random before the discriminator sees them."""
    target_margin: float = 0.0
    """Cross-entropy of a tile, in nats, below which the classifier asks no more of it: a
    photograph of a horse need not be more of a horse than real ones are."""
    target_augmented: bool = False
    """Whether the classifier reads tiles turned, scaled and shifted as ``classifier_affine`` says."""
    target_square: float = 0.0
    """How much of the square of that cross-entropy is added to it: one tile that is read wrong
    then weighs more than many that are nearly right."""
    flips: bool = False
    """Whether half of the images are mirrored."""
    input_share: float = 0.0
    """Share of the training images that are changed as ``input_affine`` says: hands that the set
    does not have, so that drawings from elsewhere are understood."""
    input_affine: tuple[float, float, float, float] = (5.0, 0.07, 0.02, 0.12)
    """Their largest rotation (degrees), change of scale, shift and shear (shares of the side)."""
    cycle_share: float = 1.0
    """Share of a batch on which the term ``cycle`` is taken."""
    least_steps: int = 0
    """Steps that an epoch has at least: few images are passed over more than once in it."""
    common_code: float | None = 0.6
    """How far the covariances of the classes' codes are brought together, from 0 to 1; their
    means always are, unless it is ``None``: then a code stays as the encoder gives it. The farther,
    the less the code tells of the label, and the less of the hand is carried over."""
    moments_rate: float = 0.002
    """How much of the moments of the codes, by which classes are brought to a common code, is
    that of the latest batch."""
    classifier_epochs: int = 0
    """Passes over the training images in which the classifier learns alone, before all learn
    together: what it does not know yet it cannot ask for."""
    classifier_rests: bool = False
    """Whether the classifier stays as it is after that."""
    classifier_affine: tuple[float, float, float] = (15.0, 0.15, 0.15)
    """Random rotation (degrees), change of scale and shift (share of the side) of the real
    images that the classifier learns from, each up to the given amount either way."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as JSON and a checkpoint take them."""
        raw = dataclasses.asdict(self)
        raw["spec"] = self.spec.to_dict()
        return {key: list(value) if isinstance(value, tuple) else value for key, value in raw.items()}

    def finish_begins(self, epochs: int) -> int:
        """The epoch, from 0, from which on ``finish`` holds, of so many; ``epochs`` if it never does."""
        return epochs if self.finish is None else round(epochs * (1 - self.finish_share))

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        values["spec"] = ModelSpec.from_dict(raw["spec"])
        values["loss"] = LossWeights(**raw["loss"])
        if values.get("finish") is not None:
            values["finish"] = LossWeights(**raw["finish"])
        return cls(**values)


MNIST = Recipe(
    spec=ModelSpec(
        classes=tuple("0123456789"),
        image_size=28,
        canvas_size=32,
        channels=1,
        latent_dim=64,
        widths=(128, 64, 32, 16),
        label_dim=32,
        polarity="light-on-dark",
        fit="pad",
        margin=1 / 7,
    ),
    batch_size=64,
    learning_rate=2e-3,
    loss=LossWeights(kl=0.15, target=25.0, realism=8.0, cycle=1.5, sharpness=2.5, style=5.0),
    discriminator_rate=2.0,
    target_square=0.5,
    input_share=0.3,
)

CIFAR10 = Recipe(
    spec=ModelSpec(
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
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
    ),
    batch_size=64,
    learning_rate=7e-4,
    betas=(0.5, 0.99),
    # The likelihood of a photograph is two thousand nats: the terms are scaled to stand beside it.
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
    finish=LossWeights(
        recon=0.0007,
        kl=0.002,
        target=5.0,
        realism=1.5,
        cycle=0.01,
        features=2.0,
        perceptual=1.0,
        style=10.0,
    ),
    discriminator_width=32,
    discriminator_rate=2.0,
    discriminator_betas=(0.0, 0.99),
    discriminator_centred=True,
    discriminator_augments=True,
    feature_discriminator_width=96,
    target_margin=0.1,
    flips=True,
    common_code=1.0,
    cycle_share=0.25,
    classifier_epochs=8,
    classifier_rests=True,
    classifier_affine=(5.0, 0.1, 0.1),
)

SILHOUETTES = dataclasses.replace(
    MNIST,
    spec=dataclasses.replace(MNIST.spec, style="silhouettes", margin=1 / 28),
    # What is printed, woven or sewn on a thing is no stroke: the likelihood alone would leave it grey.
    loss=LossWeights(
        recon=0.5, kl=0.06, target=20.0, realism=8.0, cycle=0.5, sharpness=1.5, features=20.0, style=5.0
    ),
    discriminator_width=48,
    discriminator_centred=True,
    target_square=0.3,
    input_share=0.0,
    classifier_epochs=2,
    # A coat and a pullover differ in little: what is turned and moved less is read better.
    classifier_affine=(7.0, 0.1, 0.08),
)
"""Things on an even ground: clothes, leaves, tools."""

FASHION = dataclasses.replace(
    SILHOUETTES,
    spec=dataclasses.replace(
        SILHOUETTES.spec,
        classes=(
            "t-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle-boot",
        ),
    ),
)

SIZES = (28, 32, 48, 64)
"""Native sizes, in pixels, that a model of one's own images can have."""
DEFAULT_SIZE = 32
"""Where the images do not agree on one of these: small enough to train on a laptop."""
_OF_KIND = {"strokes": MNIST, "silhouettes": SILHOUETTES, "photographs": CIFAR10}
_LEAST_STEPS = 200


_PRIOR_WORK_EPOCHS = {"mnist": 50}
"""Those of the prior work where they were not 30."""


def resnet18(recipe: Recipe, data: str, *, label_blind: bool) -> Recipe:
    """The prior work's networks and schedule for the images of another recipe.

    A latent of 256, batches of 16, Adam at 1e-4, nothing but the bound, of Gaussian pixels of one
    learned scale. Our one change, the label given to the decoder, comes with a reward for using it.

    Args:
        recipe: whose images it is for.
        data: the name of the data set.
        label_blind: whether to leave out that change, as the prior work did.
    """
    spec = dataclasses.replace(
        recipe.spec,
        arch="resnet18",
        decoder_widths=(),
        latent_dim=256,
        likelihood="gaussian",
        label_in_decoder=not label_blind,
    )
    return Recipe(
        spec=spec,
        epochs=_PRIOR_WORK_EPOCHS.get(data, 30),
        batch_size=16,
        learning_rate=1e-4,
        betas=(0.9, 0.999),
        validation_images=recipe.validation_images,
        # In nats, beside a bound of a thousand and more.
        loss=LossWeights(target=0.0 if label_blind else 50.0),
        common_code=None,
        classifier_affine=recipe.classifier_affine,
        least_steps=recipe.least_steps,
    )


def for_images(kind: str, classes: tuple[str, ...], image_size: int, channels: int) -> Recipe:
    """The recipe for images of one's own.

    Args:
        kind: ``strokes`` or ``silhouettes``, which are grey, or ``photographs``.
        classes: their names.
        image_size: native height and width in pixels.
        channels: 1 or 3.
    """
    recipe = _OF_KIND[kind]
    canvas = -(-image_size // 16) * 16
    spec = dataclasses.replace(
        recipe.spec, classes=classes, image_size=image_size, canvas_size=canvas, channels=channels
    )
    return dataclasses.replace(recipe, spec=spec, least_steps=_LEAST_STEPS)


RECIPES = {"mnist": MNIST, "fashion": FASHION, "cifar10": CIFAR10}
