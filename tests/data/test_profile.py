"""What images are taken for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import draw_mark
from PIL import Image

from cvae_cli.data.profile import DatasetProfile, profile_images
from cvae_cli.model.spec import ImageKind


def pictures(kind: str) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    made = []
    for number in range(12):
        if kind == "strokes":
            made.append(np.asarray(draw_mark("cross", number).resize((28, 28))))
        elif kind == "silhouettes":
            image = np.zeros((28, 28), np.uint8)
            image[4:25, 5 : 20 + number % 4] = random.integers(120, 256, (21, 15 + number % 4))
            made.append(image)
        else:
            shape = (48, 48) if kind == "grey photographs" else (48, 48, 3)
            ramp = np.linspace(0, 200, 48)[:, None] + random.integers(0, 50, (48, 48))
            made.append((ramp if len(shape) == 2 else ramp[..., None] * [1, 0.6, 0.3]).astype(np.uint8))
    return made


@pytest.mark.parametrize(
    ("kind", "size", "channels", "taken_for"),
    [
        ("strokes", 28, 1, "strokes"),
        ("silhouettes", 28, 1, "silhouettes"),
        ("grey photographs", 48, 1, "photographs"),
        ("photographs", 48, 3, "photographs"),
    ],
)
def test_the_kind_of_images_is_recognised(
    tmp_path: Path, kind: str, size: int, channels: int, taken_for: str
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(12)]
    for file, pixels in zip(files, pictures(kind), strict=True):
        Image.fromarray(pixels).save(file)
    assert profile_images(files) == DatasetProfile(size, channels, ImageKind(taken_for), resized=False)
    larger, coloured = profile_images(files, image_size=64), profile_images(files, channels=3)
    assert larger is not None
    assert (larger.image_size, larger.resized) == (64, True)
    assert coloured is not None
    assert (coloured.channels, coloured.kind) == (3, ImageKind.PHOTOGRAPHS)


def test_files_that_cannot_be_read_have_no_profile(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert profile_images([tmp_path / "a.png"]) is None
