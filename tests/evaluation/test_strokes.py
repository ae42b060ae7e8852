"""Stroke measures against shapes of known size and against Morpho-MNIST's definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from skimage import morphology, transform

from cvae_cli.evaluation import strokes
from cvae_cli.images.load import load_image
from cvae_cli.training.recipes import MNIST


def reference(image: np.ndarray) -> tuple[float, float, float]:
    """Thickness, slant and width of one image, with the medial axis of scikit-image.

    After the definitions of Castro et al. 2019: enlarged four times, 98% of the ink.
    """
    fine = 255 * transform.pyramid_expand(image, upscale=4, order=3)
    inside = fine >= fine.min() + (fine.max() - fine.min()) / 2
    axis, distance = morphology.medial_axis(inside, return_distance=True)
    y, x = np.mgrid[: fine.shape[0], : fine.shape[1]]
    mass = fine.sum()
    mx, my = (x * fine).sum() / mass, (y * fine).sum() / mass
    shear = ((x - mx) * (y - my) * fine).sum() / ((y - my) ** 2 * fine).sum()
    places = np.arange(fine.shape[1])
    share = [((x + 0.5 < at + shear * (y - my)) * fine).sum() / mass for at in places]
    left, right = np.interp([0.01, 0.99], share, places)
    return 2 * distance[axis].mean() / 4, float(np.arctan(-shear)), (right - left) / 4


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """The examples as a model sees them, and each of them slanted and thicker."""
    files = sorted((Path(__file__).parents[2] / "examples" / "digits").rglob("chalk*.png"))
    found = []
    for file in files:
        native = load_image(file, MNIST.spec).native
        image = Image.fromarray(native[0])
        found.append(native)
        for slip in (-0.4, 0.4):
            slanted = image.transform((28, 28), Image.Transform.AFFINE, (1, slip, -slip * 14, 0, 1, 0), 2)
            found.append(np.asarray(slanted)[None])
        thick = morphology.dilation(native[0], morphology.disk(1))
        found.append(thick[None])
    return np.stack(found)


def test_agrees_with_the_definitions(drawings: np.ndarray) -> None:
    ours = strokes.measure(torch.from_numpy(drawings))
    theirs = np.array([reference(image[0]) for image in drawings]).T
    assert len(drawings) > 30
    for name, wanted, r, most in zip(
        ours._fields, theirs, (0.98, 0.999, 0.999), (0.15, 0.01, 0.3), strict=True
    ):
        got = getattr(ours, name).numpy()
        assert np.corrcoef(got, wanted)[0, 1] > r, name
        assert np.abs(got - wanted).mean() < most, name


@pytest.mark.parametrize("thickness", [2, 3, 4, 6])
def test_a_bar_of_known_size(thickness: int) -> None:
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[0, 0, 4:24, 10 : 10 + thickness] = 255
    found = strokes.measure(torch.from_numpy(image))
    assert float(found.thickness) == pytest.approx(thickness, abs=0.6)
    assert float(found.slant) == pytest.approx(0, abs=0.01)
    assert float(found.width) == pytest.approx(thickness + 0.6, abs=0.3)  # its edges are soft


def test_slant_is_an_angle_and_leaning_right_is_positive() -> None:
    image = np.zeros((1, 1, 28, 28), np.uint8)
    for row in range(4, 24):
        column = 14 + round((14 - row) * np.tan(0.4))
        image[0, 0, row, column - 1 : column + 2] = 255
    assert float(strokes.measure(torch.from_numpy(image)).slant) == pytest.approx(0.4, abs=0.03)


def test_an_image_without_strokes_measures_nothing() -> None:
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[1] = 200
    found = strokes.measure(images)
    assert all(torch.equal(value, torch.zeros(2)) for value in found)


def test_measures_do_not_depend_on_other_images(drawings: np.ndarray) -> None:
    images = torch.from_numpy(drawings)
    together, alone = strokes.measure(images), strokes.measure(images[3:4])
    for many, one in zip(together, alone, strict=True):
        assert float(many[3]) == pytest.approx(float(one[0]), rel=1e-5)


def test_thickness_is_that_of_the_whole_picture() -> None:
    """Only the box around the strokes is looked at, wherever they lie."""
    random = np.random.default_rng(0)
    for top, left in ((0, 0), (0, 9), (14, 0), (14, 20), (7, 11)):
        inside = np.zeros((40, 50), bool)
        inside[top : top + 26, left : left + 30] = morphology.closing(random.random((26, 30)) < 0.4)
        distances = distance_transform_edt(inside)[morphology.skeletonize(inside)]
        found = strokes._thickness(torch.from_numpy(inside[None]))
        assert float(found) == pytest.approx(2 * distances.mean() / 4, rel=1e-6)


def test_ink_at_the_edge_is_measured(drawings: np.ndarray) -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, :, :3] = 255
    assert 2 < float(strokes.measure(image).thickness) < 7
