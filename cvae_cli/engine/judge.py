"""The judge: a classifier that measures models and never trains or chooses one.

It shares nothing with what trains a model: another architecture (batch-normalised convolutions
and pooling, where the model's own classifier has strides and no normalisation), another seed,
and real training images only. A test keeps it out of ``engine/train`` and ``model/``.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvae_cli import __version__
from cvae_cli.engine.augment import random_affine, random_cutout, random_flip, random_shift
from cvae_cli.engine.datasets import LabelledImages
from cvae_cli.engine.device import Portions, bf16_is_fast, resolve_device
from cvae_cli.errors import UserError, WeightsError
from cvae_cli.images import grid
from cvae_cli.model import weights

KIND = "judge"
SEED = 777
_BATCH = 128
_LEAST_STEPS = 400


@dataclass(frozen=True)
class _Course:
    """How a judge is trained."""

    widths: tuple[int, ...]
    epochs: int
    optimizer: str
    learning_rate: float
    smoothing: float
    """Of the labels (Szegedy et al. 2016)."""
    dropout: float
    augmentation: dict[str, Any]

    def changed(self, x: Tensor) -> Tensor:
        """Training images, (B, C, H, W), with the changes of this course."""
        if "pixels" in self.augmentation:
            moved = random_shift(random_flip(x), self.augmentation["pixels"])
            # A quarter of the side: without, so many passes would have it learn images by heart.
            return random_cutout(moved, max(1, x.shape[-1] // 4)) if self.augmentation["cutout"] else moved
        return random_affine(x, **self.augmentation)

    def optimizer_of(self, network: nn.Module) -> torch.optim.Optimizer:
        """What trains the network."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                network.parameters(), self.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
            )
        return torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=0.01)


_GREY = _Course(
    widths=(32, 64, 128),
    epochs=8,
    optimizer="adamw",
    learning_rate=4e-3,
    smoothing=0.0,
    dropout=0.3,
    augmentation={"degrees": 12.0, "scale": 0.1, "shift": 0.07, "shear": 0.15, "outside": "zeros"},
)
_RGB = _Course(
    widths=(64, 128, 256, 256),
    epochs=16,
    optimizer="sgd",
    learning_rate=0.1,
    smoothing=0.1,
    dropout=0.0,
    # Whole pixels: a photograph of 32 pixels that is turned or scaled is a blurred one.
    augmentation={"flips": True, "pixels": 3, "cutout": True},
)


