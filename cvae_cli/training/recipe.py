"""What a recipe is: everything that decides what a training run makes, apart from data and seed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from cvae_cli.model.spec import ModelSpec, from_plain, to_plain


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
    moments: float = 0.0
    """Of the difference between tiles and real images of the same class in the mean and variance of their
    features (:mod:`cvae_cli.training.feature_moments`); with a frozen classifier of photographs only."""
    distances: float = 0.0
    """Of the difference between how far tiles and how far their originals lie apart in these features: what
    differs is drawn differently."""
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
    """Channels of the discriminators on the feature maps of a frozen network; 0 for none."""
    eyes: str = "classifier"
    """Which frozen network that is, by whose maps reconstructions are compared too: ``classifier``, the
    model's own, or ``imagenet`` (:mod:`cvae_cli.training.eyes`)."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """The model's own classifier, and what it asks of a tile."""

    pretrain_epochs: int = 0
    """Epochs in which it is trained alone, before everything else: what it does not know yet it cannot
    ask for."""
    pretrain_steps: int = 0
    """Least number of steps of that, unless there are very few images."""
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
    drawn_digits: float = 0.0
    """How many digits drawn by a program are added, as a share of the training images."""


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
    with probabilistic causal models", section 4.3, which keeps the bound as a constraint). While a decoder of
    tiles is taught they only end the hints (:mod:`cvae_cli.training.distillation`)."""
    fine_tuning_share: float = 0.4
    """Share of the epochs that are fine-tuning, rounded to whole ones."""
    map_dropout: float = 0.0
    """Share of a batch that is drawn without its latent maps, from the latent vector alone. Tiles are drawn
    like that: so the vector says all it can, and the decoder cannot tell by the maps whether it draws the
    image itself, faithfully, or something else, the usual way."""
    cycle_share: float = 1.0
    """Share of a batch for which the term ``cycle`` is computed."""
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    discriminator: DiscriminatorRecipe = field(default_factory=DiscriminatorRecipe)
    classifier: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    alignment: AlignmentRecipe = field(default_factory=AlignmentRecipe)

    def fine_tuning_begins(self, epochs: int) -> int:
        """The epoch, counted from 0, with which fine-tuning begins; ``epochs`` if there is none."""
        return epochs if self.fine_tuning is None else max(1, round(epochs * (1 - self.fine_tuning_share)))

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
