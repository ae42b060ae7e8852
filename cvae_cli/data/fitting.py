"""Fitting a classifier of photographs to labelled images, in a schedule made for few passes over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cvae_cli.data.augment import random_cutout, random_shift
from cvae_cli.model.canvas import images_at_once
from cvae_cli.model.whitened import WhitenedClassifier

_BATCH = 1024
"""Of images of 32x32 pixels; of larger ones as many as take the same memory."""
_RATE = 1.5
"""Peak learning rate for a batch of that size; smaller batches get theirs in proportion."""
_MOMENTUM = 0.85
_DECAY = 1.33e-3
"""Weight decay."""
_BIAS_RATE = 64.0
"""Learning rate of the biases of normalisation, relative to that of the weights."""
_SMOOTHING = 0.2
"""Of the labels (Szegedy et al. 2016)."""
_WHITENING_EPOCHS = 0.3
"""Share of the epochs in which the bias of the first layer is trained."""
_WHITENING_IMAGES, _WHITENING_BATCH = 5000, 500
_AVERAGED_STEPS = 5


@dataclass(frozen=True)
class Fitting:
    """How a :class:`WhitenedClassifier` is fitted.

    Attributes:
        epochs: passes over the images.
        min_steps: least number of steps, however few the images.
        noise: largest standard deviation of the noise that half of the images get.
        cutout: side, as a share of the image's, of the square that is cut out of every image.
    """

    epochs: int
    min_steps: int = 0
    noise: float = 0.0
    cutout: float = 0.0

    def batch(self, count: int, side: int) -> int:
        """Images a step, of so many in all, of ``side`` x ``side`` pixels."""
        return max(2, min(images_at_once(_BATCH, side), count // 8))

    def steps(self, count: int, side: int) -> int:
        """Steps in all, for so many images of ``side`` x ``side`` pixels."""
        a_pass = count // self.batch(count, side)
        return a_pass * max(self.epochs, -(-self.min_steps // a_pass))


def fit(
    network: WhitenedClassifier,
    options: Fitting,
    images: Tensor,
    y: Tensor,
    *,
    prepare: Callable[[Tensor], Tensor],
    bf16: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Fit a classifier, as Jordan 2024 does (arXiv 2404.00498, section 3).

    SGD with Nesterov's momentum, a triangular learning rate, biases that learn faster than weights, smoothed
    labels, shifted images that are mirrored in every second pass, and an average of the weights that they
    start from again every few steps (Zhang et al. 2019, "Lookahead optimizer").

    Args:
        network: gets the weights; on the device to compute on.
        options: for how long, and with which changes to the images.
        images: (N, C, H, W) uint8.
        y: (N,) int64.
        prepare: makes what the network takes of a batch of images, (B, C, H, W) in [0, 1], on its device.
        bf16: whether to compute in 16 bits.
        progress: called after each step with the number of steps done and in all.
    """
    trained = network.for_training().train()
    side = images.shape[-1]
    some = torch.randperm(len(images))[:_WHITENING_IMAGES].split(images_at_once(_WHITENING_BATCH, side))
    trained.fit_whitening(prepare(images[part]) for part in some)
    batch, steps = options.batch(len(y), side), options.steps(len(y), side)
    rate = _RATE * batch / _BATCH
    biases = [value for name, value in trained.named_parameters() if ".1.bias" in name]
    others = [value for value in trained.parameters() if value.requires_grad and value.dim() != 1]
    whitening = trained.whiten.bias
    assert whitening is not None
    groups = [
        {"params": others, "lr": rate, "weight_decay": _DECAY},
        {"params": biases, "lr": rate * _BIAS_RATE, "weight_decay": _DECAY / _BIAS_RATE},
        {"params": [whitening], "lr": rate, "weight_decay": _DECAY},
    ]
    optimizer = torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _triangle(step / steps))
    average = _Average(trained)
    mirrored = torch.rand(len(y)) < 0.5
    order: list[Tensor] = []
    for step in range(steps):
        if not order:
            order = list(torch.randperm(len(y))[: len(y) // batch * batch].split(batch))
            mirrored = ~mirrored
        if step >= _WHITENING_EPOCHS * steps:
            whitening.requires_grad_(False)
        chosen = order.pop()
        x = _changed(prepare(images[chosen]), mirrored[chosen], options)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = trained(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), y[chosen].to(x.device), label_smoothing=_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _AVERAGED_STEPS == 0:
            average.update(0.95**5 * (step / steps) ** 3)
        progress(step + 1, steps)
    average.update(1.0)
    network.take(trained)


def _triangle(share: float) -> float:
    """Of the peak learning rate, after a share of the steps: from 0.2 up to 1 at 0.23, then down to 0.07."""
    if share < 0.23:
        return 0.2 + 0.8 * share / 0.23
    return 1.0 - 0.93 * (share - 0.23) / 0.77


def _changed(x: Tensor, mirrored: Tensor, options: Fitting) -> Tensor:
    """Training images, (B, C, H, W), some mirrored, and randomly changed."""
    x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
    x = random_shift(x, max(1, x.shape[-1] // 16))
    if options.cutout:
        x = random_cutout(x, max(1, round(options.cutout * x.shape[-1])))
    if options.noise:
        # Keeps it from deciding by single pixels (Kaur et al. 2019, "Are perceptually-aligned gradients a
        # general property of robust classifiers?").
        amount = options.noise * torch.rand(len(x), 1, 1, 1, device=x.device)
        x = x + amount * torch.randint(0, 2, amount.shape, device=x.device) * torch.randn_like(x)
    return x


class _Average:
    """Of a network's weights and statistics, to which the network itself is set back."""

    def __init__(self, network: WhitenedClassifier) -> None:
        self._own = [value for value in network.state_dict().values() if value.is_floating_point()]
        self._average = [value.clone() for value in self._own]

    @torch.no_grad()
    def update(self, kept: float) -> None:
        """Move to the network, but for a share that is kept, and set the network to it."""
        torch._foreach_lerp_(self._average, self._own, 1.0 - kept)
        torch._foreach_copy_(self._own, self._average)


@torch.no_grad()
def temperature(logits: Tensor, y: Tensor) -> float:
    """What logits are divided by so that their probabilities are as often right as they say.

    The one between 1/20 and 20 of least cross-entropy on images that were not trained on (Guo et al. 2017,
    "On calibration of modern neural networks", section 4.2).

    Args:
        logits: (N, K).
        y: (N,) int64.
    """
    candidates = torch.logspace(-1.3, 1.3, 261, dtype=torch.float64)
    losses = [F.cross_entropy(logits.double() / each, y) for each in candidates]
    return round(float(candidates[torch.stack(losses).argmin()]), 4)
