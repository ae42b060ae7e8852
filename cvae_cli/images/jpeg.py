"""Where the data of a JPEG end, by its markers (ITU-T T.81, annex B)."""

from __future__ import annotations

import re

_SCAN, _END = 0xDA, 0xD9
_BETWEEN_SCANS = frozenset([0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)])
"""Markers that can follow a scan, besides that of the end."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker within a scan. Others are data, or restart its decoding."""
_FEWEST_ZEROS = 16
"""From as many zeros on at the end they are not data but what a file was filled up with."""


def data_without_end(content: bytes) -> bytes | None:
    """A JPEG up to the end of its data where no marker says that they end; ``None`` where one does.

    Files have it that were cut off, whatever was put behind them afterwards: zeros, or another file.
    """
    if content.endswith(b"\xff\xd9"):
        return None
    at, in_scan = 2, False
    while at + 4 <= len(content):
        if in_scan:
            found = _MARKER.search(content, at)
            if found is None:
                break
            at = found.start()
            if content[at + 1] not in _BETWEEN_SCANS and content[at + 1] != _END:
                return content[:at]
        marker = content[at + 1]
        if content[at] != 0xFF or marker == _END:
            return None  # it is over, or no decoder knows either
        if marker == 0xFF:
            at += 1
            continue
        in_scan = in_scan or marker == _SCAN
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if not in_scan or _MARKER.match(content, len(content) - 2):
        return None
    data = content.rstrip(b"\0")
    # The last two may be data yet.
    return data + bytes(2) if len(content) - len(data) >= _FEWEST_ZEROS else content
