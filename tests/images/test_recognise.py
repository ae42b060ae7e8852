from __future__ import annotations

import pytest
from helpers import encoded
from PIL import Image

from cvae_cli.images.recognise import may_be_image, name_of_other


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_pictures_of_the_supported_formats_may_be_images(kind: str) -> None:
    content = encoded(Image.new("RGB", (5, 5)), kind)
    assert may_be_image(content[:4])
    assert name_of_other(content) == ""


@pytest.mark.parametrize("head", [b"", b"\0\0\0\0", b"%PDF", b"PK\x03\x04", b"\x7fELF"])
def test_other_files_may_not(head: bytes) -> None:
    # "PK" begins like a PNM, but only large files are told by four bytes; decoding names it.
    assert may_be_image(head) is head.startswith(b"P")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported: HEIC image; convert it to PNG or JPEG first"),
        (b"\0\0\0\x1cftypisom\0\0\x02\0isomavif", "unsupported: AVIF image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video or audio file, not an image"),
        (b"%PDF-1.7\n", "unsupported: a PDF document"),
        (b"%!PS-Adobe-3.0", "unsupported: a PostScript file"),
        (b"8BPS\0\x01", "unsupported: a Photoshop document"),
        (b"\xff\x0a\x00", "unsupported: a JPEG XL image"),
        (b"\0\0\x01\0\x01\0", "unsupported: an icon"),
        (b"\x93NUMPY\x01\0", "unsupported: a NumPy array"),
        (b"PK\x03\x04\x14", "a ZIP archive, not an image; unpack it first"),
        (b"\x1f\x8b\x08", "a gzip file, not an image; unpack it first"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run git lfs pull"),
        (
            b"\xef\xbb\xbf\n <!DOCTYPE HTML><html>",
            "an HTML page, perhaps the error page of a failed download",
        ),
        (b"<svg xmlns='x'>", "unsupported: an SVG drawing"),
        (b"<?xml version='1.0'?>\n<svg>", "unsupported: an SVG drawing"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied", "an XML document, perhaps the error"),
        (b"\0\0\0\x18ftypheif\0\0\0\0zzzz", "unsupported: HEIC image"),
        (b"II*\0\x10\0\0\0CR\2\0", "unsupported: a Canon raw image"),
        (b"Rar!\x1a\x07\0", "a RAR archive, not an image; unpack it first"),
        (b"version https://hawser.github.com/spec/v1\noid sha256:0", "run git lfs pull"),
        (
            b"/annex/objects/MD5E-s12--abc.png\n",
            "a git-annex pointer, not the image itself; run git annex get",
        ),
        (b"../../.git/annex/objects/aa/bb/MD5E-s12--abc.png", "a git-annex pointer"),
        (b"<!-- a comment -->\n<!DOCTYPE HTML><HTML>", "an HTML page"),
        (b"<title>Not found</title><p>", "an HTML page"),
        ("<!DOCTYPE html><html>".encode("utf-16"), "an HTML page"),
        ("<html>".encode("utf-16-be"), "an HTML page"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML"><html>', "an HTML page"),
        (b"<!-- Created with Inkscape -->\n<svg xmlns='x'>", "unsupported: an SVG drawing"),
        (b"<?xml version='1.0'?><!-- a > b -->\n<!DOCTYPE svg PUBLIC 'x'>", "unsupported: an SVG drawing"),
        ("<svg xmlns='x'>".encode("utf-16"), "unsupported: an SVG drawing"),
        (b'{"error": "not found"}', "a JSON document, not an image"),
    ],
)
def test_what_else_a_file_is_has_a_name_and_a_remedy(content: bytes, says: str) -> None:
    assert says in name_of_other(content)


@pytest.mark.parametrize("content", [b"", b"just text", b"\0" * 100, b"{\xff\xfe"])
def test_what_is_unknown_has_none(content: bytes) -> None:
    assert name_of_other(content) == ""
