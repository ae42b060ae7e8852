"""Files with bytes changed at random: an image or a short reason, and not a word from a library."""

from __future__ import annotations

import random

import numpy as np
import pytest
from helpers import encoded
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images import decode

# pytest undoes the filter that the module sets for the process.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

VARIANTS = 250

NOISE = np.random.default_rng(0)
COLOUR = Image.fromarray(NOISE.integers(0, 256, (24, 20, 3), np.uint8))
DEEP = Image.fromarray(NOISE.integers(0, 65536, (24, 20), np.uint16))
FLOATS = Image.fromarray(NOISE.random((24, 20), np.float32))
KINDS = {
    **{kind: (COLOUR, kind, {}) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA")},
    "progressive JPEG": (COLOUR, "JPEG", {"progressive": True}),
    "palette PNG": (COLOUR.convert("P"), "PNG", {"transparency": 3}),
    "16-bit PNG": (DEEP, "PNG", {}),
    "animated PNG": (COLOUR, "PNG", {"save_all": True, "append_images": [COLOUR.rotate(90)]}),
    "PBM": (COLOUR.convert("1"), "PPM", {}),
    "16-bit TIFF": (DEEP, "TIFF", {}),
    "float TIFF": (FLOATS, "TIFF", {}),
    "bilevel TIFF": (COLOUR.convert("1"), "TIFF", {"compression": "group4"}),
    **{
        f"TIFF, {how}": (COLOUR, "TIFF", {"compression": how})
        for how in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
    },
}


def damaged(content: bytes, dice: random.Random) -> bytes:
    """With up to sixteen changes, most of them near the beginning."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 2, 4, 16))):
        at = dice.randrange(min(len(data), dice.choice((64, 512, len(data)))))
        change = dice.random()
        if change < 0.6:
            data[at] = dice.choice((0, 1, 128, 255, dice.randrange(256)))
        elif change < 0.75:
            del data[at : at + dice.randrange(1, 64)]
        elif change < 0.85:
            del data[max(at, 1) :]
        else:
            data[at:at] = dice.randbytes(dice.randrange(1, 9))
        if not data:
            return b"\0"
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_an_image_or_a_reason(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    image, file_format, options = KINDS[kind]
    content, dice = encoded(image, file_format, **options), random.Random(kind)
    reasons: set[str] = set()
    for _ in range(VARIANTS):
        try:
            decoded = decode.decode(damaged(content, dice), max_pixels=1_000_000)
        except ImageError as error:
            reasons.add(str(error))
        else:
            assert decoded.pixels.dtype == np.uint8
    assert reasons
    for reason in reasons:
        assert len(reason) < 200
        assert "literal" not in reason
        assert "Error" not in reason
    assert capfd.readouterr() == ("", "")
