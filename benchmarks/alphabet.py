"""Draw alphabets from one glyph each, above what the typeface itself has: docs/images/letters.png.

    python benchmarks/letters.py data/letters
    python benchmarks/alphabet.py --data data/letters --out docs/images/letters.png

The typefaces are of families that the model was not trained on.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry

GLYPHS = (
    ("R", "EBGaramond12-Italic"),
    ("G", "Jura-Medium"),
    ("A", "RobotoCondensed-BoldItalic"),
    ("Q", "Courier Prime Bold Italic"),
)
"""The letter that each alphabet is drawn from, and its typeface; all under free licences."""
SCALE = 2
_GAP, _WIDE_GAP = 4, 44
_PAPER, _TEXT = 255, 90


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the letters")
    parser.add_argument("--model", default="letters")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    options = parser.parse_args()
    relabeller = Relabeller(registry.resolve(options.model), device="cpu", batch_size=1)
    classes = relabeller.spec.classes
    side = relabeller.spec.image_size * SCALE

    def tile(pixels: np.ndarray) -> Image.Image:
        # Black on white, as letters are printed.
        return Image.fromarray(255 - pixels).resize((side, side), Image.Resampling.LANCZOS)

    width = _WIDE_GAP + (len(classes) + 1) * (side + _GAP)
    block = 2 * (side + _GAP) + _WIDE_GAP
    sheet = Image.new("L", (width, len(GLYPHS) * block), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(str(resources.files("cvae_cli.fonts") / "DejaVuSans.ttf"), 18)
    for row, (letter, typeface) in enumerate(GLYPHS):
        true = np.stack(
            [np.asarray(Image.open(options.data / "test" / name / f"{typeface}.png")) for name in classes]
        )
        own = classes.index(letter)
        drawn = relabeller.draw(true[None, own : own + 1], np.array([own]), np.arange(len(classes))[None])[
            0, :, 0
        ]
        top = row * block
        draw.text((0, top), "one glyph", _TEXT, font)
        caption = f"the alphabet drawn from it; below, that of the typeface ({typeface})"
        draw.text((side + _WIDE_GAP, top), caption, _TEXT, font)
        top += 26
        sheet.paste(tile(true[own]), (0, top))
        for column in range(len(classes)):
            left = side + _WIDE_GAP + column * (side + _GAP)
            sheet.paste(tile(drawn[column]), (left, top))
            sheet.paste(tile(true[column]), (left, top + side + _GAP))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
