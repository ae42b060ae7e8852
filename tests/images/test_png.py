from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cvae_cli.images import png
from cvae_cli.images.png import encode_png, provenance_in, read_provenance

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def test_png_and_provenance_come_back(tmp_path: Path) -> None:
    provenance = {"source": "ümläut \udcff\n.png", "n": 3, "long": "x" * 5000}
    file = tmp_path / "a.png"
    file.write_bytes(encode_png(PIXELS, provenance))
    assert read_provenance(file) == provenance
    assert provenance_in(io.BytesIO(file.read_bytes())) == provenance
    with Image.open(file) as image:
        assert np.array_equal(np.asarray(image), PIXELS)
        assert json.loads(image.text["cvae"]) == provenance


def test_one_and_three_channels() -> None:
    for shape in ((1, 1), (1, 5, 3), (8, 8, 1), (8, 8, 3)):
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


def test_where_there_is_no_isal_zlib_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8).repeat(4, axis=0)
    first = encode_png(pixels, {"some": "provenance"})
    monkeypatch.setattr(png, "isal_zlib", None)
    second = encode_png(pixels, {"some": "provenance"})
    for content in (first, second):
        assert (np.asarray(Image.open(io.BytesIO(content))) == pixels).all()
        assert provenance_in(io.BytesIO(content)) == {"some": "provenance"}


def test_damaged_provenance_does_not_count(tmp_path: Path) -> None:
    content = encode_png(PIXELS, {"fingerprint": "abc"})
    file = tmp_path / "a.png"
    file.write_bytes(content.replace(b"abc", b"abd"))
    assert read_provenance(file) is None


def test_provenance_of_another_tool_is_not_ours() -> None:
    stream = io.BytesIO()
    information = PngInfo()
    information.add_text("cvae", "[1, 2]")  # JSON, but no object
    information.add_text("Author", "somebody")
    Image.fromarray(PIXELS).save(stream, "PNG", pnginfo=information)
    assert provenance_in(io.BytesIO(stream.getvalue())) is None
    deep = encode_png(PIXELS, {}).replace(b"{}", b"[]")
    assert provenance_in(io.BytesIO(deep)) is None
