"""The few tags of a TIFF, or of EXIF data, that decide how its pixels are to be read.

Pillow reads them too, but fails on the whole when a tag that nobody needs is broken, walks all pages to
count them, and misreads some sample formats. TIFF 6.0 (Adobe 1992), section 2; BigTIFF alike.
"""

from __future__ import annotations

import re
import struct

from PIL import ImageFile

ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 258, 262, 277, 284, 339
_WHITE_IS_ZERO = 0
_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_FORMATS = {1: "unsigned", 2: "signed", 3: "float"}
_NATIVE_ORDER = {
    "I;16S": "I;16NS",
    "I;16BS": "I;16NS",
    "I;32S": "I;32NS",
    "I;32BS": "I;32NS",
    "F;32F": "F;32NF",
    "F;32BF": "F;32NF",
}
"""What Pillow takes samples for, and the same in the byte order of this machine."""
_MAX_VALUES = 16
_MAX_PAGES = 1_000_000
_UNREADABLE = (struct.error, ValueError, OverflowError)
"""What reading at an offset raises; the last for those of a BigTIFF that no file reaches."""

Tags = dict[int, tuple[int, ...]]
"""Values of the tags that hold whole numbers, by tag."""


def read_tags(data: bytes) -> Tags:
    """The whole-number tags of the first directory; those that cannot be read are left out.

    Args:
        data: a TIFF file, or what follows the word ``Exif`` and two zeros in EXIF data.
    """
    try:
        order, big, offset = _header(data)
        count, entry_at, entry_size = _directory(data, order, big, offset)
    except _UNREADABLE:
        return {}
    tags: Tags = {}
    for number in range(min(count, max(0, len(data) - entry_at) // entry_size)):
        try:
            tag, values = _entry(data, order, big, entry_at + number * entry_size)
        except _UNREADABLE:
            continue
        if values:
            tags.setdefault(tag, values)
    return tags


def count_pages(data: bytes) -> int:
    """How many pages a TIFF has, as far as its chain of directories can be followed."""
    seen: set[int] = set()
    try:
        order, big, offset = _header(data)
        while offset and offset not in seen and len(seen) < _MAX_PAGES:
            count, entry_at, entry_size = _directory(data, order, big, offset)
            seen.add(offset)
            (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, entry_at + count * entry_size)
    except _UNREADABLE:
        pass
    return max(1, len(seen))


def orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 to 8; 1 where there is none or it cannot be read."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    value = read_tags(exif).get(ORIENTATION, (1,))[0]
    return value if value in range(1, 9) else 1


def orientation_in_xmp(xmp: bytes) -> int:
    """The orientation in XMP metadata, as :func:`orientation`."""
    found = re.search(rb"""tiff:Orientation(?:>|\s*=\s*["'])\s*([1-8])\b""", xmp)
    return int(found[1]) if found else 1


def unsupported_samples(tags: Tags) -> str:
    """Why Pillow would misread the samples of a TIFF, or an empty string."""
    bits, samples = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, (1,))[0]
    if bits > 8 and samples > 1 and tags.get(_PLANAR, (1,))[0] == 2:
        return f"{bits}-bit samples in separate planes"
    if samples == 2 and tags.get(_PLANAR, (1,))[0] == 2:
        return "grey and transparency in separate planes"
    if bits == 8 and 2 in tags.get(_FORMAT, (1,)):
        return "signed 8-bit samples"
    return ""


def correct_byte_order(image: ImageFile.ImageFile) -> None:
    """Let Pillow read the samples of an open TIFF in the order in which it gets them.

    Compressed ones come out of libtiff in the order of this machine, but Pillow knows that of unsigned
    samples only: signed and float ones of a big-endian file it would swap again.
    """
    image.tile = [
        tile._replace(args=(_NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
        else tile
        for tile in image.tile
    ]


def one_plane(content: bytes) -> bytes:
    """A TIFF of one sample said to be in a plane of its own, which Pillow refuses, as one that is not."""
    at = _place_of(content, _PLANAR)
    if at is None or read_tags(content).get(_SAMPLES, (1,))[0] != 1:
        return content
    order = "<H" if content[:2] == b"II" else ">H"
    if struct.unpack_from(order, content, at)[0] != 2:
        return content
    return content[:at] + struct.pack(order, 1) + content[at + 2 :]


def is_white_zero(tags: Tags) -> bool:
    """Whether zero stands for white, which Pillow passes over where samples have more than 8 bits."""
    return tags.get(_PHOTOMETRIC, (1,))[0] == _WHITE_IS_ZERO and max(tags.get(_BITS, (1,))) > 8


def is_unsigned(tags: Tags) -> bool:
    """Whether samples are unsigned, which Pillow passes over where they have 32 bits."""
    return tags.get(_FORMAT, (1,))[0] == 1


def describe_samples(tags: Tags) -> str:
    """Samples in a few words, for a message."""
    bits, kind = max(tags.get(_BITS, (1,))), _FORMATS.get(tags.get(_FORMAT, (1,))[0], "unknown")
    count = tags.get(_SAMPLES, (1,))[0]
    return f"{count} {kind} {bits}-bit sample{'s' * (count != 1)} per pixel"


def _place_of(data: bytes, wanted: int) -> int | None:
    """The offset of the value of a short tag in the first directory; ``None`` where it has none."""
    try:
        order, big, offset = _header(data)
        count, entry_at, entry_size = _directory(data, order, big, offset)
        for at in range(entry_at, min(entry_at + count * entry_size, len(data) - entry_size + 1), entry_size):
            if struct.unpack_from(order + "HH", data, at) == (wanted, 3):
                return at + (12 if big else 8)
    except _UNREADABLE:
        pass
    return None


def _header(data: bytes) -> tuple[str, bool, int]:
    """Byte order, whether it is a BigTIFF, and the offset of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no TIFF header")
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic == 43:
        return order, True, struct.unpack_from(order + "Q", data, 8)[0]
    if magic != 42:
        raise ValueError("no TIFF header")
    return order, False, struct.unpack_from(order + "I", data, 4)[0]


def _directory(data: bytes, order: str, big: bool, offset: int) -> tuple[int, int, int]:
    """Number of entries, offset of the first and size of each."""
    if big:
        return struct.unpack_from(order + "Q", data, offset)[0] & 0xFFFF, offset + 8, 20
    return struct.unpack_from(order + "H", data, offset)[0], offset + 2, 12


def _entry(data: bytes, order: str, big: bool, at: int) -> tuple[int, tuple[int, ...]]:
    tag, kind = struct.unpack_from(order + "HH", data, at)
    (count,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + 4)
    if kind not in _SIZES or not count:
        return tag, ()
    count = min(count, _MAX_VALUES)
    place, inline = at + (12 if big else 8), 8 if big else 4
    if count * _SIZES[kind] > inline:
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
    return tag, struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", data, place)
