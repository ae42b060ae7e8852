"""Training a judge."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli import __version__
from cvae_cli.data.augment import random_affine, random_cutout, random_flip, random_shift
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.judge.bank import fill_bank, split_images
from cvae_cli.judge.blemishes import WIDTHS, count_steps, train_blemishes
from cvae_cli.judge.files import KIND
from cvae_cli.judge.network import JudgeNetwork, JudgeSpec
from cvae_cli.judge.predict import Judge
from cvae_cli.model import weights
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.device import bf16_is_fast, resolve_device, use_full_fp32

SEED = 777
_BATCH = 128
_NARROWEST = 16
MIN_STEPS = 400
"""Steps of a training, at least, however few the images."""


@dataclass(frozen=True)
class _Schedule:
    """How a judge of one kind of images is trained."""

    widths: tuple[int, ...]
    epochs: int
    optimizer: str
    learning_rate: float
    smoothing: float
    """Of the labels (Szegedy et al. 2016)."""
    dropout: float
    augmentation: dict[str, Any]

    def widths_for(self, size: int) -> tuple[int, ...]:
        """Those for images of a size: large ones are halved more often, with few channels at first."""
        narrow: list[int] = []
        while (size := size // 2) > 32:
            narrow.insert(0, max(_NARROWEST, self.widths[0] >> len(narrow) + 1))
        return (*narrow, *self.widths)

    def augment(self, x: Tensor) -> Tensor:
        """Training images, (B, C, H, W), randomly changed."""
        if "pixels" in self.augmentation:
            moved = random_shift(random_flip(x), self.augmentation["pixels"])
            # A quarter of the side; without it, this many epochs would memorise the images.
            return random_cutout(moved, max(1, x.shape[-1] // 4)) if self.augmentation["cutout"] else moved
        return random_affine(x, **self.augmentation)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a network."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                network.parameters(), self.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
            )
        return torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=0.01)


_GREY = _Schedule(
    widths=(32, 64, 128),
    epochs=8,
    optimizer="adamw",
    learning_rate=4e-3,
    smoothing=0.0,
    dropout=0.3,
    augmentation={"degrees": 12.0, "scale": 0.1, "shift": 0.07, "shear": 0.15, "outside": "zeros"},
)
_RGB = _Schedule(
    widths=(64, 128, 256, 256),
    epochs=16,
    optimizer="sgd",
    learning_rate=0.1,
    smoothing=0.1,
    dropout=0.0,
    # Whole pixels: rotating or scaling blurs a photograph of 32 pixels.
    augmentation={"flips": True, "pixels": 3, "cutout": True},
)


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

    One cycle of the learning rate (Smith & Topin 2018). Grey images are randomly rotated, scaled,
    sheared and shifted a little; photographs are shifted, mirrored and partly cut out. Nothing is
    selected: the last weights are the judge. Then it gets its bank of real images.

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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = data.images.shape[1]
        schedule = _GREY if channels == 1 else _RGB
        size = data.images.shape[-1]
        spec = JudgeSpec(data.classes, size, channels, schedule.widths_for(size))
        network = (
            JudgeNetwork(spec, training=True, dropout=schedule.dropout)
            .to(memory_format=torch.channels_last)
            .to(where)
        )
        batch = max(1, min(_BATCH >> (len(spec.widths) - len(schedule.widths)), len(data) // 8))
        # At least a minimum of steps, however few the images.
        epochs = max(epochs or schedule.epochs, -(-MIN_STEPS // (len(data) // batch)))
        own_steps = epochs * (len(data) // batch)
        steps = own_steps + (count_steps(len(data)) if channels == 1 else 0)
        optimizer = schedule.make_optimizer(network)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=own_steps)
        done = 0
        network.train()
        for _ in range(epochs):
            order = torch.randperm(len(data))[: len(data) // batch * batch]
            for chosen in order.split(batch):
                x = schedule.augment(data.images[chosen].to(where).float() / 255)
                with torch.autocast(where.type, torch.bfloat16, enabled=bf16_is_fast(where)):
                    logits = network(x.contiguous(memory_format=torch.channels_last))
                labels = data.labels[chosen].to(where)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=schedule.smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                done += 1
                progress(done, steps)
        folded = network.cpu().fold(spec)
        judge, spec = with_bank(
            folded, spec, data, seed=seed, device=where, progress=lambda more, _: progress(done + more, steps)
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
                "epochs": epochs,
                "seed": seed,
                "minutes": round((time.monotonic() - began) / 60, 1),
                "optimizer": schedule.optimizer,
                "learning_rate": schedule.learning_rate,
                "label_smoothing": schedule.smoothing,
                "batch_size": batch,
                "augmentation": schedule.augmentation,
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
        with torch.random.fork_rng():
            torch.manual_seed(seed)
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
    found.convolutions, found.head = judge.cpu().convolutions, judge.head
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
