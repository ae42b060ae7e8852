"""Images as Python code has them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images.anything import is_many, load_anything, to_pillow
from cvae_cli.training.recipes import CIFAR10, MNIST

FILE = ROOT / "examples" / "digits" / "chalk-03.png"
PHOTO = ROOT / "examples" / "photos"


@pytest.mark.parametrize("kind", [str, lambda file: file, lambda file: file.read_bytes(), Image.open])
def test_a_digit_is_the_same_however_it_is_given(kind: Any) -> None:
    wanted = load_anything(FILE, MNIST.spec).native
    assert np.array_equal(load_anything(kind(FILE), MNIST.spec).native, wanted)


@pytest.mark.parametrize(
    "form",
    [
        lambda array: array,
        lambda array: array[:, :, None],
        lambda array: array[None],
        lambda array: torch.from_numpy(array),
        lambda array: np.asfortranarray(array),
    ],
)
def test_arrays_may_have_their_channel_anywhere(form: Any) -> None:
    array = np.asarray(Image.open(FILE).convert("L")).copy()
    wanted = load_anything(array, MNIST.spec).native
    assert np.array_equal(load_anything(form(array), MNIST.spec).native, wanted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pillow_images_of_every_mode_are_taken(mode: str) -> None:
    photo = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    image = photo.convert("L").convert("I;16") if mode == "I;16" else photo.convert(mode)
    assert load_anything(image, CIFAR10.spec).native.shape == (3, 32, 32)


def test_transparency_is_filled_as_in_a_file() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (18, 5, 22, 35))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    from_file = load_anything(buffer.getvalue(), MNIST.spec)
    assert np.array_equal(load_anything(image, MNIST.spec).native, from_file.native)


@pytest.mark.parametrize(
    ("images", "many"),
    [
        ("a.png", False), (b"a", False), (Path("a.png"), False), (np.zeros((4, 4), np.uint8), False),
        (np.zeros((3, 4, 4), np.uint8), False), (np.zeros((2, 3, 4, 4), np.uint8), True),
        (torch.zeros(2, 1, 4, 4), True), (["a.png"], True), (iter(["a.png"]), True),
        (Image.new("L", (4, 4)), False),
    ],
)  # fmt: skip
def test_one_is_told_from_several(images: Any, many: bool) -> None:
    assert is_many(images) is many


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_what_is_no_image_is_said(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="is no image; it has to be uint8"):
        load_anything(array, CIFAR10.spec)


def test_pixels_become_images() -> None:
    assert to_pillow(np.zeros((1, 4, 6), np.uint8)).size == (6, 4)
    assert (to_pillow(np.zeros((4, 6), np.uint8)).mode, to_pillow(np.zeros((3, 4, 6), np.uint8)).mode) == (
        "L",
        "RGB",
    )


def test_pillow_images_are_what_their_files_are(tmp_path: Path) -> None:
    digit = Image.open(FILE).convert("L")
    light = np.asarray(digit).astype(np.float32) / 255
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    digit.save(turned, exif=exif)
    alpha = Image.merge("LA", (Image.new("L", digit.size), digit))
    for image, file in (
        (Image.fromarray(light), tmp_path / "float.tif"),
        (Image.fromarray((light * 60_000).astype(np.int32)), tmp_path / "whole.tif"),
        (alpha.convert("RGBA"), tmp_path / "alpha.png"),
        (Image.open(turned), turned),
    ):
        if not file.exists():
            image.save(file)
        assert np.array_equal(load_anything(image, MNIST.spec).native, load_anything(file, MNIST.spec).native)
    wanted = load_anything(alpha, MNIST.spec).native
    for mode in ("La", "RGBa"):
        other = alpha.convert(mode) if mode == "La" else alpha.convert("RGBA").convert(mode)
        assert np.array_equal(load_anything(other, MNIST.spec).native, wanted)
