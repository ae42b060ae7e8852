"""What a model is, in plain numbers and strings: written to JSON, read without torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cvae_cli.errors import WeightsError

_CHOICES: dict[str, tuple[Any, ...]] = {
    "arch": ("compact", "residual", "resnet18"),
    "channels": (1, 3),
    "likelihood": ("bernoulli", "laplace", "gaussian"),
    "polarity": ("light-on-dark", "any"),
    "fit": ("pad", "crop"),
    "style": ("auto", "strokes", "silhouettes", "colours"),
}


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the network and to feed it; travels with the weights.

    Attributes:
        classes: the class names, in the order of the label's indices.
        image_size: height and width, in pixels, of the images the model was trained on
            ("native size"); a relabelled tile has this size.
        canvas_size: height and width, in pixels, that the network sees: the native image,
            padded. A multiple of 8, at least ``image_size``.
        channels: 1 (grey) or 3 (RGB).
        latent_dim: length of the latent vector ``z``.
        widths: channels of the feature maps at 1/8, 1/4, 1/2 and 1/1 of the canvas.
        decoder_widths: channels of the decoder's feature maps at 1/8, 1/4, 1/2 and once more at 1/2
            of the canvas, where ``arch`` is ``residual``; else empty.
        label_dim: length of the learned embedding of a label.
        classifier_width: channels of the first feature map of the classifier that reads the
            label of images that come without one.
        arch: the decoder: ``compact``, one convolution a scale, for strokes; ``residual``, two and a
            normalisation, and a deeper classifier, for photographs; or, with the encoder, ``resnet18``,
            that of the prior work, which needs lightning-bolts.
        likelihood: the distribution of a pixel given ``z`` and ``y``: ``bernoulli`` for strokes,
            ``laplace``, with one learned scale, for photographs; ``gaussian``, with one too, as the
            prior work had it.
        label_in_encoder: whether ``encode`` uses the label.
        label_in_decoder: whether ``decode`` does; without, as in the prior work (``resnet18`` only),
            labels cannot change what is drawn.
        polarity: ``light-on-dark`` where the training images are bright strokes on black, so
            that other input may have to be inverted; ``any`` otherwise.
        fit: what happens to images of another size: ``pad`` keeps all of the image on a
            square of its background, ``crop`` keeps the central square.
        margin: share of the native size that is left free on each side when an image of
            another size is cut to its content (``fit: pad`` with ``light-on-dark`` only);
            MNIST digits fill 20 of 28 pixels, a margin of 1/7.
        style: what makes the style of an image, which training and ``evaluate`` look at: thickness,
            slant and width of ``strokes``; brightness and area of ``silhouettes``; the ``colours`` and
            where they are. ``auto``: strokes where images are grey and light on dark, else colours.
    """

    classes: tuple[str, ...]
    image_size: int = 28
    canvas_size: int = 32
    channels: int = 1
    latent_dim: int = 16
    widths: tuple[int, int, int, int] = (128, 64, 32, 16)
    label_dim: int = 16
    decoder_widths: tuple[int, ...] = ()
    classifier_width: int = 32
    arch: str = "compact"
    likelihood: str = "bernoulli"
    label_in_encoder: bool = True
    label_in_decoder: bool = True
    polarity: str = "any"
    fit: str = "pad"
    margin: float = 0.0
    style: str = "auto"

    def __post_init__(self) -> None:
        """Check every field. Raises :class:`WeightsError` naming the first that is wrong."""
        for name, choices in _CHOICES.items():
            # By type too: True is equal to 1, and no number of channels.
            if (value := getattr(self, name)) not in choices or type(value) is not type(choices[0]):
                raise WeightsError(f"spec: {name} is {getattr(self, name)!r}, not one of {choices}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise WeightsError("spec: classes must be at least two different names")
        if not all(isinstance(name, str) and name for name in self.classes):
            raise WeightsError("spec: every class name must be a non-empty string")
        for name in ("image_size", "canvas_size", "latent_dim", "label_dim", "classifier_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
                raise WeightsError(f"spec: {name} must be a whole number from 1 to 4096")
        if self.canvas_size % 8 or self.canvas_size < self.image_size:
            raise WeightsError("spec: canvas_size must be a multiple of 8, at least image_size")
        for name, wanted in (("widths", 4), ("decoder_widths", 4 if self.arch == "residual" else 0)):
            widths = getattr(self, name)
            if len(widths) != wanted or not all(type(w) is int and 1 <= w <= 4096 for w in widths):
                raise WeightsError(f"spec: {name} must be {wanted} whole numbers from 1 to 4096")
        for name in ("label_in_encoder", "label_in_decoder"):
            if not isinstance(getattr(self, name), bool):
                raise WeightsError(f"spec: {name} must be true or false")
        if self.arch == "resnet18" and not self.label_in_encoder:
            raise WeightsError("spec: the encoder of arch 'resnet18' has the label")
        if self.arch != "resnet18" and not self.label_in_decoder:
            raise WeightsError(f"spec: the decoder of arch {self.arch!r} has the label")
        if self.kind_of_style != "colours" and self.channels != 1:
            raise WeightsError(f"spec: style {self.style!r} is of grey images only")
        if not isinstance(self.margin, (int, float)) or not 0 <= self.margin < 0.5:
            raise WeightsError("spec: margin must be a number from 0 to below 0.5")

    @property
    def num_classes(self) -> int:
        """How many labels there are."""
        return len(self.classes)

    @property
    def kind_of_style(self) -> str:
        """``style``, with ``auto`` resolved."""
        if self.style != "auto":
            return self.style
        return "strokes" if self.channels == 1 and self.polarity == "light-on-dark" else "colours"

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, raw: Any) -> ModelSpec:
        """Read a spec from JSON. Raises :class:`WeightsError` on an unknown or a bad field."""
        if not isinstance(raw, dict):
            raise WeightsError("spec: not a JSON object")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise WeightsError(f"spec: unknown field {unknown[0]!r} (made by a newer cvae?)")
        if "classes" not in raw:
            raise WeightsError("spec: no classes")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        for key in ("classes", "widths", "decoder_widths"):
            if key in values and not isinstance(values[key], tuple):
                raise WeightsError(f"spec: {key} must be a list")
        try:
            return cls(**values)
        except TypeError as error:
            raise WeightsError(f"spec: {error}") from error
