"""cvae beside a plain script with the same model, in one run: what ``engine.py`` begins with."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from commands import write_class_folders

from cvae_cli.data.datasets import load
from cvae_cli.model import registry

ROUNDS = 3
SCRIPT = Path(__file__).with_name("plain_script.py")


class Speeds(NamedTuple):
    """Images a second without the start, by the median of some rounds.

    Attributes:
        convolutions: the plain script, with the convolutional decoder.
        plain: the plain script, with the decoder that the model draws tiles by: the same one, for a model
            that has no decoder of tiles.
        cvae: ``cvae relabel``.
    """

    convolutions: float
    plain: float
    cvae: float


def seconds(command: Sequence[object]) -> float:
    """How long a command takes."""
    began = time.monotonic()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def compare(model: str, data_dir: Path, scratch: Path, count: int) -> Speeds:
    """Relabel test images in class folders, by turns.

    Args:
        model: name of a shipped model of a data set.
        data_dir: where that is.
        scratch: a folder for images and pictures.
        count: how many images.
    """
    data = load(registry.read_card(registry.shipped()[model]).raw["data_set"], data_dir, train=False)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    sources = {size: scratch / f"{model}-rivals-{size}" for size in (10, count)}
    for size, folder in sources.items():
        write_class_folders(data.subset(chosen[:size]), folder)
    took: dict[tuple[str, int], list[float]] = {}
    for number in range(ROUNDS):
        for name in Speeds._fields:
            for size, folder in sources.items():
                out = scratch / f"{model}-{name}-{size}-{number}"
                if name == "cvae":
                    command = [sys.executable, "-m", "cvae_cli", "-q", "relabel", folder, "--out", out]
                else:
                    command = [sys.executable, SCRIPT, folder, out]
                    command += ["--convolutions"] if name == "convolutions" else []
                took.setdefault((name, size), []).append(seconds([*command, "--model", model]))
    middle = {key: statistics.median(times) for key, times in took.items()}
    return Speeds(*((count - 10) / (middle[name, count] - middle[name, 10]) for name in Speeds._fields))


def report(model: str, speeds: Speeds) -> None:
    """Print the speeds and their ratios."""
    print(f"{model}, images in class folders, without the start, median of {ROUNDS} rounds by turns:")
    print(f"  plain script, convolutions {speeds.convolutions:8.0f} images/s")
    print(f"  plain script                 {speeds.plain:8.0f} images/s")
    print(f"  cvae                         {speeds.cvae:8.0f} images/s, ", end="")
    print(f"{speeds.cvae / speeds.convolutions:.1f} and {speeds.cvae / speeds.plain:.1f} times as many")
