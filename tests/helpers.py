"""What tests of several rooms share: paths, untrained models, processes without privileges."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from cvae_cli.model import weights
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.training.recipe import Recipe

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "digits"

HAS_BOLTS = importlib.util.find_spec("pl_bolts") is not None
"""Whether the extra ``[bolts]`` is installed."""

PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
"""
"""Source of a function that tells a process's peak memory in KiB. Not ``ru_maxrss``, which starts from
the parent's."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


def manifest_lines(folder: Path, name: str = "manifest.jsonl") -> list[dict[str, Any]]:
    """The lines of a manifest but the first, which says of the run what is the same for all images."""
    first, *lines = map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines())
    assert (first["kind"], first["format_version"]) == ("manifest", 2)
    return lines


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name, but for manifests."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith("manifest")
    }


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def invoke(*arguments: object, **settings: Any) -> Result:
    """Run the command in this process, in the current folder."""
    from cvae_cli.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments], **settings)


def export_untrained(spec: ModelSpec, file: Path) -> Path:
    """Write random weights with valid metadata; returns the file."""
    torch.manual_seed(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    weights.export(
        ConditionalVAE(spec),
        file,
        spec=spec.to_dict(),
        name=file.stem,
        data_set="none",
        metrics={"label_effect": 20.0},
        train_command="none",
        versions={},
        training={},
        licence="MIT",
    )
    return file


def without_privileges(command: list[str]) -> list[str]:
    """A command that file permissions apply to, even if root runs the tests; else skips."""
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not apply to root, and there is no setpriv")
    without = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}", *command]


MARK_COUNTS = {"cross": 40, "ring": 9, "bar": 70}
"""Images of each class of the fixture ``marks``."""


def draw_mark(kind: str, number: int) -> Image.Image:
    """A dark mark on paper, of one of three kinds, each picture of another size."""
    random = np.random.default_rng(number)
    side = int(random.integers(36, 60))
    image = Image.new("L", (side, side + number % 5), 245)
    draw = ImageDraw.Draw(image)
    x, y = (int(value) for value in random.integers(4, 10, 2))
    end = side - 8
    if kind == "cross":
        draw.line((x, y, end, end), fill=20, width=3)
        draw.line((end, y, x, end), fill=20, width=3)
    elif kind == "ring":
        draw.ellipse((x, y, end, end), outline=20, width=3)
    else:
        draw.line((side // 2, y, side // 2, end), fill=20, width=3)
    return image


RESIDUAL_SPEC = ModelSpec(
    classes=("a", "b", "c"),
    image_size=16,
    canvas_size=16,
    channels=3,
    latent_dim=4,
    widths=(8, 8, 8, 8),
    decoder_widths=(16, 16, 16, 16),
    arch="residual",
    classifier_width=8,
    likelihood="laplace",
)
"""A small network of the kind for photographs."""


class Recorder:
    """An observer of a training that remembers."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.steps = self.pretrained = 0
        self.fallbacks: list[str] = []

    def found(self, summary: object) -> None:
        """Not remembered."""

    def fell_back(self, reason: str) -> None:
        self.fallbacks.append(reason)

    def pretraining(self, done: int, steps: int) -> None:
        self.pretrained = done

    def started(self, folder: Path, epochs: int, first_epoch: int, steps: int) -> None:
        self.first_epoch, self.per_epoch = first_epoch, steps

    def step(self, epoch: int, step: int, terms: dict[str, float]) -> None:
        self.steps += 1

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        self.epochs.append(metrics)


def small_recipe(recipe: Recipe) -> Recipe:
    """The same recipe with networks that are quick to train."""
    more = (16,) * (recipe.spec.depth - 3)
    spec = replace(recipe.spec, widths=(*more, 16, 16, 8, 8), latent_dim=8, classifier_width=8)
    if spec.decoder_widths:
        spec = replace(spec, decoder_widths=(*more, 16, 16, 8, 16))
    options = recipe.discriminator
    options = replace(options, width=8, feature_width=min(8, options.feature_width))
    classifier = replace(recipe.classifier, pretrain_steps=0)
    return replace(recipe, spec=spec, discriminator=options, classifier=classifier)
