from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images.load import load_image, open_image, read_image
from cvae_cli.model.spec import ImageKind, ModelSpec

SPEC = ModelSpec(
    classes=("a", "b"),
    image_size=28,
    polarity="light-on-dark",
    fit="pad",
    margin=1 / 7,
    kind=ImageKind.STROKES,
)


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "empty": "empty",
        "pipe": "not a regular file",
        "gone": "no such file",
        ".": "regular|directory",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_a_file_and_its_bytes_give_the_same_image(tmp_path: Path, digit) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(255 - digit(1)).resize((90, 120)).save(file)
    ours, theirs = load_image(file, SPEC), load_image(file.read_bytes(), SPEC)
    assert np.array_equal(ours.native, theirs.native)
    assert ours.preprocessing == theirs.preprocessing
    assert ours.preprocessing.size == (90, 120)
    assert ours.preprocessing.inverted
    assert open_image(file).pixels.shape == (120, 90, 1)


def test_a_blank_image_says_what_was_done_to_it(tmp_path: Path) -> None:
    file = tmp_path / "blank.png"
    Image.new("RGB", (50, 60), (255, 255, 255)).save(file)
    with pytest.raises(ImageError, match="blank") as caught:
        load_image(file, SPEC)
    assert caught.value.preprocessing == {"size": [50, 60], "mode": "RGB"}


def test_a_large_file_that_is_no_image_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as stream:
        stream.truncate(65_000_000)
    with pytest.raises(ImageError, match="not an image"):
        read_image(file)
    with file.open("wb") as stream:
        stream.truncate(1_100_000_000)
    with pytest.raises(ImageError, match="over the limit of 1 GB"):
        read_image(file)
