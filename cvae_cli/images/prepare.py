"""Any image to the size, channels and polarity of a model, and what is shown back again.

An image that already has the model's native size is taken as it is, pixel for pixel; padding
to the network's canvas is the model's own business. Any other size is framed (kept whole,
cut to its content, or cropped to a square, as the model says), then resized with antialiasing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae_cli.errors import ImageError

Pixels = NDArray[np.uint8]
Invert = Literal["auto", "always", "never"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels; may reach outside of the image."""

SHOWN_SIDE = 112
"""Largest side, in pixels, at which the framed original is kept for the picture."""

_SMALL_PIXELS = 2_000_000

_INK_SHARE = 0.35
"""Content is what differs from the background by this share of the largest difference."""


@dataclass(frozen=True)
class Target:
    """What a model takes: the part of its spec that concerns images.

    Attributes:
        size: native height and width in pixels.
        channels: 1 or 3.
        light_on_dark: whether the model knows only bright strokes on black.
        fit: ``pad`` or ``crop``, for images of another size.
        margin: free share of the side around the content; see ``ModelSpec.margin``.
    """

    size: int
    channels: int
    light_on_dark: bool
    fit: str
    margin: float

    @property
    def enough(self) -> int:
        """Shorter side, in pixels, of a large photograph that has all of what the model can use.

        Content a sixteenth of it high still has the native size.
        """
        return max(16 * self.size, 4 * SHOWN_SIDE)


@dataclass(frozen=True)
class Prepared:
    """An image as the model takes it.

    Attributes:
        native: (C, H, W) uint8 at native size.
        shown: (H', W', C) uint8, the original in the same frame, in its own polarity.
        inverted: whether light and dark were exchanged; :meth:`undo` exchanges them back.
        steps: what was done, for the manifest.
    """

    native: Pixels
    shown: Pixels
    inverted: bool
    steps: dict[str, Any] = field(default_factory=dict)

    def undo(self, tile: Pixels) -> Pixels:
        """A tile that the model drew, (C, H, W) uint8, in the polarity of the original."""
        return 255 - tile if self.inverted else tile


def prepare(pixels: Pixels, target: Target, *, invert: Invert = "auto") -> Prepared:
    """Bring decoded pixels to what a model takes.

    Args:
        pixels: (H, W, 1 or 3) uint8.
        target: what the model takes.
        invert: for light-on-dark models, whether to exchange light and dark: ``auto`` does so
            where the border of the image is brighter than what stands out from it.

    Raises:
        ImageError: the image is blank where the model needs strokes.
    """
    height, width, channels = pixels.shape
    steps: dict[str, Any] = {}
    converted = _to_channels(pixels, target.channels)
    if channels != target.channels:
        steps["channels"] = [channels, target.channels]

    inverted = False
    if target.light_on_dark:
        inverted = invert == "always" or (invert == "auto" and _is_dark_on_light(converted))
        if inverted:
            steps["inverted"] = True

    if (height, width) == (target.size, target.size):
        native, shown = converted, converted
        if inverted:
            native = _whiten(native, steps)
    elif target.light_on_dark:
        native, shown = _frame_strokes(converted, target, inverted, steps)
    else:
        native, shown = _frame_picture(converted, target, steps)
    if inverted:
        native = 255 - native
    return Prepared(np.ascontiguousarray(native.transpose(2, 0, 1)), shown, inverted, steps)


