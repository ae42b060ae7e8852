"""What Python code uses: models as functions, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from cvae_cli import storage
from cvae_cli.errors import LabelError
from cvae_cli.images.anything import Picture, is_many, load_anything, to_pillow
from cvae_cli.images.grid import Layout, Original, draw_row
from cvae_cli.images.png import encode_png
from cvae_cli.images.prepare import Fit, Invert, LoadedImage
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry
from cvae_cli.relabelling.labels import require_class
from cvae_cli.storage import Location

if TYPE_CHECKING:
    from cvae_cli.evaluation.report import Evaluation
    from cvae_cli.training.run import TrainResult

    AnyImage: TypeAlias = str | Path | Location | bytes | Picture | NDArray[np.uint8]
    """A path or URL, the bytes of a file, an image of Pillow's, or an array: uint8, (H, W), (H, W, C) or
    (C, H, W)."""
    Label: TypeAlias = str | int
    """A class of the model, by name or by number."""


@dataclass(frozen=True)
class Relabelled:
    """An image under other labels than its own.

    Attributes:
        label: its own class.
        confidence: the classifier's probability of that, in [0, 1]; ``None`` if the label was given.
        tiles: the image as each target: Pillow images of the model's native size.
        original: the image in the frame in which the model took it, with what was cut away dimmed; a Pillow
            image.
        warnings: what makes it doubtful that the image is what it was taken for.
    """

    label: str
    confidence: float | None
    tiles: dict[str, Picture]
    original: Picture
    warnings: tuple[str, ...] = ()
    _layout: Layout = field(repr=False, default=Layout(28, 1))

    def grid(self) -> Picture:
        """The annotated picture that ``cvae relabel`` writes."""
        return to_pillow(self._pixels())

    def _pixels(self) -> NDArray[np.uint8]:
        shown = np.asarray(self.original)
        note = "as given" if self.confidence is None else f"predicted {min(99, int(100 * self.confidence))}%"
        original = Original(
            shown[:, :, None] if shown.ndim == 2 else shown, self.label, note, warned=bool(self.warnings)
        )
        tiles = [(name, _channels_first(tile)) for name, tile in self.tiles.items()]
        return draw_row(self._layout, original, tiles)

    def _repr_png_(self) -> bytes:
        """How notebooks show it."""
        return encode_png(self._pixels())


@dataclass(frozen=True)
class Latents:
    """What a model knows of N images beyond their labels.

    Attributes:
        vectors: (N, Z) float32, in the latent space that all classes share.
        labels: the N images' own classes.
        maps: latents at finer scales, each (N, c, h, w) float32, in standard deviations; they count where an
            image is drawn as itself.
    """

    vectors: NDArray[np.float32]
    labels: tuple[str, ...]
    maps: tuple[NDArray[np.float32], ...] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.vectors)


class Model:
    """A model as a function; see ``load_model``.

    Attributes:
        name: what it is called.
        classes: the names of its classes, in the order of their numbers.
        image_size: side in pixels of what it draws.
        channels: 1 (grey) or 3 (RGB).
        sha256: of its weights, in hexadecimal.
    """

    def __init__(self, relabeller: Relabeller) -> None:
        """Of a loaded model."""
        self._relabeller = relabeller
        card, spec = relabeller.card, relabeller.spec
        self.name, self.sha256 = card.name, card.sha256
        self.classes, self.image_size, self.channels = spec.classes, spec.image_size, spec.channels

    def __repr__(self) -> str:
        """Name, size and classes."""
        size = f"{self.image_size}x{self.image_size}"
        return f"<cvae model {self.name}: {size}, {', '.join(self.classes)}>"

    @overload
    def relabel(  # type: ignore[overload-overlap]
        self,
        images: AnyImage,
        labels: Label | None = None,
        targets: Label | Iterable[Label] | None = None,
        *,
        invert: Invert = "auto",
        fit: Fit = "auto",
    ) -> Relabelled: ...

    @overload
    def relabel(
        self,
        images: Iterable[AnyImage],
        labels: Label | Sequence[Label | None] | None = None,
        targets: Label | Iterable[Label] | None = None,
        *,
        invert: Invert = "auto",
        fit: Fit = "auto",
    ) -> list[Relabelled]: ...

    def relabel(
        self,
        images: Any,
        labels: Any = None,
        targets: Label | Iterable[Label] | None = None,
        *,
        invert: Invert = "auto",
        fit: Fit = "auto",
    ) -> Relabelled | list[Relabelled]:
        """Draw images under every label that is not their own.

        Args:
            images: one image (a path or URL, the bytes of a file, a Pillow image, or uint8 as (H, W), (H, W,
                C) or (C, H, W)), or several: an iterable of these, or uint8 of four dimensions.
            labels: the images' own classes, by name or number: one for all, or one each; ``None`` leaves it
                to the model's classifier.
            targets: the classes to draw; all by default. An image's own is always left out.
            invert: as ``--invert``.
            fit: as ``--fit``.

        Returns:
            What became of the image, or a list of that.

        Raises:
            ImageError: an image cannot be used.
            LabelError: the model has no such class.
        """
        many = is_many(images)
        loaded, index, confidences = self._prepared(images, labels, invert, fit)
        wanted = (
            np.arange(len(self.classes))
            if targets is None
            else np.array(sorted({self._index(one) for one in _several(targets)}), np.int64)
        )
        native = np.stack([image.native for image in loaded]) if loaded else self._none()
        drawn = self._draw(native, index, np.broadcast_to(wanted, (len(loaded), len(wanted))))
        found = [
            Relabelled(
                self.classes[own],
                confidence,
                {
                    self.classes[target]: to_pillow(image.restore(tile))
                    for target, tile in zip(wanted, tiles, strict=True)
                    if target != own
                },
                to_pillow(image.shown),
                tuple(image.warnings),
                Layout(self.image_size, self.channels),
            )
            for image, own, confidence, tiles in zip(loaded, index, confidences, drawn, strict=True)
        ]
        return found if many else found[0]

    def classify(self, images: Any) -> list[tuple[str, float]]:
        """The classes that the model's classifier sees in images, each with its probability in [0, 1]."""
        loaded, index, confidences = self._prepared(images, None, "auto", "auto")
        return [
            (self.classes[own], float(share or 0.0))
            for own, share, _ in zip(index, confidences, loaded, strict=True)
        ]

    def encode(self, images: Any, labels: Any = None) -> Latents:
        """What images say beyond their labels: the means of their posteriors.

        Args:
            images: one or several, as for ``relabel``.
            labels: as there.
        """
        loaded, index, _ = self._prepared(images, labels, "auto", "auto")
        vectors, maps = self._relabeller.infer(np.stack([image.native for image in loaded]), index)
        return Latents(vectors, tuple(self.classes[own] for own in index), maps)

    def decode(
        self, latents: Latents | NDArray[np.float32], targets: Label | Iterable[Label] | None = None
    ) -> list[dict[str, Picture]]:
        """Draw latents under labels.

        Args:
            latents: of ``encode``, or (N, Z) float32; N(0, I) is the prior.
            targets: the classes to draw; all by default.

        Returns:
            For each latent the Pillow image of each target, its own class among them.
        """
        names = (
            self.classes if targets is None else [self.classes[self._index(one)] for one in _several(targets)]
        )
        numbers = np.array([self.classes.index(name) for name in names], np.int64)
        known = latents if isinstance(latents, Latents) else Latents(np.asarray(latents, np.float32), ())
        every = np.broadcast_to(numbers, (len(known), len(numbers)))
        own = np.array([self.classes.index(name) for name in known.labels], np.int64)
        drawn = self._relabeller.draw_latents(known.vectors, every, known.maps, own if len(own) else None)
        return [dict(zip(names, map(to_pillow, tiles), strict=True)) for tiles in drawn]

    def interpolate(
        self, a: AnyImage, b: AnyImage, steps: int = 8, *, target: Label | None = None
    ) -> list[Picture]:
        """Walk from one image's style to another's, under one label.

        Args:
            a: where it begins.
            b: where it ends.
            steps: number of images, both ends among them; at least 2.
            target: the class to draw; ``a``'s own by default.

        Returns:
            Pillow images along a straight line between the two latent vectors.
        """
        if steps < 2:
            raise ValueError(f"steps: {steps} is too few; there are two ends.")
        both = self.encode([a, b])
        name = both.labels[0] if target is None else self.classes[self._index(target)]
        share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
        vectors = (1 - share) * both.vectors[0] + share * both.vectors[1]
        return [tiles[name] for tiles in self.decode(vectors.astype(np.float32), [name])]

    def sample(self, count: int = 1, *, seed: int = 0) -> list[dict[str, Picture]]:
        """Draw styles from the prior, each under every label."""
        drawn = self._relabeller.sample(count, seed=seed)
        return [dict(zip(self.classes, map(to_pillow, tiles), strict=True)) for tiles in drawn]

    def _index(self, label: Label) -> int:
        if isinstance(label, str):
            return require_class(label, self.classes, what="label")
        number = int(label)
        if not 0 <= number < len(self.classes):
            raise LabelError(f"label: the model has {len(self.classes)} classes, and none is number {label}.")
        return number

    def _prepared(
        self, images: Any, labels: Any, invert: Invert, fit: Fit
    ) -> tuple[list[LoadedImage], NDArray[np.int64], list[float | None]]:
        """Images as the model takes them, the numbers of their classes, and the classifier's confidence."""
        spec = self._relabeller.spec
        sources = list(images) if is_many(images) else [images]
        loaded = [load_anything(source, spec, invert=invert, fit=fit) for source in sources]
        one_for_all = labels is None or isinstance(labels, (str, int, np.integer))
        given = [labels] * len(loaded) if one_for_all else list(labels)
        if len(given) != len(loaded):
            raise LabelError(f"labels: {len(given)} for {len(loaded)} images.")
        index = np.zeros(len(loaded), np.int64)
        confidences: list[float | None] = [None] * len(loaded)
        unknown = [number for number, label in enumerate(given) if label is None]
        if unknown:
            native = np.stack([loaded[number].native for number in unknown])
            found, shares = self._relabeller.classify(native)
            index[unknown] = found
            for number, share in zip(unknown, shares, strict=True):
                confidences[number] = float(share)
        for number, label in enumerate(given):
            if label is not None:
                index[number] = self._index(label)
        return loaded, index, confidences

    def _draw(
        self, native: NDArray[np.uint8], index: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        if not targets.size:
            return np.empty((*targets.shape, *native.shape[1:]), np.uint8)
        return self._relabeller.draw(native, index, targets)

    def _none(self) -> NDArray[np.uint8]:
        return np.empty((0, self.channels, self.image_size, self.image_size), np.uint8)


def load_model(
    model: str | Path | Location = "mnist",
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
) -> Model:
    """Load a model.

    Args:
        model: the name of a shipped one, or a ``.safetensors`` file, a run folder or a URL.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        batch_size: images at once; ``None`` chooses by the device.

    Raises:
        UserError: no such model or device; ``WeightsError`` if the file is damaged.
    """
    file = registry.resolve(str(model))
    return Model(Relabeller(file, device=device, precision=precision, batch_size=batch_size))


def evaluate(
    model: str = "mnist",
    data: str | None = None,
    *,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    **options: Any,
) -> Evaluation:
    """Measure a model on real test images, as ``cvae evaluate`` does.

    Args:
        model: as ``--model``.
        data: as ``--data``.
        progress: called with the name of a step, how much of it is done, and of how much.
        **options: the other fields of ``EvaluateOptions``, such as ``limit``.

    Raises:
        UserError: options that cannot be used.
    """
    from cvae_cli.evaluation.run import EvaluateOptions
    from cvae_cli.evaluation.run import evaluate as run

    return run(EvaluateOptions(model=model, data=data, **_with_paths(options)), progress)


def train(data: str | Path = "mnist", **options: Any) -> TrainResult:
    """Train a model, as ``cvae train`` does, silently.

    Args:
        data: a data set known by name, or a folder.
        **options: the other fields of ``TrainOptions``, such as ``epochs`` and
            ``out``.

    Returns:
        What was made; ``load_model(result.weights)`` loads it.

    Raises:
        UserError: options or images that cannot be used.
    """
    from cvae_cli.training.callbacks import SilentObserver
    from cvae_cli.training.options import TrainOptions, resolve
    from cvae_cli.training.run import train as run

    asked = TrainOptions(data=str(data), **_with_paths(options))
    recipe, images, folder = resolve(asked, SilentObserver())
    return run(recipe, images, folder, asked.trainer(recipe))


def _several(targets: Label | Iterable[Label]) -> Iterable[Label]:
    return [targets] if isinstance(targets, (str, int, np.integer)) else targets


def _with_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Paths may be given as text."""
    places = ("out", "data_dir", "judge")
    return {
        name: storage.locate(value) if name in places and isinstance(value, str) else value
        for name, value in options.items()
    }


def _channels_first(tile: Picture) -> NDArray[np.uint8]:
    pixels = np.asarray(tile)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
