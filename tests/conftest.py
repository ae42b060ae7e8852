"""What the tests share: images they make themselves, and models too small to be any good."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.engine.recipes import CIFAR10
from cvae_cli.model.spec import ModelSpec

HAS_BOLTS = importlib.util.find_spec("pl_bolts") is not None
"""Whether the extra ``[bolts]`` is installed."""

PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
"""
"""The most memory that a process took, in KiB: not its ``ru_maxrss``, which begins with its parent's."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

EXAMPLES = Path(__file__).parent.parent / "examples" / "digits"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option, shard or colour from the environment of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("CVAE_", "SLURM_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NO_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture
def examples() -> Path:
    """The images of our own making."""
    return EXAMPLES


@pytest.fixture
def digit() -> Callable[[int], np.ndarray]:
    """A maker of 28x28 light-on-dark strokes, different for every number."""

    def make(number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        pixels = np.zeros((28, 28), np.uint8)
        x, y = random.integers(5, 22, 2)
        for _ in range(40):
            x, y = np.clip([x + random.integers(-1, 2), y + random.integers(-1, 2)], 4, 23)
            pixels[y : y + 2, x : x + 2] = 255
        return pixels

    return make


@pytest.fixture
def folder_of_digits(tmp_path: Path, digit: Callable[[int], np.ndarray]) -> Path:
    """Ten images: six loose, two in a folder of a class, two in one that is none."""
    source = tmp_path / "imgs"
    for place, numbers in {"": range(6), "7": range(6, 8), "notes": range(8, 10)}.items():
        (source / place).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(digit(number)).save(source / place / f"d{number}.png")
    return source


@pytest.fixture
def small_spec() -> ModelSpec:
    """A network that is built in no time."""
    return ModelSpec(
        classes=("cat", "dog", "a very long class name indeed"),
        image_size=12,
        canvas_size=16,
        channels=3,
        latent_dim=4,
        widths=(8, 8, 8, 8),
        label_dim=4,
        fit="crop",
    )


@pytest.fixture
def small_model(tmp_path: Path, small_spec: ModelSpec) -> Path:
    """The exported weights of an untrained network of ``small_spec``."""
    return export_untrained(small_spec, tmp_path / "model" / "small.safetensors")


def export_untrained(spec: ModelSpec, file: Path) -> Path:
    """Write random weights with valid metadata."""
    import torch

    from cvae_cli.model import weights
    from cvae_cli.model.network import ConditionalVAE

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


@pytest.fixture
def cvae(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command as a real process, in a folder of its own; stdout and stderr apart."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        settings: dict = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300, **options}
        command = [sys.executable, "-m", "cvae_cli", *map(os.fspath, map(_text, arguments))]
        return subprocess.run(command, check=False, **settings)

    return run


def without_privileges(command: list[str]) -> list[str]:
    """A command that permissions bind, also where root runs the tests; skips where that cannot be."""
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not bind root, and there is no setpriv")
    without = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}", *command]


def _text(argument: object) -> str:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of our own making in MNIST's format: bars whose place tells the class.

    340 images to train on, of which a tenth is held out, and 50 to test on.
    """
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 340), ("t10k", 50)):
        labels = random.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            width = random.integers(1, 4)
            image[5:23, 4 + 2 * label : 4 + 2 * label + width] = random.integers(150, 256)
        header = b"".join(number.to_bytes(4, "big") for number in (2051, count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (2049, count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return root


@pytest.fixture(scope="session")
def photo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of our own making in CIFAR-10's class folders: a colour and a texture a class.

    34 images a class to train on, and 4 to test on.
    """
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for part, count in (("train", 34), ("test", 4)):
        for label, name in enumerate(CIFAR10.spec.classes):
            folder = root / "cifar10" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (32, 32, 3)).astype(np.uint8)
                pixels[:: 1 + label % 5, :, label % 3] += 100
                Image.fromarray(pixels).save(folder / f"{number:04}.png")
    return root
