"""What a file is, by its first bytes: a supported image, or something else that can be named."""

from __future__ import annotations

import re

SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM", b"P")
"""What files of the supported formats begin with. (A bitmap without its file header, ``DIB``, has no
signature, and is never large.)"""

_CONVERT = "convert it to PNG or JPEG first"
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"heif": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "Canon raw",
}  # fmt: skip
"""Pictures in the ISO base media format, by the brand of the file."""
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"DDS ", "a DDS texture"),
    (b"\0\0\x01\0", "an icon"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"FUJIFILM", "a Fujifilm raw image"),
    (b"P7\n", "a PAM image"),
    (b"gimp xcf", "a GIMP image"),
    (b"II*\0\x10\0\0\0CR", "a Canon raw image"),
    (b"II\x1a\0\0\0HEAPCCDR", "a Canon raw image"),
    (b"IIRO", "an Olympus raw image"),
    (b"IIU\0", "a Panasonic raw image"),
)
_ARCHIVES = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
)
_LFS = (b"version https://git-lfs.github.com/spec", b"version https://hawser.github.com/spec")
_ANNEX = re.compile(rb"(?:(?:\.\./)*\.git)?/annex/objects/")
_HTML = (
    *(b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<meta", b"<script", b"<style", b"<table"),
    *(b"<div", b"<p>", b"<h1", b"<center", b"<pre"),
)


def may_be_image(head: bytes) -> bool:
    """Whether these first bytes can be those of a supported image format."""
    return head.startswith(SIGNATURES)


def name_of_other(content: bytes) -> str:
    """What a file that is no supported image is, and what to do about it; empty where that is unknown."""
    head = content[:4096]
    if head.startswith(_LFS):
        return "a Git LFS pointer, not the image itself; run git lfs pull"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), 48), 4))]
        known = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
        return f"unsupported: {known} image; {_CONVERT}" if known else "a video or audio file, not an image"
    for signature, name in _OTHERS:
        if head.startswith(signature):
            return f"unsupported: {name}; {_CONVERT}"
    for signature, name in _ARCHIVES:
        if head.startswith(signature):
            return f"{name}, not an image; unpack it first"
    return _name_of_text(head)


def _name_of_text(head: bytes) -> str:
    """As :func:`name_of_other`, of markup and other text."""
    if _ANNEX.match(head):
        return "a git-annex pointer, not the image itself; run git annex get"
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")):
        order = "utf-16-be" if head.startswith((b"\xfe\xff", b"\0<")) else "utf-16-le"
        head = head[: len(head) // 2 * 2].decode(order, "replace").lstrip("\ufeff").encode()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_xml = text.startswith(b"<?xml")
    # What stands ahead of the first element says nothing of what it is.
    start = re.sub(rb"^(?:\s|<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z))+", b"", text, flags=re.DOTALL)
    if start.startswith(_HTML):
        return "an HTML page, perhaps the error page of a failed download; download the image again"
    if start.startswith((b"<svg", b"<!doctype svg")) or (is_xml and b"<svg" in text):
        return f"unsupported: an SVG drawing; {_CONVERT}"
    if is_xml or start.startswith(b"<error"):
        return "an XML document, perhaps the error of a failed download; download the image again"
    if text.startswith((b"{", b"[")) and text.isascii():
        return "a JSON document, not an image"
    return ""
