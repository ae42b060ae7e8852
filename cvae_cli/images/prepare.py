"""Any image to the size, channels and polarity of a model, and tiles back to those of the original.

An image that already has the model's native size is used as it is, pixel for pixel; padding to the
network's canvas is the model's own business. Any other size is framed (kept whole, cut to its content,
or cropped to a square, as the model says), then resized with antialiasing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae_cli.images.ink import border_level, find_ink, gain, is_dark_on_light, whiten
from cvae_cli.images.preprocessing import Preprocessing
from cvae_cli.images.sheets import WARNING, find_sheet

Pixels = NDArray[np.uint8]
Invert = Literal["auto", "always", "never"]
Fit = Literal["auto", "pad", "crop", "stretch"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels; may reach outside the image."""

_SAME_LIGHTNESS, _OTHER_COLOUR = 32, 48
"""Grey levels below and from which a picture has no contrast but in its colours."""

SHOWN_SIDE = 112
"""Largest side, in pixels, at which the framed original is kept for the picture."""
_DIMMED = 0.35
"""Brightness at which the picture shows what was cropped away."""


class InputSpec(Protocol):
    """What a model says about the images it takes; a ``ModelSpec`` is one."""

    @property
    def image_size(self) -> int:
        """Native height and width in pixels."""

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""

    @property
    def polarity(self) -> str:
        """``light-on-dark`` where the model knows only bright strokes on black; else ``any``."""

    @property
    def kind(self) -> str:
        """``strokes``, ``silhouettes`` or ``photographs``."""

    @property
    def fit(self) -> str:
        """``pad`` or ``crop``, for images of another size."""

    @property
    def margin(self) -> float:
        """Share of the side that is left free around the content."""


@dataclass(frozen=True)
class LoadedImage:
    """An image as a model takes it.

    Attributes:
        native: (C, H, W) uint8 at native size.
        shown: (H', W', C) uint8, the original in the same frame and in its own polarity; all of it, with what
            was cut away dimmed, where it was cropped.
        preprocessing: what was done to it.
        warnings: what makes it doubtful that the model sees what a person would.
    """

    native: Pixels
    shown: Pixels
    preprocessing: Preprocessing
    warnings: tuple[str, ...] = ()

    def restore(self, tile: Pixels) -> Pixels:
        """A tile that the model drew, (C, H, W) uint8, in the polarity of the original."""
        return 255 - tile if self.preprocessing.inverted else tile


def sufficient_side(spec: InputSpec) -> int:
    """Shorter side, in pixels, of a large photograph that holds all a model can use.

    Content a sixteenth of it high still has the native size.
    """
    return max(16 * spec.image_size, 4 * SHOWN_SIDE)


def prepare(
    pixels: Pixels,
    spec: InputSpec,
    *,
    invert: Invert = "auto",
    fit: Fit = "auto",
    decoding: Preprocessing = Preprocessing(),  # noqa: B008 - immutable
) -> LoadedImage:
    """Bring decoded pixels to what a model takes.

    Args:
        pixels: (H, W, 1 or 3) uint8.
        spec: what the model takes.
        invert: for light-on-dark models, whether to exchange light and dark: ``auto`` does so where
            the border of the image is brighter than what stands out from it.
        fit: for pictures that are not cut to their strokes, how other shapes become square: as for
            ``InputSpec.fit``, or ``stretch``, which distorts them; ``auto`` leaves it to the model.
        decoding: what decoding has already done.

    Raises:
        ImageError: the image is blank where the model needs strokes.
    """
    height, width, channels = pixels.shape
    size, done = spec.image_size, decoding
    doubts: tuple[str, ...] = ()
    is_native = (height, width) == (size, size)
    light_on_dark = spec.polarity == "light-on-dark"
    if channels != spec.channels:
        pixels = _to_channels(pixels, spec.channels, by_colour=light_on_dark and not is_native)
        done = replace(done, channels=(channels, spec.channels))
    if spec.kind == "strokes" and not is_native and (sheet := find_sheet(pixels)):
        if sheet.is_certain:
            pixels, done = sheet.cut_from(pixels), replace(done, sheet=sheet.box)
        else:
            doubts = (WARNING,)
    inverted = light_on_dark and (invert == "always" or (invert == "auto" and is_dark_on_light(pixels)))
    done = replace(done, inverted=inverted)
    if is_native:
        native, shown = pixels, pixels
        if inverted:
            native, contrast = whiten(native)
            done = replace(done, contrast=contrast)
    elif light_on_dark:
        native, shown, box, contrast, found = _frame_strokes(pixels, spec, inverted)
        doubts += found
        done = replace(done, cut=_whole(box), resized=(size, size), contrast=contrast)
    else:
        shape = spec.fit if fit == "auto" else fit
        native, shown, box = _frame_picture(pixels, spec.image_size, shape)
        done = replace(done, fit=shape, cut=_whole(box), resized=(size, size))
    if inverted:
        native = 255 - native
    if spec.kind != "strokes":
        doubts = ()
    return LoadedImage(np.ascontiguousarray(native.transpose(2, 0, 1)), shown, done, doubts)


