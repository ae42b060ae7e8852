"""What a judge is, in plain numbers and strings: written to JSON, read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cvae_cli.errors import WeightsError
from cvae_cli.model.spec import from_plain, to_plain


@dataclass(frozen=True)
class JudgeSpec:
    """Everything needed to build a judge and to feed it; travels with its weights.

    Attributes:
        classes: the class names, in the order of its outputs.
        image_size: height and width of its images in pixels.
        channels: 1 (grey) or 3 (RGB).
        widths: channels of the feature maps at 1/1, 1/2, 1/4 and so on of the image; the last is the
            number of features. With ``patch``: at 1/2, 1/4 and so on.
        patch: side in pixels of the patches that a :class:`~cvae_cli.model.whitened.WhitenedClassifier`
            begins with; 0 for plain convolutions.
        bank: images of each class in its bank of real images; empty for a judge without one, as older
            ones are.
        blemish_widths: channels of the feature maps of its network for blemishes; empty for none.
    """

    classes: tuple[str, ...]
    image_size: int
    channels: int
    widths: tuple[int, ...] = (32, 64, 128)
    patch: int = 0
    bank: tuple[int, ...] = ()
    blemish_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check every field. Raises :class:`WeightsError` naming the first that is wrong."""

        def whole(value: object, most: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

        if len(self.classes) < 2 or not all(isinstance(name, str) and name for name in self.classes):
            raise WeightsError("spec: classes must be at least two names")
        if len(set(self.classes)) != len(self.classes):
            raise WeightsError("spec: classes must be different names")
        if not whole(self.image_size, 4096) or not whole(self.channels, 3):
            raise WeightsError("spec: image_size or channels is not a whole number in its range")
        widths = self.widths
        if not isinstance(widths, tuple) or not 3 <= len(widths) <= 6:
            raise WeightsError("spec: widths must be three to six numbers")
        if not all(whole(width, 4096) for width in widths):
            raise WeightsError("spec: widths must be whole numbers from 1 to 4096")
        if self.patch and not whole(self.patch, 8):
            raise WeightsError("spec: patch must be a whole number from 0 to 8")
        bank, blemishes = self.bank, self.blemish_widths
        if not isinstance(bank, tuple) or len(bank) not in (0, len(self.classes)):
            raise WeightsError("spec: bank must be one number for each class, or none")
        if not all(count == 0 or whole(count, 65536) for count in bank):
            raise WeightsError("spec: bank must be whole numbers up to 65536")
        if not isinstance(blemishes, tuple) or not all(whole(width, 4096) for width in blemishes):
            raise WeightsError("spec: blemish_widths must be whole numbers from 1 to 4096")
        if blemishes and not bank:
            raise WeightsError("spec: blemish_widths needs a bank")

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it; without a bank, as judges had before there were any."""
        plain = to_plain(self)
        return {key: value for key, value in plain.items() if value != [] and (key, value) != ("patch", 0)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> JudgeSpec:
        """Read a spec from JSON. Raises :class:`WeightsError` on an unknown or bad field."""
        return from_plain(cls, raw)