@dataclass(frozen=True)
class JudgeSpec:
    """Everything needed to build a judge and to feed it; travels with its weights.

    Attributes:
        classes: the class names, in the order of its outputs.
        image_size: height and width of the images that it reads.
        channels: 1 (grey) or 3 (RGB).
        widths: channels at 1/1, 1/2, 1/4 and so on of the image; the last is the number of features.
    """

    classes: tuple[str, ...]
    image_size: int
    channels: int
    widths: tuple[int, ...] = (32, 64, 128)

    def __post_init__(self) -> None:
        """Check every field. Raises :class:`WeightsError` naming the first that is wrong."""

        def whole(value: object, most: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

        if len(self.classes) < 2 or not all(isinstance(name, str) and name for name in self.classes):
            raise WeightsError("spec: classes must be at least two names")
        if len(set(self.classes)) != len(self.classes):
            raise WeightsError("spec: classes must be different names")
        if not whole(self.image_size, 4096) or not whole(self.channels, 3):
            raise WeightsError("spec: image_size or channels is not a whole number in its range")
        widths = self.widths
        if not isinstance(widths, tuple) or len(widths) not in (3, 4):
            raise WeightsError("spec: widths must be three or four numbers")
        if not all(whole(width, 4096) for width in widths):
            raise WeightsError("spec: widths must be whole numbers from 1 to 4096")

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> JudgeSpec:
        """Read a spec from JSON. Raises :class:`WeightsError` on an unknown or a bad field."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise WeightsError(f"spec: {error}") from error


class JudgeNetwork(nn.Module):
    """Convolutions, pooling, and one linear layer over the features."""

    def __init__(self, spec: JudgeSpec, *, training: bool = False, dropout: float = 0.0) -> None:
        """Build the network; with batch normalisation, and dropout before the head, only for training.

        A trained one is folded into the convolutions before it (:meth:`fold`), which computes
        the same in less time.
        """
        super().__init__()

        def convolution(inputs: int, outputs: int) -> nn.Module:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not training)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs)) if training else conv

        first, *others = spec.widths
        self.convolutions = nn.ModuleList([convolution(spec.channels, first)])
        for inputs, outputs in pairwise(spec.widths):
            self.convolutions += [convolution(inputs, outputs), convolution(outputs, outputs)]
        self.head = nn.Linear(others[-1], len(spec.classes))
        self.dropout = dropout

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, D), not negative."""
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if number % 2 == 0 and number < len(self.convolutions) - 1:
                x = F.max_pool2d(x, 2)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K)."""
        return self.head(F.dropout(self.features(x), self.dropout, self.training))

    def fold(self, spec: JudgeSpec) -> JudgeNetwork:
        """The same function without batch normalisation."""
        self.eval()
        folded = JudgeNetwork(spec).eval()
        for number, pair in enumerate(self.convolutions):
            assert isinstance(pair, nn.Sequential)
            conv, norm = pair
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            folded.convolutions[number] = fuse_conv_bn_eval(conv, norm)
        folded.head = self.head
        return folded


class Verdict(NamedTuple):
    """What a judge says of N images."""

    probabilities: NDArray[np.float32]
    """(N, K), of each class."""
    features: NDArray[np.float32]
    """(N, D), the inputs of its last layer."""


class Judge:
    """A loaded judge at work."""

    def __init__(self, file: Path, *, device: str = "auto", batch_size: int = 500) -> None:
        """Load a judge.

        Args:
            file: its ``.safetensors`` file.
            device: as ``--device``.
            batch_size: images at once; fewer are padded, so that a verdict on an image does not
                depend on what is judged beside it.

        Raises:
            WeightsError: the file fails a check.
            UserError: there is no such device.
        """
        self.raw, self.spec = read_judge(file)
        network = weights.load_network(file, self.raw, lambda: JudgeNetwork(self.spec))
        self.file, self._portions = file, Portions(batch_size)
        self.device = resolve_device(device)
        self.network = network.to(memory_format=torch.channels_last).to(self.device)

    @property
    def sha256(self) -> str:
        """Of the weights file, in hexadecimal."""
        return str(self.raw["sha256"])

    def read(self, images: NDArray[np.uint8]) -> Verdict:
        """Judge images.

        Args:
            images: (N, C, H, W) uint8, of the judge's size and channels.
        """

        def read(part: slice, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            count = len(images[part])
            batch = np.zeros((size, *images.shape[1:]), np.uint8)
            batch[:count] = images[part]
            x = torch.from_numpy(batch).to(self.device).float() / 255
            with torch.inference_mode():
                found = self.network.features(x.contiguous(memory_format=torch.channels_last))
                share = self.network.head(found).softmax(dim=1)
            return share[:count].cpu().numpy(), found[:count].cpu().numpy()

        probabilities, features = zip(*self._portions.run(len(images), read), strict=True)
        return Verdict(np.concatenate(probabilities), np.concatenate(features))


SURE = 0.9
"""Probability of the target from which a tile is marked as sure."""


def mark(probabilities: NDArray[np.float32], target: int, classes: tuple[str, ...]) -> grid.Mark:
    """A judge's verdict on one tile, as it is shown under it.

    Args:
        probabilities: (K,).
        target: the class that the tile should show.
        classes: the K names.
    """
    read, share = int(probabilities.argmax()), float(probabilities[target])
    if read != target:
        return grid.Mark("wrong", f"reads {classes[read]}")
    return grid.Mark("sure" if share >= SURE else "unsure", percent(share))


def percent(share: float) -> str:
    """A share as a whole percentage, never rounded up to 100."""
    return f"{min(99, math.floor(100 * share))}%" if share >= 0.01 else "<1%"


def read_judge(file: Path) -> tuple[dict[str, Any], JudgeSpec]:
    """Read and check the metadata of a judge; the weights themselves are not opened.

    Raises:
        WeightsError: no valid metadata, or not of a judge.
    """
    raw = weights.read_metadata(file, KIND)
    try:
        return raw, JudgeSpec.from_dict(raw["spec"])
    except WeightsError as error:
        raise WeightsError(f"{file.with_suffix('.json')}: {error}") from error


def judge_of(card: weights.ModelCard, data: str | None = None) -> Path:
    """Where the judge of a model is, or would be: the shipped one, or beside the model's file.

    Args:
        card: of the model.
        data: the data set to judge by; ``None`` for the one that the model was trained on.
    """
    name = f"{data or card.raw['data_set']}-judge"
    return weights.shipped(KIND).get(name, card.file.with_name("judge.safetensors"))


def find_judge(card: weights.ModelCard) -> Path:
    """The judge of a model, checked to fit it.

    Raises:
        UserError: there is none, or it does not fit; the message says how to make one.
    """
    file = judge_of(card)
    if not file.exists():
        raise UserError(
            f"no judge for the data set {card.raw['data_set']!r} of {card.name}: run cvae evaluate once, "
            f"which trains one and keeps it as {file}."
        )
    check_fits(file, card, card.raw["data_set"])
    return file


def check_fits(file: Path, card: weights.ModelCard, data: str) -> None:
    """Raise :class:`UserError` unless a judge is of a data set and reads what a model draws."""
    raw, ours = read_judge(file)
    theirs, remedy = card.spec, "name another with --judge, or delete it to have one trained."
    # A folder of one's own may be named in several ways, and moved.
    if Path(raw["data_set"]).name != Path(data).name:
        raise UserError(f"{file}: this is a judge of {raw['data_set']!r}, not of {data!r}; {remedy}")
    if (ours.classes, ours.image_size, ours.channels) != (theirs.classes, theirs.image_size, theirs.channels):
        raise UserError(
            f"{file}: this judge does not fit {card.name}: it reads {_what(ours)}, the model draws "
            f"{_what(theirs)}; {remedy}"
        )


def _what(spec: Any) -> str:
    kind = "grey" if spec.channels == 1 else "RGB"
    return f"{len(spec.classes)} classes ({', '.join(spec.classes[:3])} ...) at {spec.image_size} px {kind}"


def train_judge(
    data: LabelledImages,
    file: Path,
    *,
    name: str,
    data_set: str,
    command: str,
    device: str = "auto",
    epochs: int | None = None,
    seed: int = SEED,
    test: LabelledImages | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train a judge on real images and write its weights.

    One cycle of the learning rate (Smith & Topin 2018), each image a little rotated, scaled, sheared
    and shifted; a photograph shifted and mirrored. Nothing is selected: the last weights are the
    judge.

    Args:
        data: real training images.
        file: where the ``.safetensors`` goes.
        name: what the judge is called.
        data_set: the name of the data set.
        command: the command line that makes this judge again.
        device: as ``--device``.
        epochs: passes over the images, more where they are few; by default enough for their kind.
        seed: of the weights, the order and the changes.
        test: real test images, to measure the finished judge on.
        progress: told after each step how many are done, of how many.

    Returns:
        The file.
    """
    where = resolve_device(device)
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = data.images.shape[1]
        course = _GREY if channels == 1 else _RGB
        spec = JudgeSpec(data.classes, data.images.shape[-1], channels, course.widths)
        network = (
            JudgeNetwork(spec, training=True, dropout=course.dropout)
            .to(memory_format=torch.channels_last)
            .to(where)
        )
        batch = max(1, min(_BATCH, len(data) // 8))
        # A small set is passed over more often.
        epochs = max(epochs or course.epochs, -(-_LEAST_STEPS // (len(data) // batch)))
        steps = epochs * (len(data) // batch)
        optimizer = course.optimizer_of(network)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.learning_rate, total_steps=steps)
        done = 0
        network.train()
        for _ in range(epochs):
            order = torch.randperm(len(data))[: len(data) // batch * batch]
            for chosen in order.split(batch):
                x = course.changed(data.images[chosen].to(where).float() / 255)
                with torch.autocast(where.type, torch.bfloat16, enabled=bf16_is_fast(where)):
                    logits = network(x.contiguous(memory_format=torch.channels_last))
                labels = data.labels[chosen].to(where)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=course.smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                done += 1
                progress(done, steps)
        folded = network.cpu().fold(spec)
    file.parent.mkdir(parents=True, exist_ok=True)

    def export(metrics: dict[str, float]) -> None:
        weights.export(
            folded,
            file,
            spec=spec.to_dict(),
            name=name,
            data_set=data_set,
            metrics=metrics,
            train_command=command,
            versions={
                "cvae": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            training={
                "images": len(data),
                "epochs": epochs,
                "seed": seed,
                "minutes": round((time.monotonic() - began) / 60, 1),
                "optimizer": course.optimizer,
                "learning_rate": course.learning_rate,
                "label_smoothing": course.smoothing,
                "batch_size": batch,
                "augmentation": course.augmentation,
            },
            licence="MIT",
            kind=KIND,
        )

    export({})
    if test is not None:
        # Of the file, that is after rounding to half precision, not of the network in memory.
        read = Judge(file, device=device).read(test.images.numpy()).probabilities.argmax(axis=1)
        export({"test_accuracy": float((read == test.labels.numpy()).mean())})
    return file
