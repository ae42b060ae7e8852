"""Render the capital letters of every Latin typeface of this machine: the data set of the model ``letters``.

    python benchmarks/letters.py data/letters

writes ``data/letters/{train,test}/LETTER/TYPEFACE.png``, white on black. The file name is the typeface, so
the folders are paired: what ``A/Lato-Bold.png`` should look like as a B is ``B/Lato-Bold.png``. One family in
eight, by a hash of its name, is for testing. docs/models/letters.md names the packages with the typefaces.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIDE = 32
_POINTS, _PAPER = 84, 160
_MARGIN = 1.12
"""Side of what is cut out, relative to the tallest or widest letter of the typeface."""
_SUPERSAMPLING = 4
_TEST_SHARE = 8
_NOT_LETTERS = ("symbol", "dingbat", "math", "emoji", "arrow", "bats")
_MISSING = "\ufff0"
"""A character that no typeface has; a letter that looks the same is missing too."""


def draw(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """A letter in the middle of a large sheet."""
    sheet = Image.new("L", (_PAPER, _PAPER))
    ImageDraw.Draw(sheet).text((_PAPER // 2, _PAPER // 2), text, 255, font, anchor="mm")
    return sheet


def render(file: Path) -> dict[str, Image.Image] | None:
    """The letters of a typeface, all at one scale and on one line; ``None`` if it is not a Latin one."""
    if any(word in file.name.lower() for word in _NOT_LETTERS):
        return None
    try:
        font = ImageFont.truetype(str(file), _POINTS)
        sheets = {letter: draw(font, letter) for letter in LETTERS}
        missing = draw(font, _MISSING).tobytes()
    except (OSError, ValueError):
        return None
    boxes = {letter: sheet.getbbox() for letter, sheet in sheets.items()}
    looks = {sheet.tobytes() for sheet in sheets.values()}
    found = {letter: box for letter, box in boxes.items() if box is not None}
    if len(found) < len(LETTERS) or len(looks) < len(LETTERS) or missing in looks:
        return None
    top, bottom = min(box[1] for box in found.values()), max(box[3] for box in found.values())
    side = max(bottom - top, max(box[2] - box[0] for box in found.values()))
    if side > _PAPER - 10:
        return None
    cut = side * _MARGIN
    large = SIDE * _SUPERSAMPLING
    letters = {}
    for letter, sheet in sheets.items():
        centre = (found[letter][0] + found[letter][2]) / 2
        corner = (centre - cut / 2, (top + bottom) / 2 - cut / 2)
        step = cut / SIDE / _SUPERSAMPLING
        affine = (step, 0, corner[0], 0, step, corner[1])
        drawn = sheet.transform((large, large), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
        letters[letter] = drawn.resize((SIDE, SIDE), Image.Resampling.BOX)
    return letters


def part_of(file: Path) -> str:
    """``test`` for one family in eight, else ``train``."""
    family = file.stem.split("-")[0].split("_")[0].lower()
    digest = int(hashlib.sha256(family.encode()).hexdigest(), 16)
    return "test" if digest % _TEST_SHARE == 0 else "train"


def main() -> None:
    """Render them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="where they are")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for file in sorted(options.fonts.rglob("*.[to]tf")):
        letters = render(file)
        if letters is None:
            continue
        counts[part_of(file)] += 1
        for letter, image in letters.items():
            target = options.out / part_of(file) / letter / f"{file.stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            image.save(target)
    print(f"{counts['train']} typefaces to train on, {counts['test']} to test on -> {options.out}")


if __name__ == "__main__":
    main()
