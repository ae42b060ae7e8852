"""Training a judge."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cvae_cli import __version__
from cvae_cli.data.augment import random_affine
from cvae_cli.data.fitting import Fitting, fit, temperature
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.judge.bank import fill_bank, split_images
from cvae_cli.judge.blemishes import WIDTHS, count_steps, train_blemishes
from cvae_cli.judge.files import KIND
from cvae_cli.judge.network import JudgeNetwork
from cvae_cli.judge.predict import Judge
from cvae_cli.judge.spec import JudgeSpec
from cvae_cli.model import weights
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.device import bf16_is_fast, resolve_device, seeded, use_full_fp32

SEED = 777
_BATCH = 128
_NARROWEST = 16
MIN_STEPS = 400
"""Steps of a training, at least, however few the images."""


@dataclass(frozen=True)
class _Schedule:
    """How a judge of grey images is trained: one cycle of the learning rate (Smith & Topin 2018)."""

    widths: tuple[int, ...] = (32, 64, 128)
    epochs: int = 8
    learning_rate: float = 4e-3
    dropout: float = 0.3
    degrees: float = 12.0
    scale: float = 0.1
    shift: float = 0.07
    shear: float = 0.15

    def augment(self, x: Tensor) -> Tensor:
        """Training images, (B, C, H, W), randomly changed."""
        return random_affine(x, self.degrees, self.scale, self.shift, self.shear, outside="zeros")


_GREY = _Schedule()
_RGB_WIDTHS, _RGB_PATCH, _RGB_EPOCHS = (64, 256, 384), 3, 16
_CALIBRATION = 20
"""One in so many photographs is held out, to measure how often the judge is right when it is so sure."""
_ENOUGH = 200
"""Images to calibrate on; with fewer nothing can be said."""


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

    Grey images are randomly rotated, scaled, sheared and shifted a little; photographs are shifted and
    mirrored (:mod:`cvae_cli.data.fitting`), and their judge is calibrated. Nothing is selected: the last
    weights are the judge. Then it gets its bank of real images.

    Args:
        data: real training images.
        file: where the ``.safetensors`` goes.
        name: what the judge is called.
        data_set: the name of the data set.
        command: the command line that trains this judge again.
        device: as ``--device``.
        epochs: passes over the images; by default enough for their kind, and more if there are few.
        seed: of the initial weights, the order and the augmentation.
        test: real test images, to measure the finished judge on.
        progress: called after each step with the number of steps done and in all.

    Returns:
        The file.
    """
    where = resolve_device(device)
    use_full_fp32(where)
    began = time.monotonic()
    # What the bank and the network for blemishes need comes after the steps of the judge itself.
    more = 0
    if data.images.shape[1] == 1:
        split = split_images(data.labels, len(data.classes), _GREY.widths[-1], seed=seed)
        more = count_steps(len(split.fit))
    with seeded(seed):
        fitted = (_fit_grey if data.images.shape[1] == 1 else _fit_rgb)(
            data, epochs, where, lambda done, steps: progress(done, steps + more)
        )
        judge, spec = with_bank(
            fitted.network,
            fitted.spec,
            data,
            seed=seed,
            device=where,
            progress=lambda done, _: progress(fitted.steps + done, fitted.steps + more),
        )

    def export(metrics: dict[str, float]) -> None:
        weights.export(
            judge,
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
                "seed": seed,
                "minutes": round((time.monotonic() - began) / 60, 1),
                **fitted.training,
            },
            licence="MIT",
            kind=KIND,
        )

    export({})
    if test is not None:
        # Of the file, whose weights are rounded to half precision, not of the network in memory.
        predicted = Judge(file, device=device).predict(test.images.numpy()).probabilities.argmax(axis=1)
        export({"test_accuracy": float((predicted == test.labels.numpy()).mean())})
    return file


class _Fitted(NamedTuple):
    """A judge without a bank.

    Attributes:
        network: in evaluation mode, without batch normalisation, on the CPU.
        spec: of it.
        steps: how many it took.
        training: how it was trained, for its metadata.
    """

    network: JudgeNetwork
    spec: JudgeSpec
    steps: int
    training: dict[str, Any]


