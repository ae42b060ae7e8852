from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.images.png import encode_png, read_provenance

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def test_png_and_provenance_come_back(tmp_path: Path) -> None:
    provenance = {"source": "ümläut \udcff\n.png", "n": 3, "long": "x" * 5000}
    file = tmp_path / "a.png"
    file.write_bytes(encode_png(PIXELS, provenance))
    assert read_provenance(file) == provenance
    with Image.open(file) as image:
        assert np.array_equal(np.asarray(image), PIXELS)
        assert json.loads(image.text["cvae"]) == provenance


def test_one_and_three_channels() -> None:
    for shape in ((8, 8, 1), (8, 8, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        decoded = np.asarray(Image.open(io.BytesIO(encode_png(pixels, {}))))
        assert np.array_equal(decoded.reshape(shape), pixels)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"]
)
def test_no_provenance(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    assert read_provenance(file) is None
    assert read_provenance(tmp_path / "gone.png") is None


def test_damaged_provenance_does_not_count(tmp_path: Path) -> None:
    content = encode_png(PIXELS, {"fingerprint": "abc"})
    file = tmp_path / "a.png"
    file.write_bytes(content.replace(b"abc", b"abd"))
    assert read_provenance(file) is None
