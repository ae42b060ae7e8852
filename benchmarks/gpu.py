"""What a GPU does with the models: drawing, a training step, and where the time of both goes.

    python benchmarks/gpu.py > gpu.json

For each of ``--models``: images and tiles per second of ``Relabeller.draw`` in every precision that the
device has, with batches of several sizes; the time of a training step of its recipe, and the operations
that take most of it. Images are random numbers: how fast they are drawn does not depend on what they show.
With ``--compile`` training steps are measured with and without ``torch.compile``, which needs a C++ compiler.
Takes a few minutes on a GPU. ``--device cpu`` measures the same on the CPU, where ``--seconds 2`` is enough.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry
from cvae_cli.model.device import bf16_is_fast, resolve_device, use_full_fp32
from cvae_cli.training.objective import Objective
from cvae_cli.training.recipe import Recipe
from cvae_cli.training.recipes import RECIPES

BATCH_SIZES = {"cpu": (8, 64), "cuda": (64, 256, 1024, 4096)}
TRAINED_BATCHES = {"cpu": (64,), "cuda": (64, 512)}
OPERATIONS = 8
"""The most expensive ones of a step, which are named."""
WARM_UP = 3


def rate_of(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """How often a second something can be done."""
    for _ in range(WARM_UP):
        work()
    synchronise(device)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        done += 1
        if done % 10 == 0:
            synchronise(device)  # or the clock would stop before the device does
    synchronise(device)
    return done / (time.perf_counter() - began)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_drawing(name: str, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Images and tiles per second of a shipped model."""
    rows = []
    precisions = ["fp32", *(["bf16"] if bf16_is_fast(device) else []), *(["fp16"] * (device.type == "cuda"))]
    for precision in precisions:
        for size in BATCH_SIZES[device.type]:
            file = registry.shipped()[name]
            relabeller = Relabeller(file, device=str(device), precision=precision, batch_size=size)
            spec, dice = relabeller.spec, np.random.default_rng(0)
            shape = (size, spec.channels, spec.image_size, spec.image_size)
            images = dice.integers(0, 256, shape, dtype=np.uint8)
            labels = np.arange(size) % spec.num_classes
            targets = (labels[:, None] + np.arange(1, spec.num_classes)) % spec.num_classes

            def draw(
                relabeller: Relabeller = relabeller,
                given: tuple[Any, ...] = (images, labels, targets),
            ) -> object:
                return relabeller.draw(*given)

            rate = size * rate_of(draw, device, seconds)
            rows.append(
                {
                    "model": name,
                    "precision": precision,
                    "batch_size": size,
                    "images_per_second": round(rate, 1),
                    "tiles_per_second": round(rate * targets.shape[1], 1),
                }
            )
    return rows


def measure_training(
    name: str, device: torch.device, seconds: float, *, compiled: bool = False
) -> list[dict[str, Any]]:
    """Steps per second of a recipe, and the operations that take the time of one."""
    rows = []
    for size in TRAINED_BATCHES[device.type]:
        began = time.perf_counter()
        step = training_step(RECIPES[name], size, device, compiled=compiled)
        step()
        first = time.perf_counter() - began
        rate = rate_of(step, device, seconds)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        with profile(activities=activities) as found:
            step()
            synchronise(device)
        on_gpu = device.type == "cuda"
        spent = {
            event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000
            for event in found.key_averages()
        }
        most = sorted(spent, key=lambda key: -spent[key])[:OPERATIONS]
        rows.append(
            {
                "recipe": name,
                "batch_size": size,
                "compiled": compiled,
                "seconds_to_first_step": round(first, 1),
                "steps_per_second": round(rate, 2),
                "images_per_second": round(rate * size, 1),
                # Of a stream, as reading a value does; the profile itself waits for the whole device.
                "synchronisations": sum(
                    event.count for event in found.key_averages() if event.key == "cudaStreamSynchronize"
                ),
                "milliseconds": {key: round(spent[key], 2) for key in most},
            }
        )
    return rows


def training_step(
    recipe: Recipe, size: int, device: torch.device, *, compiled: bool = False
) -> Callable[[], None]:
    """A step of a recipe on random images, all of it but Lightning; ``torch.compile`` for its networks."""
    torch.manual_seed(0)
    objective = Objective(recipe).to(device)
    spec, networks = recipe.spec, objective.networks
    if compiled:
        parts = (networks.model.encoder, networks.model.decoder, networks.discriminator)
        for part in (*parts, networks.feature_discriminator, networks.eyes):
            if part is not None:
                part.compile()
    optimizer = torch.optim.Adam(networks.parameter_groups(), betas=recipe.optimizer.betas)
    shape = (size, spec.channels, spec.image_size, spec.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    y = torch.arange(size, device=device) % spec.num_classes

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
            loss = objective.training_terms(images, y)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        networks.update_ema()

    return step


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    parser.add_argument("--compile", action="store_true", help="also steps of compiled networks")
    parser.add_argument("--models", nargs="+", default=["mnist", "cifar10"], choices=sorted(RECIPES))
    options = parser.parse_args()
    device = resolve_device(options.device)
    if device.type not in BATCH_SIZES:
        parser.error(f"--device {options.device}: measured are {' and '.join(BATCH_SIZES)} only")
    use_full_fp32(device)  # as relabelling and training do
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "drawing": [row for name in options.models for row in measure_drawing(name, device, options.seconds)],
        "training": [
            row
            for name in options.models
            for compiled in (False, True)[: 1 + options.compile]
            for row in measure_training(name, device, options.seconds, compiled=compiled)
        ],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