def _whole(box: Box) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    return left, top, right, bottom


def _to_channels(pixels: Pixels, channels: int, *, by_colour: bool) -> Pixels:
    """Grey to RGB or back.

    Args:
        pixels: (H, W, 1 or 3) uint8.
        channels: of the result.
        by_colour: whether what is as light as its background is told from it by its colour.
    """
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    if by_colour and int(grey.max()) - int(grey.min()) < _SAME_LIGHTNESS:
        distance = np.abs(pixels.astype(np.int16) - border_level(pixels).astype(np.int16)).max(axis=2)
        if distance.max() >= _OTHER_COLOUR:
            grey = (255 - distance).astype(np.uint8)
    return grey[:, :, None]


def _frame_strokes(
    pixels: Pixels, spec: InputSpec, inverted: bool
) -> tuple[Pixels, Pixels, Box, float, tuple[str, ...]]:
    """Cut strokes out of their paper, centre them, and give them the training set's contrast.

    MNIST was made this way (LeCun et al. 1998): the digit's box scaled to 20 pixels, its centre of
    mass in the middle of 28.

    Returns:
        The native image, what is shown of the original, the box that was cut out, the factor by which
        the contrast grew, and warnings.
    """
    height, width, _ = pixels.shape
    ink = find_ink(pixels, dark=inverted)
    side = max(ink.bottom - ink.top, ink.right - ink.left) / (1.0 - 2.0 * spec.margin)
    # No content may fall outside, however lopsided its mass.
    reaches = (
        ink.centre_y - ink.top,
        ink.bottom - ink.centre_y,
        ink.centre_x - ink.left,
        ink.right - ink.centre_x,
    )
    side = max(side, *(2.0 * reach for reach in reaches))
    box = (
        ink.centre_x - side / 2,
        ink.centre_y - side / 2,
        ink.centre_x + side / 2,
        ink.centre_y + side / 2,
    )
    shrunk, inner, region = _shrink(pixels, box)
    shown_side = max(spec.image_size, min(SHOWN_SIDE, round(side)))
    shown = _crop_resize(shrunk, inner, shown_side, np.median(ink.background))
    # The strokes alone, on a flat background: uneven light on paper must not become strokes.
    full = shrunk[:, :, 0].astype(np.float32)
    background = Image.fromarray(ink.background.astype(np.float32))
    across, down = background.width / width, background.height / height
    part = (region[0] * across, region[1] * down, region[2] * across, region[3] * down)
    flat = np.asarray(background.resize(full.shape[::-1], Image.Resampling.BILINEAR, box=part))
    strokes = np.clip(flat - full if inverted else full - flat, 0.0, None)
    if ink.shaded:
        strokes = strokes * gain(flat)
    cut = _crop_resize_float(strokes, inner, spec.image_size)
    bright = float(np.quantile(cut, 0.98))
    noise = 0.12 * bright
    factor = 255.0 / max(bright - noise, 1e-6)
    native = np.rint(np.clip((cut - noise) * factor, 0.0, 255.0)).astype(np.uint8)[:, :, None]
    return (255 - native if inverted else native), shown, box, round(factor, 2), ink.warnings