def _fit_grey(
    data: LabelledImages, epochs: int | None, device: torch.device, progress: Callable[[int, int], None]
) -> _Fitted:
    """A judge of grey images."""
    size = data.images.shape[-1]
    spec = JudgeSpec(data.classes, size, 1, (*_narrow_widths(size, _GREY.widths[0]), *_GREY.widths))
    network = JudgeNetwork(spec, training=True, dropout=_GREY.dropout)
    network = network.to(memory_format=torch.channels_last).to(device)
    batch = max(1, min(_BATCH >> (len(spec.widths) - len(_GREY.widths)), len(data) // 8))
    # At least a minimum of steps, however few the images.
    epochs = max(epochs or _GREY.epochs, -(-MIN_STEPS // (len(data) // batch)))
    steps = epochs * (len(data) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), _GREY.learning_rate, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _GREY.learning_rate, total_steps=steps)
    done = 0
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(data))[: len(data) // batch * batch]
        for chosen in order.split(batch):
            x = _GREY.augment(data.images[chosen].to(device).float() / 255)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
                logits = network(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), data.labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            done += 1
            progress(done, steps)
    training = {"epochs": epochs, "batch_size": batch, "schedule": asdict(_GREY)}
    return _Fitted(network.cpu().fold(spec), spec, steps, training)


def _fit_rgb(
    data: LabelledImages, epochs: int | None, device: torch.device, progress: Callable[[int, int], None]
) -> _Fitted:
    """A judge of photographs, calibrated on images that are held out."""
    size = data.images.shape[-1]
    widths = (*_narrow_widths(size, _RGB_WIDTHS[0]), *_RGB_WIDTHS)
    spec = JudgeSpec(data.classes, size, 3, widths, patch=_RGB_PATCH)
    network = JudgeNetwork(spec).eval().to(memory_format=torch.channels_last).to(device)
    assert network.whitened is not None
    held = torch.arange(len(data)) % _CALIBRATION == 0 if len(data) >= _CALIBRATION * _ENOUGH else None
    fitted = data if held is None else data.subset((~held).nonzero()[:, 0])
    options = Fitting(epochs=epochs or _RGB_EPOCHS, min_steps=MIN_STEPS)
    fit(
        network.whitened,
        options,
        fitted.images,
        fitted.labels,
        prepare=lambda images: images.to(device).float() / 255,
        bf16=bf16_is_fast(device),
        progress=progress,
    )
    certainty = 1.0
    if held is not None:
        calibration = data.subset(held.nonzero()[:, 0])
        logits = _in_parts(network, calibration, torch.arange(len(calibration)), device)
        certainty = temperature(logits, calibration.labels)
        network.whitened.head.weight.data /= certainty
    training = {**asdict(options), "held_out": len(data) - len(fitted), "temperature": certainty}
    return _Fitted(network.cpu(), spec, options.steps(len(fitted), size), training)


def _narrow_widths(size: int, first: int) -> tuple[int, ...]:
    """Widths before the usual ones, for large images, which are halved more often."""
    narrow: list[int] = []
    while (size := size // 2) > 32:
        narrow.insert(0, max(_NARROWEST, first >> len(narrow) + 1))
    return tuple(narrow)


def with_bank(
    network: JudgeNetwork,
    spec: JudgeSpec,
    data: LabelledImages,
    *,
    seed: int = SEED,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[JudgeNetwork, JudgeSpec]:
    """The same judge with a bank of real training images, and for grey images a network for blemishes.

    Photographs have too much detail of their own for the latter.

    Args:
        network: in evaluation mode, without batch normalisation; it is not changed, but for being
            rounded to half precision, as its file is.
        spec: of the network.
        data: real training images; test images have no place in a bank.
        seed: of which images are in the bank, and of the training of the network for blemishes.
        device: to compute on.
        progress: called after each step of that training with the number of steps done and in all.
    """
    split = split_images(data.labels, len(spec.classes), spec.widths[-1], seed=seed)
    blemishes = None
    if spec.channels == 1:
        with seeded(seed):
            blemishes = train_blemishes(data.images[split.fit], device, progress).half().float()
    judge = network.half().float().to(device)
    chosen = [split.bank, split.references]
    features, others = ([_in_parts(judge.features, data, each, device) for each in part] for part in chosen)
    logits = None
    if blemishes is not None:
        looks = blemishes.to(device)
        logits = [_in_parts(looks, data, each, device) for each in split.references]
        blemishes = looks.cpu()
    bank = fill_bank(split, features, others, logits)
    spec = replace(spec, bank=bank.counts, blemish_widths=WIDTHS if blemishes is not None else ())
    found = JudgeNetwork(spec).eval()
    found.take_layers(judge.cpu())
    found.bank, found.blemishes = bank, blemishes
    return found, spec


@torch.inference_mode()
def _in_parts(
    function: Callable[[Tensor], Tensor], data: LabelledImages, chosen: Tensor, device: torch.device
) -> Tensor:
    """What a function makes of the images at indices, (N,) int64, a batch at a time; on the CPU."""
    at_once = images_at_once(500, data.images.shape[-1])
    parts = [function(data.images[part].to(device).float() / 255).cpu() for part in chosen.split(at_once)]
    return torch.cat(parts).clone()
