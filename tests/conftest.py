"""Fixtures: images that the tests make themselves, and models too small to be any good."""

from __future__ import annotations

import os

# Before torch is imported, here and in the processes that tests start: tests run side by side, and
# networks this small gain nothing from a second core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import EXAMPLES, MARK_COUNTS, draw_mark, export_untrained
from PIL import Image

from cvae_cli.data.catalogue import CLASSES
from cvae_cli.model.spec import ModelSpec


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option, shard or colour from the environment of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("CVAE_", "SLURM_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NO_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture
def examples() -> Path:
    """The example images, which we made ourselves."""
    return EXAMPLES


@pytest.fixture
def digit() -> Callable[[int], np.ndarray]:
    """Makes 28x28 light-on-dark strokes, different ones for every number."""

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
    """Ten images: six loose, two in a folder named after a class, two in another folder."""
    source = tmp_path / "imgs"
    for place, numbers in {"": range(6), "7": range(6, 8), "notes": range(8, 10)}.items():
        (source / place).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(digit(number)).save(source / place / f"d{number}.png")
    return source


@pytest.fixture
def small_spec() -> ModelSpec:
    """A network that is quick to build."""
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


@pytest.fixture
def cvae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in this process, in a folder of its own, with stdout and stderr apart."""

    def run(
        *arguments: object, input: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        # Imported here, since most tests do not need it.
        from click.testing import CliRunner

        from cvae_cli.cli import main

        command = [os.fspath(_text(argument)) for argument in arguments]
        result = CliRunner().invoke(main, command, input=input, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(command, result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def cvae_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As ``cvae``, in a process of its own, which takes some seconds to start."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        settings: dict = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300, **options}
        command = [sys.executable, "-m", "cvae_cli", *map(os.fspath, map(_text, arguments))]
        return subprocess.run(command, check=False, **settings)

    return run


def _text(argument: object) -> str:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set in MNIST's format: bars whose position tells the class.

    340 training images, of which a tenth is held out, and 50 test images.
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
    """A synthetic data set in CIFAR-10's class folders: one colour and texture per class.

    34 training images per class, and 4 test images.
    """
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for part, count in (("train", 34), ("test", 4)):
        for label, name in enumerate(CLASSES["cifar10"]):
            folder = root / "cifar10" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (32, 32, 3)).astype(np.uint8)
                pixels[:: 1 + label % 5, :, label % 3] += 100
                Image.fromarray(pixels).save(folder / f"{number:04}.png")
    return root


@pytest.fixture(scope="session")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of very different sizes with sub-folders, and two files that are no images."""
    folder = tmp_path_factory.mktemp("marks")
    for kind, count in MARK_COUNTS.items():
        (folder / kind / "more").mkdir(parents=True)
        for number in range(count):
            draw_mark(kind, number).save(
                folder / kind / ("more" if number % 7 == 0 else "") / f"{number}.png"
            )
    (folder / "bar" / "broken.png").write_bytes(b"no image")
    (folder / "bar" / "notes.txt").write_text("not taken for one")
    return folder


@pytest.fixture(scope="session")
def bars_judge(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of the bars of ``data_dir``, trained by the command itself since there was none."""
    from click.testing import CliRunner

    from cvae_cli.cli import main

    file = tmp_path_factory.mktemp("judge") / "bars.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cvae_cli.judge.blemishes.MIN_STEPS", 10)  # what it sees of them is tested elsewhere
        run = CliRunner().invoke(
            main, ["evaluate", "--data-dir", str(data_dir), "--judge", str(file), "--limit", "10", "--json"]
        )
    assert run.exit_code == 0, run.output
    return file
