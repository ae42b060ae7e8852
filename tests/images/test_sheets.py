from __future__ import annotations

import numpy as np
import pytest
from helpers import encoded
from PIL import Image, ImageDraw, ImageFont

from cvae_cli.fonts import __path__ as fonts
from cvae_cli.images.decode import decode
from cvae_cli.images.ink import find_ink
from cvae_cli.images.prepare import prepare
from cvae_cli.images.sheets import WARNING, find_sheet
from cvae_cli.model.spec import ImageKind, ModelSpec

STROKES = ModelSpec(
    classes=("a", "b"),
    image_size=28,
    polarity="light-on-dark",
    fit="pad",
    margin=1 / 7,
    kind=ImageKind.STROKES,
)


def page(height: int = 200, width: int = 160, level: int = 230) -> np.ndarray:
    return np.full((height, width, 1), level, np.uint8)


def seven(side: int, ink: int, paper: int) -> Image.Image:
    """A sheet with a 7 on it."""
    image = Image.new("L", (side, side), paper)
    points = [(side * x, side * y) for x, y in ((0.3, 0.25), (0.7, 0.25), (0.45, 0.75))]
    ImageDraw.Draw(image).line(points, ink, max(3, side // 18), joint="curve")
    return image


def framed(
    side: int, *, angle: float = 0, canvas: int = 0, around: int = 5, round_: bool = False
) -> np.ndarray:
    """That sheet, turned, in the middle of something dark."""
    sheet, mask = seven(side, 40, 240), Image.new("L", (side, side), 255)
    if round_:
        mask = Image.new("L", (side, side), 0)
        ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    sheet, mask = (image.rotate(angle, expand=True) for image in (sheet, mask))
    canvas = canvas or max(sheet.size) + 8
    picture = Image.new("L", (canvas, canvas), around)
    picture.paste(sheet, ((canvas - sheet.width) // 2, (canvas - sheet.height) // 2), mask)
    return np.asarray(picture)[:, :, None]


def test_a_sheet_on_a_dark_desk_is_found() -> None:
    desk = page(300, 300, level=20)
    desk[50:250, 60:260] = 230
    assert find_sheet(desk) is None  # there is nothing on it: it may as well be a stroke
    desk[120:180, 150:160] = 20
    sheet = find_sheet(desk)
    assert sheet is not None
    assert sheet.is_certain
    assert sheet.box == pytest.approx((62, 52, 258, 248), abs=4)
    assert sheet.cut_from(desk).shape == (sheet.box[3] - sheet.box[1], sheet.box[2] - sheet.box[0], 1)


def test_a_picture_that_is_all_sheet_has_none_in_it() -> None:
    image = page()
    image[80:120, 70:80] = 20
    assert find_sheet(image) is None
    assert find_sheet(page()) is None


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize(
    "how",
    [
        *({"angle": angle} for angle in (2, 8, 20, 45, -5)),
        *({"canvas": 700, "angle": angle} for angle in (0, 12)),
        {"round_": True},
        {"around": 120, "angle": 4},
    ],
)
def test_strokes_are_found_on_a_sheet_of_any_shape_and_size(how: dict[str, int], scale: int) -> None:
    picture = framed(240, **how).repeat(scale, axis=0).repeat(scale, axis=1)
    sheet = find_sheet(picture)
    assert sheet is not None
    assert sheet.is_certain
    cut = sheet.cut_from(picture)
    edge = np.concatenate([cut[0], cut[-1], cut[:, 0], cut[:, -1]])
    assert edge.min() > 200
    dark = float((cut < 120).mean()) * cut.size / scale**2
    assert dark == pytest.approx(float((np.asarray(seven(240, 40, 240)) < 120).sum()), rel=0.06)
    prepared = prepare(picture, STROKES)
    assert prepared.preprocessing.sheet == sheet.box
    assert prepared.warnings == () or "fill only" in prepared.warnings[0]


@pytest.mark.parametrize(("ink", "paper"), [(20, 255), (235, 15)])
@pytest.mark.parametrize("shape", ["round", "turned a little", "turned", "torn"])
def test_strokes_are_found_on_a_sheet_of_any_shape_on_transparent_ground(
    shape: str, ink: int, paper: int
) -> None:
    mask = Image.new("L", (200, 200), 0)
    draw = ImageDraw.Draw(mask)
    if shape == "torn":
        draw.polygon([(5, 20), (180, 4), (197, 150), (120, 195), (20, 180)], fill=255)
    elif shape == "round":
        draw.ellipse((0, 0, 199, 199), fill=255)
    else:
        draw.rectangle((0, 0, 199, 199), fill=255)
    sheet = seven(200, ink, paper).convert("RGBA")
    sheet.putalpha(mask)
    angle = {"turned": 20, "turned a little": 5}.get(shape, 0)
    picture = Image.new("RGBA", (280, 280))
    picture.alpha_composite(sheet.rotate(angle, Image.Resampling.BILINEAR, expand=True), (6, 6))
    prepared = prepare(decode(encoded(picture, "PNG")).pixels, STROKES)
    assert prepared.preprocessing.sheet is not None
    # The 7 alone: a bar across the top, and nothing of what is left of its foot.
    assert 0.03 < (prepared.native > 60).mean() < 0.2
    assert prepared.native[0, 18:, :8].max() < 60


def test_what_may_be_a_sheet_or_a_stroke_is_warned_about() -> None:
    picture = page(400, 400, level=5)
    picture[120:280, 130:270] = 240
    picture[160:240, 190:205] = 40
    sheet = find_sheet(picture)
    assert sheet is not None
    assert not sheet.is_certain
    assert prepare(picture, STROKES).warnings[0] == WARNING


@pytest.mark.parametrize("bold", [0, 5, 12])
@pytest.mark.parametrize("character", "0123456789ABDEOPQRabdegopq")
def test_bold_characters_with_holes_are_no_sheets(character: str, bold: int) -> None:
    font = ImageFont.truetype(f"{fonts[0]}/DejaVuSans.ttf", 150)
    for ground, ink in ((0, 255), (255, 0)):
        image = Image.new("L", (360, 360), ground)
        ImageDraw.Draw(image).text((180, 180), character, ink, font, anchor="mm", stroke_width=bold)
        assert find_sheet(np.asarray(image)[:, :, None]) is None


@pytest.mark.parametrize("width", [12, 30, 60])
def test_a_border_on_one_side_alone_is_no_stroke_or_warned_about(width: int) -> None:
    picture = np.full((300, 300 + width, 1), 5, np.uint8)
    picture[:, width:] = np.asarray(seven(300, 40, 240))[:, :, None]
    found = find_ink(picture, dark=True)
    assert found.left > width or found.warnings


@pytest.mark.parametrize("width", [2, 4, 10])
def test_the_outline_of_a_box_is_no_sheet(width: int) -> None:
    for ground, ink in ((5, 240), (240, 5)):
        image = Image.new("L", (100, 100), ground)
        ImageDraw.Draw(image).rectangle((15, 20, 80, 85), outline=ink, width=width)
        pixels = np.asarray(image)[:, :, None]
        assert find_sheet(pixels) is None
        assert (prepare(pixels, STROKES).native > 60).mean() > 0.05
