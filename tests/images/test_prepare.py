from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images.prepare import prepare
from cvae_cli.model.spec import ImageKind, ModelSpec

STROKES = ModelSpec(
    classes=("a", "b"),
    image_size=28,
    polarity="light-on-dark",
    fit="pad",
    margin=1 / 7,
    kind=ImageKind.STROKES,
)
PICTURES = ModelSpec(classes=("a", "b"), image_size=32, channels=3, fit="crop")
PADDED = ModelSpec(classes=("a", "b"), image_size=28, fit="pad")


def pixels(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), np.uint8)


@given(arrays.arrays(np.uint8, (28, 28, 1)))
def test_native_size_is_taken_as_it_is(image: np.ndarray) -> None:
    prepared = prepare(image, STROKES, invert="never")
    assert np.array_equal(prepared.native[0], image[:, :, 0])
    assert np.array_equal(prepared.restore(prepared.native)[0], image[:, :, 0])
    assert prepared.preprocessing.to_dict() == {}


@given(arrays.arrays(np.uint8, (28, 28, 1)))
def test_inversion_is_undone(image: np.ndarray) -> None:
    image[0], image[-1], image[:, 0], image[:, -1], image[14, 14] = 255, 255, 255, 255, 0
    prepared = prepare(image, STROKES, invert="always")
    assert prepared.preprocessing.inverted
    assert prepared.native[0, 14, 14] == 255
    assert np.array_equal(prepared.restore(prepared.native)[0], image[:, :, 0])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([1, 3]),
    st.sampled_from([STROKES, PICTURES]),
    st.sampled_from(["auto", "always", "never"]),
)
def test_any_size_comes_out_native(
    height: int, width: int, channels: int, target: ModelSpec, invert: str
) -> None:
    try:
        prepared = prepare(pixels(height, width, channels), target, invert=invert)
    except ImageError as error:
        assert "blank" in str(error)  # a handful of pixels may well have nothing on them
        return
    assert prepared.native.shape == (target.channels, target.image_size, target.image_size)
    assert prepared.native.dtype == prepared.shown.dtype == np.uint8
    assert prepared.shown.shape[0] == prepared.shown.shape[1]
    assert prepared.native.flags.c_contiguous


