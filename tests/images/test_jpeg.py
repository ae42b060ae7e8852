from __future__ import annotations

import numpy as np
import pytest
from helpers import encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvae_cli.errors import ImageError
from cvae_cli.images.decode import decode
from cvae_cli.images.jpeg import data_without_end

y, x = np.mgrid[0:60, 0:50]
PICTURE = Image.fromarray(np.stack([x * 5, y * 4, x + y], axis=2).astype(np.uint8))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
KINDS = {
    "plain": encoded(PICTURE, "JPEG"),
    "grey": encoded(PICTURE.convert("L"), "JPEG"),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "restarts": encoded(PICTURE, "JPEG", restart_marker_blocks=2),
}
BEHIND = {
    "nothing": b"",
    "half a marker": b"\xff",
    "zeros": bytes(64),
    "many zeros": bytes(70_000),
    "a cut-off JPEG": b"\xff\xd8\xff\xe0garbage" + bytes(300),
    "an odd marker": b"\xff\x01text",
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_end_is_noted_whatever_is_behind_it(kind: str, behind: str) -> None:
    whole = KINDS[kind]
    decoded = decode(whole[:-2] + BEHIND[behind])
    assert decoded.preprocessing.missing_end
    assert np.array_equal(decoded.pixels, decode(whole).pixels)


@pytest.mark.parametrize("behind", BEHIND)
def test_what_was_cut_off_and_filled_up_is_damaged(behind: str) -> None:
    with pytest.raises(ImageError, match="cut off"):
        decode(encoded(NOISE, "JPEG")[:-400] + BEHIND[behind])


@pytest.mark.parametrize(
    "behind", [b"", b"\n", bytes(64), b"\xff\xda\0\x08", b"ftypmp42" + bytes(range(256))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_end_is_an_end_whatever_is_behind_it(kind: str, behind: bytes) -> None:
    content = KINDS[kind] + behind
    assert data_without_end(content) is None
    assert not decode(content).preprocessing.missing_end


def test_the_end_of_a_preview_is_not_that_of_the_picture() -> None:
    preview = b"Exif\0\0" + KINDS["grey"]
    content = encoded(PICTURE, "JPEG", exif=preview)
    assert data_without_end(content) is None
    assert data_without_end(content[:-2]) == content[:-2]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    for head in (b"\xff\xd8", KINDS["grey"][:-40]):
        data = data_without_end(head + content)
        assert data is None or len(data) <= len(head + content)