def _to_channels(pixels: Pixels, channels: int) -> Pixels:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _border(pixels: Pixels) -> NDArray[np.float64]:
    """The background: the median of the outermost pixels, per channel."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.median(edge, axis=0), dtype=np.float64)


def _is_dark_on_light(pixels: Pixels) -> bool:
    background = float(_border(pixels).mean())
    # Strokes lie on one side of their background: look at which side reaches further.
    above, below = float(pixels.max()) - background, background - float(pixels.min())
    return below > above


def _whiten(pixels: Pixels, steps: dict[str, Any]) -> Pixels:
    """Paper is not pure white: bring it there, and the strokes to black, before inverting.

    A picture that is pure white on its border and has pure black in it is left as it is.
    """
    paper, darkest = float(_border(pixels).mean()), float(pixels.min())
    if paper - darkest < 16.0 or (paper >= 255.0 and darkest <= 0.0):
        return pixels
    steps["contrast"] = round(255.0 / (paper - darkest), 2)
    # A tenth of the way to the strokes is still paper: its grain must not become ghosts.
    paper -= 0.1 * (paper - darkest) if paper < 255.0 else 0.0
    stretched = (pixels.astype(np.float64) - darkest) * (255.0 / (paper - darkest))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)


def _frame_strokes(
    pixels: Pixels, target: Target, inverted: bool, steps: dict[str, Any]
) -> tuple[Pixels, Pixels]:
    """Cut strokes out of their paper, centre them, and give them the training set's contrast.

    MNIST was made so (LeCun et al. 1998): the digit's box scaled to 20 pixels, its centre of
    mass in the middle of 28.
    """
    height, width, _ = pixels.shape
    # Found on a small copy: the box need not be exact, and a phone's photo is large.
    # A long strip is made smaller yet, for what follows takes some fifty bytes a pixel.
    factor = max(1, round(min(height, width) / 256), math.isqrt(height * width // _SMALL_PIXELS))
    small = np.asarray(
        Image.fromarray(pixels[:, :, 0]).reduce(factor) if factor > 1 else pixels[:, :, 0]
    ).astype(np.float64)
    background = _local_background(small)
    ink = np.clip(background - small if inverted else small - background, 0.0, None)
    # Not the largest value, which may be a speck, and no quantile either: a small digit on a large
    # page is a few pixels of this copy.
    speck = max(1, min(8, ink.size // 100))
    peak = float(np.partition(ink, -speck, axis=None)[-speck])
    if peak < 16.0:
        raise ImageError("blank: nothing stands out from the background")
    mask = ink >= _INK_SHARE * peak
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = int(rows[0]) * factor, min(height, (int(rows[-1]) + 1) * factor)
    left, right = int(columns[0]) * factor, min(width, (int(columns[-1]) + 1) * factor)

    weight = np.where(mask, ink, 0.0)
    centre_y = (float((weight.sum(axis=1) * np.arange(len(weight))).sum() / weight.sum()) + 0.5) * factor
    centre_x = (float((weight.sum(axis=0) * np.arange(weight.shape[1])).sum() / weight.sum()) + 0.5) * factor
    side = max(bottom - top, right - left) / (1.0 - 2.0 * target.margin)
    # Nothing of the content may fall outside, however lopsided its mass.
    side = max(
        side,
        *(2.0 * reach for reach in (centre_y - top, bottom - centre_y, centre_x - left, right - centre_x)),
    )
    box = (centre_x - side / 2, centre_y - side / 2, centre_x + side / 2, centre_y + side / 2)

    level = np.median(background)
    shrunk, inner, region = _shrink(pixels, box)
    shown = _crop_resize(shrunk, inner, max(target.size, min(SHOWN_SIDE, round(side))), level)
    # The strokes alone, on a flat ground: uneven light on paper must not become strokes.
    full = shrunk[:, :, 0].astype(np.float32)
    ground = Image.fromarray(background.astype(np.float32))
    across, down = ground.width / width, ground.height / height
    part = (region[0] * across, region[1] * down, region[2] * across, region[3] * down)
    flat = np.asarray(ground.resize(full.shape[::-1], Image.Resampling.BILINEAR, box=part))
    strokes = np.clip(flat - full if inverted else full - flat, 0.0, None)
    cut = _crop_resize_float(strokes, inner, target.size)
    bright = float(np.quantile(cut, 0.98))
    noise = 0.12 * bright
    native = np.clip((cut - noise) * (255.0 / max(bright - noise, 1e-6)), 0.0, 255.0)
    native_u8 = np.rint(native).astype(np.uint8)[:, :, None]
    steps["cut"] = [round(float(edge)) for edge in box]
    steps["resized"] = [target.size, target.size]
    steps["contrast"] = round(255.0 / max(bright - noise, 1e-6), 2)
    return (255 - native_u8 if inverted else native_u8), shown


def _local_background(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A plane through the border: paper is rarely lit evenly from one side to the other."""
    height, width = values.shape
    band = max(1, min(height, width) // 16)
    edge = np.zeros(values.shape, dtype=bool)
    edge[:band], edge[-band:], edge[:, :band], edge[:, -band:] = True, True, True, True
    level = np.median(values[edge])
    # Strokes that touch the border are not background.
    near = edge & (np.abs(values - level) <= max(24.0, 1.5 * float(np.std(values[edge]))))
    y, x = np.nonzero(near)
    if len(y) < 12:
        return np.full(values.shape, level)
    terms = np.stack([np.ones(len(y)), y, x])  # (3, P)
    # By the normal equations, with the least norm where all of it is one line.
    plane, *_ = np.linalg.lstsq(terms @ terms.T, terms @ values[near], rcond=None)
    fitted = plane[0] + plane[1] * np.arange(height)[:, None] + plane[2] * np.arange(width)
    return np.clip(fitted, 0.0, 255.0)


def _frame_picture(pixels: Pixels, target: Target, steps: dict[str, Any]) -> tuple[Pixels, Pixels]:
    height, width, _ = pixels.shape
    side = min(height, width) if target.fit == "crop" else max(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    steps["fit"] = target.fit
    steps["cut"] = [round(edge) for edge in box]
    steps["resized"] = [target.size, target.size]
    level = _border(pixels)
    shrunk, inner, _ = _shrink(pixels, box)
    native = _crop_resize(shrunk, inner, target.size, level)
    shown = _crop_resize(shrunk, inner, max(target.size, min(SHOWN_SIDE, side)), level)
    return native, shown


def _shrink(pixels: Pixels, box: Box) -> tuple[Pixels, Box, Box]:
    """Cut out and reduce what the box needs, so that time and memory do not follow the image's size.

    Averaging whole blocks first and resizing with antialiasing after gives what antialiasing alone
    would, as long as enough pixels are left; and a box around a picture of 1x30,000 pixels stays
    affordable.

    Returns:
        The pixels, the box within them, and the part of the image that they were.
    """
    height, width, channels = pixels.shape
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    region = (float(left), float(top), float(right), float(bottom))
    pixels = pixels[top:bottom, left:right]
    factor = int((box[2] - box[0]) // (4 * SHOWN_SIDE))
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
