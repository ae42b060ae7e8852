"""What was done to an image before the model saw it, as the manifest and the pictures record it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """What decoding and preparing did; ``None`` or ``False`` for steps that were not needed.

    Attributes:
        size: width and height in pixels of the file.
        mode: Pillow's mode of the file, such as ``RGB`` or ``I;16``.
        frames: number of pictures in the file, if it holds several; the first one is used.
        orientation: the EXIF orientation that was applied, 2 to 8.
        reduced: 2, 4 or 8 if a JPEG was decoded at that fraction of its size.
        missing_end: whether a JPEG lacks nothing but its end marker.
        composited: ``on black``, ``on white`` or ``on its border colour``, for transparent images.
        scaled_from: the NumPy dtype of samples deeper than 8 bits, which were scaled to 8.
        bits: how many bits are used of 16 where those are fewer.
        stretched: the lowest and the highest sample of more than 8 bits, if they are close together and were
            stretched to just that.
        channels: number of channels before and after conversion.
        sheet: left, top, right and bottom in pixels of the sheet, if the picture shows more than that.
        inverted: whether light and dark were exchanged.
        fit: ``pad``, ``crop`` or ``stretch``, for photographs of another size.
        cut: left, top, right and bottom in pixels of what was cut out; it may reach
            outside the image.
        resized: width and height in pixels that it was resized to.
        contrast: factor by which the contrast was stretched.
    """

    size: tuple[int, int] | None = None
    mode: str | None = None
    frames: int | None = None
    orientation: int | None = None
    reduced: int | None = None
    missing_end: bool = False
    composited: str | None = None
    scaled_from: str | None = None
    bits: int | None = None
    stretched: tuple[float, float] | None = None
    channels: tuple[int, int] | None = None
    sheet: tuple[int, int, int, int] | None = None
    inverted: bool = False
    fit: str | None = None
    cut: tuple[int, int, int, int] | None = None
    resized: tuple[int, int] | None = None
    contrast: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The steps that were taken, as JSON takes them."""
        taken = {key: value for key, value in vars(self).items() if value is not None and value is not False}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in taken.items()}
