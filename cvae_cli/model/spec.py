"""What a model is, in plain numbers and strings: written to JSON, read without torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from cvae_cli.errors import WeightsError


class ImageKind(str, Enum):
    """What images show, which decides how they are prepared, trained on and measured."""

    STROKES = "strokes"
    """Thin strokes of one tone on an even background: digits, letters, signs."""
    SILHOUETTES = "silhouettes"
    """Objects on an even background: clothes, leaves, tools."""
    PHOTOGRAPHS = "photographs"
    """Everything else."""


_KIND_IN_FILE = {ImageKind.PHOTOGRAPHS: "colours"}
"""Weights files store the kind as the style that is measured for it, under the key ``style``."""

_CHOICES: dict[str, tuple[Any, ...]] = {
    "arch": ("compact", "residual", "resnet18"),
    "auto_precision": ("fp32", "tiles", "bf16"),
    "classifier": ("strided", "whitened"),
    "channels": (1, 3),
    "likelihood": ("bernoulli", "laplace", "gaussian"),
    "polarity": ("light-on-dark", "any"),
    "fit": ("pad", "crop"),
    "kind": tuple(ImageKind),
}

_T = TypeVar("_T")


def to_plain(record: Any) -> dict[str, Any]:
    """A dataclass as JSON and checkpoints take it: numbers, strings, lists and dicts."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    return {key: plain(value) for key, value in dataclasses.asdict(record).items()}


