from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cvae_cli.errors import ImageError
from cvae_cli.images.ink import border_level, find_ink, is_dark_on_light, whiten


def page(height: int = 200, width: int = 160, level: int = 230) -> np.ndarray:
    return np.full((height, width, 1), level, np.uint8)


def test_the_background_is_the_level_of_most_of_the_border() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:] = (10, 20, 30)
    image[:4, :4] = 255  # a corner does not count
    assert border_level(image).tolist() == [10, 20, 30]


@pytest.mark.parametrize(("level", "ink", "dark"), [(230, 20, True), (20, 230, False), (120, 250, False)])
def test_which_side_of_the_background_strokes_are_on(level: int, ink: int, dark: bool) -> None:
    image = page(level=level)
    image[80:120, 70:80] = ink
    assert is_dark_on_light(image) is dark


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 3, 1), (28, 28, 1), (5, 4, 3)])
def test_the_background_is_the_median(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border_level(pixels).tolist() == np.median(edge, axis=0).tolist()


def test_grey_paper_becomes_white_and_its_strokes_black() -> None:
    image = page(level=200)
    image[80:120, 70:80] = 50
    white, factor = whiten(image)
    assert factor == pytest.approx(255 / 150, abs=0.01)
    assert white[0, 0, 0] == 255
    assert white[100, 75, 0] == 0


def test_paper_that_is_white_or_blank_is_left_alone() -> None:
    clean = page(level=255)
    clean[80:120, 70:80] = 0
    for image in (clean, page()):
        same, factor = whiten(image)
        assert factor is None
        assert np.array_equal(same, image)


@pytest.mark.parametrize("scale", [1, 5])
def test_strokes_are_boxed_to_within_a_pixel_of_the_small_copy(scale: int) -> None:
    image = page()
    image[60:140, 70:80] = 20
    image[60:70, 70:120] = 20
    found = find_ink(image.repeat(scale, axis=0).repeat(scale, axis=1), dark=True)
    box = np.array([found.top, found.bottom, found.left, found.right])
    assert np.abs(box - scale * np.array([60, 140, 70, 120])).max() <= 2 * scale
    # The centre of mass: 10x80 pixels around (99.5, 74.5), and 10x40 around (64.5, 99.5).
    assert found.centre_y == pytest.approx(scale * (800 * 99.5 + 400 * 64.5) / 1200, abs=2 * scale)
    assert found.centre_x == pytest.approx(scale * (800 * 74.5 + 400 * 99.5) / 1200, abs=2 * scale)
    assert found.warnings == ()


def test_a_printed_line_from_edge_to_edge_is_no_stroke() -> None:
    image = page()
    image[60:140, 70:80] = 20
    image[180:182] = 60
    assert find_ink(image, dark=True).bottom <= 142
    only = page()
    only[100:102] = 60
    assert find_ink(only, dark=True).bottom == 102  # but where there is nothing else it is one


def test_doubtful_strokes_come_with_a_warning() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 1)).astype(np.uint8)
    (uneven,) = find_ink(noise, dark=True).warnings
    assert uneven.startswith("uneven background: ")
    speck = page()
    speck[100:106, 80:83] = 20
    (small,) = find_ink(speck, dark=True).warnings
    assert small.startswith("the strokes fill only 0.1% of the picture")


def test_a_shadow_is_no_stroke() -> None:
    image = page().astype(float)
    image[:, 80:] -= 110  # half of the page lies in the shade
    image[60:140, 30:40] = 20
    found = find_ink(image.astype(np.uint8), dark=True)
    assert (found.top, found.bottom) == pytest.approx((60, 140), abs=4)
    assert (found.left, found.right) == pytest.approx((30, 40), abs=4)


SHADOWS = {
    "from a side": lambda y, x: x >= 0.55,
    "from the top": lambda y, x: y < 0.45,
    "across": lambda y, x: x + y > 1,
    "in a corner": lambda y, x: (x > 0.6) & (y > 0.6),
    "a head": lambda y, x: (x - 0.75) ** 2 + (y - 0.75) ** 2 < 0.14,
    "a strip": lambda y, x: abs(x - 0.5) < 0.13,
}


@pytest.mark.parametrize("drop", [90, 150])
@pytest.mark.parametrize("kind", SHADOWS)
def test_strokes_are_found_in_a_shadow_of_any_shape_and_beside_it(kind: str, drop: int) -> None:
    y, x = np.mgrid[0:400, 0:400] / 400
    shade = Image.fromarray(np.where(SHADOWS[kind](y, x), 235 - drop, 235).astype(np.uint8))
    image = np.array(shade.filter(ImageFilter.GaussianBlur(3)))
    image[100:130, 130:270] = image[100:300, 240:270] = image[270:300, 130:270] = 11
    found = find_ink(image[:, :, None], dark=True)
    assert (found.top, found.bottom, found.left, found.right) == pytest.approx((100, 300, 130, 270), abs=6)
    assert found.warnings == ()


@pytest.mark.parametrize("width", [8, 20, 40])
def test_strokes_that_reach_the_border_are_no_shadow(width: int) -> None:
    image = page()
    image[:150, 60 : 60 + width] = 20
    image[90:110, 20:140] = 20
    found = find_ink(image, dark=True)
    assert (found.top, found.bottom, found.left, found.right) == (0, 150, 20, 140)
    assert not found.shaded


@pytest.mark.parametrize("dark", [True, False])
def test_nothing_to_find_is_an_error(dark: bool) -> None:
    with pytest.raises(ImageError, match="blank"):
        find_ink(page(), dark=dark)