@pytest.mark.parametrize(
    ("background", "ink", "inverted"), [(0, 255, False), (230, 40, True), (90, 200, False)]
)
@pytest.mark.parametrize("size", [(28, 28), (200, 130), (1000, 1400)])
def test_polarity_is_found(background: int, ink: int, inverted: bool, size: tuple[int, int]) -> None:
    image = np.full((*size, 1), background, np.uint8)
    h, w = size
    image[h // 4 : 3 * h // 4, w // 2 : w // 2 + max(3, w // 12)] = ink
    prepared = prepare(image, STROKES)
    assert prepared.preprocessing.inverted is inverted
    # A bright stroke on a dark background, whatever it was; at native size light on dark stays as it is.
    assert prepared.native[0, 14, 13:16].max() > 150
    if inverted or size != (28, 28):
        assert prepared.native[0, :2].max() < 20


def test_strokes_are_centred_and_scaled_to_twenty_pixels() -> None:
    image = np.zeros((600, 400, 1), np.uint8)
    image[100:300, 50:70] = 255
    native = prepare(image, STROKES).native[0]
    rows = np.flatnonzero((native > 100).any(axis=1))
    assert 19 <= rows[-1] - rows[0] + 1 <= 21
    centre = (native.sum(axis=0) * np.arange(28)).sum() / native.sum()
    assert centre == pytest.approx(13.5, abs=0.6)


def test_strokes_in_the_shade_are_as_strong_as_those_in_the_light() -> None:
    image = np.full((400, 400, 1), 235, np.uint8)
    image[150:260] = 85
    image[100:300, 190:215], image[150:260, 190:215] = 23, 8
    native = prepare(image, STROKES).native[0].astype(int)
    assert native[6:9, 13:15].min() > 200
    assert abs(native[6:9, 13:15].mean() - native[11:16, 13:15].mean()) < 12


def test_uneven_light_does_not_become_strokes() -> None:
    image = np.tile(np.linspace(150, 250, 400), (400, 1))
    image[120:280, 190:215] = 30
    native = prepare(image.astype(np.uint8)[:, :, None], STROKES).native[0]
    assert native[:, :6].max() < 40
    assert native[:, -6:].max() < 40
    assert native[14, 14] > 200


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (3, 20_000), (1, 1)])
@pytest.mark.parametrize("target", [STROKES, PICTURES, PADDED])
def test_odd_shapes_are_affordable(size: tuple[int, int], target: ModelSpec) -> None:
    tracemalloc.start()
    with contextlib.suppress(ImageError):  # a single pixel may well be blank
        prepare(pixels(*size), target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


def test_a_large_image_comes_out_as_its_small_copy() -> None:
    small = np.zeros((100, 80, 1), np.uint8)
    small[20:80, 35:45] = 255
    large = small.repeat(25, axis=0).repeat(25, axis=1)
    ours, theirs = (prepare(image, STROKES).native.astype(int) for image in (small, large))
    assert np.abs(ours - theirs).mean() < 3


def test_a_small_digit_on_a_large_page_is_affordable() -> None:
    image = np.full((6000, 4000, 1), 230, np.uint8)
    image[3000:3200, 1000:1020] = 20
    tracemalloc.start()
    native = prepare(image, STROKES).native[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert native[14, 13:16].max() == 255
    assert native[:, :5].max() == 0
    assert peak < 60_000_000


def test_a_blank_page_is_refused() -> None:
    with pytest.raises(ImageError, match="blank"):
        prepare(np.full((100, 100, 1), 240, np.uint8), STROKES)


def test_crop_takes_the_middle() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = (200, 100, 50)
    prepared = prepare(image, PICTURES)
    assert np.abs(prepared.native[:, 4:-4, 4:-4].astype(int).mean(axis=(1, 2)) - (200, 100, 50)).max() < 2
    assert prepared.preprocessing.cut == (100, 0, 200, 100)


def test_what_was_cropped_away_is_shown_dimmed() -> None:
    image = np.full((100, 300, 3), 200, np.uint8)
    shown = prepare(image, PICTURES).shown
    assert shown.shape == (112, 112, 3)
    middle = shown[56, :, 0]
    assert middle[56] == 200
    assert middle[5] == middle[-5] == 70  # cut away
    assert (middle == 200).sum() in range(36, 39)  # a third is left
    assert shown[5].max() == shown[-5].max() == 0  # outside the picture


def test_a_square_picture_has_nothing_dimmed() -> None:
    assert prepare(np.full((100, 100, 3), 200, np.uint8), PICTURES).shown.min() == 200


@pytest.mark.parametrize("size", [(100, 300), (300, 100), (1, 3000)])
def test_the_fit_can_be_chosen(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[: -(-size[0] // 2), : -(-size[1] // 2)] = 200  # the upper left quarter
    stretched = prepare(image, PICTURES, fit="stretch")
    assert stretched.native.shape == (3, 32, 32)
    assert stretched.native[0, 2 : 14 if size[0] > 1 else None, 2:14].min() > 190
    assert stretched.native[0, :, 18:].max() < 10
    assert stretched.preprocessing.cut == (0, 0, size[1], size[0])
    assert stretched.preprocessing.fit == "stretch"
    padded = prepare(image, PICTURES, fit="pad")
    assert padded.preprocessing.cut is not None
    left, top, right, bottom = padded.preprocessing.cut
    assert right - left == bottom - top == max(size)
    assert prepare(image, PADDED, fit="crop").preprocessing.fit == "crop"
    assert prepare(image, PICTURES).preprocessing.fit == "crop"


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(prepare(stripes, PICTURES).native.astype(int) - 127).max() < 12


@pytest.mark.parametrize(("channels", "target"), [(1, PICTURES), (3, STROKES)])
def test_channels_are_converted(channels: int, target: ModelSpec) -> None:
    image = pixels(target.image_size, target.image_size, channels)
    prepared = prepare(image, target, invert="never")
    assert prepared.native.shape[0] == target.channels
    assert prepared.preprocessing.channels == (channels, target.channels)
    if channels == 3:
        assert np.array_equal(prepared.native[0], np.asarray(Image.fromarray(image).convert("L")))