def from_plain(cls: type[_T], raw: dict[str, Any]) -> _T:
    """The inverse of :func:`to_plain` for a dataclass without nested records.

    Raises:
        WeightsError: a field is missing or unknown, or the dataclass refuses a value.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise WeightsError(f"spec: {error}") from error


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the network and to feed it; travels with the weights.

    Attributes:
        classes: the class names, in the order of the label's indices.
        image_size: height and width, in pixels, of the images the model was trained on
            ("native size"); a relabelled tile has this size.
        canvas_size: height and width, in pixels, that the network sees: the native image,
            padded. At least ``image_size``, and divisible as often as its ``depth`` says.
        channels: 1 (grey) or 3 (RGB).
        latent_dim: length of the latent vector ``z``.
        widths: channels of the feature maps from the coarsest to those at 1/1 of the canvas, each twice as
            fine as the one before: four for 1/8, 1/4, 1/2 and 1/1, up to six for larger canvases.
        decoder_widths: channels of the decoder's feature maps from the coarsest to those at 1/2 of the
            canvas, and of the last ones, which are at 1/2 too, where ``arch`` is ``residual``; else empty.
        latent_maps: channels of the latent maps at twice and at four times the coarsest maps, which hold what
            the latent vector is too coarse for (:mod:`cvae_cli.model.latent_maps`); empty for none.
        map_carry: which share of its latent maps' residuals an image hands to its tiles, from 0 to 1.
        latent_norm: norm of an image's latent vector, in the space that all classes share, above which its
            tiles are drawn from the vector shrunk to it: what no training image has, the decoder has not
            learned to draw; ``None`` for no limit.
        tile_widths: of a second decoder, which draws tiles only (:mod:`cvae_cli.model.tile_decoder`): units
            of its hidden layer, and planes from which it makes pixels; empty where the decoder that draws
            reconstructions draws tiles, too.
        tile_maps: whether that decoder has the means of the latent maps' prior, as the other one does.
        label_dim: length of the learned embedding of a label.
        classifier: the network that reads the label of images that come without one: ``strided``, one of
            strided convolutions; ``whitened``, that of :mod:`cvae_cli.model.whitened`, for photographs.
        classifier_width: channels of its first feature map.
        label_temperature: what its logits are divided by, so that its probabilities are as often right as
            they say.
        arch: the networks: ``compact``, one convolution per scale, for strokes; ``residual``, two with
            normalisation in the decoder, and a deeper classifier, for photographs; ``resnet18``, those
            of the prior work, which need lightning-bolts.
        auto_precision: what ``--precision auto`` is where bfloat16 is fast, as it was measured to be right
            (:mod:`cvae_cli.model.precision`): ``fp32``; ``tiles``, bfloat16 in the decoder of tiles
            only; ``bf16``.
        likelihood: the distribution of a pixel given ``z`` and ``y``: ``bernoulli`` for strokes,
            ``laplace`` with one learned scale for photographs; ``gaussian``, also with one, as in
            the prior work.
        label_in_encoder: whether ``encode`` uses the label.
        label_in_decoder: whether ``decode`` uses the label. Without it, as in the prior work
            (``resnet18`` only), labels cannot change what is drawn.
        polarity: ``light-on-dark`` where the training images are bright strokes on black, so
            that other input may have to be inverted; ``any`` otherwise.
        fit: what happens to images of another size: ``pad`` keeps all of the image on a
            square of its background, ``crop`` keeps the central square.
        margin: share of the native size that is left free on each side when an image of
            another size is cut to its content (``fit: pad`` with ``light-on-dark`` only);
            MNIST digits fill 20 of 28 pixels, a margin of 1/7.
        kind: what the images show, and so which style training and ``evaluate`` measure: thickness,
            slant and width of strokes; brightness and area of silhouettes; the colours of photographs
            and where they are.
    """

    classes: tuple[str, ...]
    image_size: int = 28
    canvas_size: int = 32
    channels: int = 1
    latent_dim: int = 16
    widths: tuple[int, ...] = (128, 64, 32, 16)
    latent_maps: tuple[int, ...] = ()
    map_carry: float = 0.0
    latent_norm: float | None = None
    tile_widths: tuple[int, ...] = ()
    tile_maps: bool = False
    label_dim: int = 16
    decoder_widths: tuple[int, ...] = ()
    classifier: str = "strided"
    classifier_width: int = 32
    label_temperature: float = 1.0
    arch: str = "compact"
    auto_precision: str = "fp32"
    likelihood: str = "bernoulli"
    label_in_encoder: bool = True
    label_in_decoder: bool = True
    polarity: str = "any"
    fit: str = "pad"
    margin: float = 0.0
    kind: ImageKind = ImageKind.PHOTOGRAPHS

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
        if not 4 <= len(self.widths) <= (4 if self.arch == "resnet18" else 6):
            raise WeightsError("spec: widths must be four to six whole numbers, four for resnet18")
        wanted = len(self.widths)
        for name, count in (("widths", wanted), ("decoder_widths", wanted if self.arch == "residual" else 0)):
            widths = getattr(self, name)
            if len(widths) != count or not all(type(w) is int and 1 <= w <= 4096 for w in widths):
                raise WeightsError(f"spec: {name} must be {count} whole numbers from 1 to 4096")
        if self.canvas_size % 2**self.depth or self.canvas_size < self.image_size:
            raise WeightsError(
                f"spec: canvas_size must be a multiple of {2**self.depth}, at least image_size"
            )
        if len(self.latent_maps) not in ((0,) if self.arch == "resnet18" else (0, 2)) or not all(
            type(count) is int and 1 <= count <= 64 for count in self.latent_maps
        ):
            raise WeightsError("spec: latent_maps must be two whole numbers from 1 to 64, or none")
        if not isinstance(self.map_carry, (int, float)) or not 0 <= self.map_carry <= 1:
            raise WeightsError("spec: map_carry must be a number from 0 to 1")
        if len(self.tile_widths) not in (0, 2) or not all(
            type(width) is int and 1 <= width <= 4096 for width in self.tile_widths
        ):
            raise WeightsError("spec: tile_widths must be two whole numbers from 1 to 4096, or none")
        if self.tile_widths and self.image_size % 4:
            raise WeightsError("spec: tile_widths are for an image_size that is a multiple of 4")
        if self.tile_widths and (self.arch != "compact" or self.map_carry):
            raise WeightsError("spec: tile_widths are for arch 'compact' with a map_carry of 0")
        if self.tile_maps and not (self.tile_widths and self.latent_maps):
            raise WeightsError("spec: tile_maps are for a model with tile_widths and latent_maps")
        if self.auto_precision == "tiles" and not self.tile_widths:
            raise WeightsError("spec: auto_precision is 'tiles', but there are no tile_widths")
        if self.latent_norm is not None and not (
            isinstance(self.latent_norm, (int, float)) and 0 < self.latent_norm < 1e6
        ):
            raise WeightsError("spec: latent_norm must be a positive number, or null")
        if (
            not isinstance(self.label_temperature, (int, float))
            or not 0.001 <= self.label_temperature <= 1000
        ):
            raise WeightsError("spec: label_temperature must be a number from 0.001 to 1000")
        for name in ("label_in_encoder", "label_in_decoder", "tile_maps"):
            if not isinstance(getattr(self, name), bool):
                raise WeightsError(f"spec: {name} must be true or false")
        if self.arch == "resnet18" and not self.label_in_encoder:
            raise WeightsError("spec: the encoder of arch 'resnet18' must use the label")
        if self.arch != "resnet18" and not self.label_in_decoder:
            raise WeightsError(f"spec: the decoder of arch {self.arch!r} must use the label")
        if self.kind is not ImageKind.PHOTOGRAPHS and self.channels != 1:
            raise WeightsError(f"spec: style {self.kind.value!r} is for grey images only")
        if not isinstance(self.margin, (int, float)) or not 0 <= self.margin < 0.5:
            raise WeightsError("spec: margin must be a number from 0 to below 0.5")

    @property
    def num_classes(self) -> int:
        """How many labels there are."""
        return len(self.classes)

    @property
    def depth(self) -> int:
        """How often the canvas is halved, down to the coarsest feature maps."""
        return len(self.widths) - 1

    @property
    def coarsest_side(self) -> int:
        """Height and width of the coarsest feature maps."""
        return self.canvas_size >> self.depth

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it."""
        raw = to_plain(self)
        del raw["kind"]
        raw["style"] = _KIND_IN_FILE.get(self.kind, self.kind.value)
        return raw

    @classmethod
    def from_dict(cls, raw: Any) -> ModelSpec:
        """Read a spec from JSON. Raises :class:`WeightsError` on an unknown or bad field."""
        if not isinstance(raw, dict):
            raise WeightsError("spec: not a JSON object")
        known = {field.name for field in dataclasses.fields(cls)} - {"kind"} | {"style"}
        if unknown := sorted(set(raw) - known):
            raise WeightsError(f"spec: unknown field {unknown[0]!r} (made by a newer cvae?)")
        if "classes" not in raw:
            raise WeightsError("spec: no classes")
        for key in ("classes", "widths", "decoder_widths", "latent_maps", "tile_widths"):
            if key in raw and not isinstance(raw[key], list):
                raise WeightsError(f"spec: {key} must be a list")
        values = {key: value for key, value in raw.items() if key != "style"}
        return from_plain(cls, {**values, "kind": _kind_from_file(raw)})


def _kind_from_file(raw: dict[str, Any]) -> ImageKind:
    """The kind that a spec's ``style`` stands for; ``auto`` was written by early versions."""
    style = raw.get("style", "auto")
    if style == "auto":
        strokes = raw.get("channels", 1) == 1 and raw.get("polarity") == "light-on-dark"
        return ImageKind.STROKES if strokes else ImageKind.PHOTOGRAPHS
    by_style = {_KIND_IN_FILE.get(kind, kind.value): kind for kind in ImageKind}
    if not isinstance(style, str) or style not in by_style:
        raise WeightsError(f"spec: style is {style!r}, not one of {tuple(by_style)}")
    return by_style[style]