def _frame_picture(pixels: Pixels, size: int, fit: str) -> tuple[Pixels, Pixels, Box]:
    """The central square of a photograph, the square around it, or all of it made square.

    Args:
        pixels: (H, W, C) uint8.
        size: native height and width.
        fit: ``crop``, ``pad`` or ``stretch``.

    Returns:
        The native image, what is shown of the original, and the box that was cut out.
    """
    height, width, _ = pixels.shape
    box = _square(pixels, min(height, width) if fit == "crop" else max(height, width))
    if fit == "stretch":
        box = (0.0, 0.0, float(width), float(height))
    level = border_level(pixels)
    shrunk, inner, _ = _shrink(pixels, box)
    native = _crop_resize(shrunk, inner, size, level)
    if fit == "crop" and height != width:
        return native, _show_cut(pixels, box, size), box
    shown_side = max(size, min(SHOWN_SIDE, max(height, width) if fit != "crop" else height))
    return native, _crop_resize(shrunk, inner, shown_side, level), box


def _square(pixels: Pixels, side: int) -> Box:
    """The square of a side that has its centre in the middle of the picture."""
    height, width, _ = pixels.shape
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _show_cut(pixels: Pixels, box: Box, size: int) -> Pixels:
    """All of a picture on black, what lies outside a box dimmed; (S, S, C) uint8, S at least ``size``."""
    around = _square(pixels, max(pixels.shape[:2]))
    shrunk, inner, _ = _shrink(pixels, around)
    longer = around[2] - around[0]
    side = max(size, min(SHOWN_SIDE, round(longer)))
    shown = _crop_resize(shrunk, inner, side, 0.0)
    left, top, right, bottom = (
        round((edge - start) / longer * side)
        for edge, start in zip(box, (around[0], around[1]) * 2, strict=True)
    )
    dimmed = np.rint(shown * _DIMMED).astype(np.uint8)
    dimmed[top:bottom, left:right] = shown[top:bottom, left:right]
    return dimmed


def _shrink(pixels: Pixels, box: Box) -> tuple[Pixels, Box, Box]:
    """Cut out and reduce what the box needs, so that time and memory do not grow with the image.

    Averaging whole blocks first and resizing with antialiasing afterwards gives what antialiasing
    alone would, as long as enough pixels are left; and a box around a picture of 1x30,000 pixels
    stays affordable.

    Returns:
        The pixels, the box within them, and the part of the image that they come from.
    """
    height, width, channels = pixels.shape
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    region = (float(left), float(top), float(right), float(bottom))
    pixels = pixels[top:bottom, left:right]
    factor = int(min(box[2] - box[0], box[3] - box[1]) // (4 * SHOWN_SIDE))
    if factor >= 2:
        flat = pixels[:, :, 0] if channels == 1 else pixels
        reduced = np.asarray(Image.fromarray(np.ascontiguousarray(flat)).reduce(factor))
        pixels = reduced.reshape(*reduced.shape[:2], channels)
    x1, y1, x2, y2 = box[0] - left, box[1] - top, box[2] - left, box[3] - top
    factor = max(1, factor)
    return pixels, (x1 / factor, y1 / factor, x2 / factor, y2 / factor), region


def _crop_resize(pixels: Pixels, box: Box, side: int, level: Any) -> Pixels:
    """Cut a square box, which may reach outside, and resize it with antialiasing."""
    levels = np.broadcast_to(np.asarray(level, dtype=np.float64), (pixels.shape[2],))
    planes = [
        _crop_resize_float(pixels[:, :, channel].astype(np.float32) - np.float32(level_), box, side) + level_
        for channel, level_ in enumerate(levels)
    ]
    return np.clip(np.rint(np.stack(planes, axis=2)), 0, 255).astype(np.uint8)


def _crop_resize_float(plane: NDArray[np.float32], box: Box, side: int) -> NDArray[np.float32]:
    """As :func:`_crop_resize` for one plane whose outside is 0."""
    height, width = plane.shape
    left, top = int(np.floor(min(box[0], 0.0))), int(np.floor(min(box[1], 0.0)))
    right, bottom = int(np.ceil(max(box[2], width))), int(np.ceil(max(box[3], height)))
    if (left, top, right, bottom) != (0, 0, width, height):
        plane = np.pad(plane, ((-top, bottom - height), (-left, right - width)))
    shifted = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    image = Image.fromarray(np.ascontiguousarray(plane))
    resized = image.resize((side, side), Image.Resampling.LANCZOS, box=shifted)
    return np.asarray(resized, dtype=np.float32)
