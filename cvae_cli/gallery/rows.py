"""What the page shows of each image, in as few bytes as a hundred thousand of them ask for."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cvae_cli import storage
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.storage import Location

STATUSES = ("failed", "done", "skipped", "planned")
SOURCES = ("folder", "predict", "class", "csv", "provenance")
SURE = 0.9
"""Probability from which the judge is sure, as below the tiles in a grid."""
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_SHOWN_BY_BROWSERS = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".avif"))


@dataclass
class Summary:
    """Counts of a whole run.

    Attributes:
        images: how many there are.
        statuses: number of images by status.
        label_sources: number of images by where their label came from.
        labels: number of images by label.
        verdicts: number of judged tiles by verdict: ``s``, ``u``, ``o`` or ``w``.
        by_target: the same for each target.
        reasons: number of failed images by reason, without what differs from file to file.
        warned: number of images with a warning.
        left_out: number of tiles that were not written.
    """

    images: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    label_sources: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    by_target: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    warned: int = 0
    left_out: int = 0

    def add(self, outcome: ImageOutcome) -> None:
        """Count one image."""
        self.images += 1
        self.statuses[outcome.status] += 1
        if outcome.label is not None:
            self.labels[outcome.label] += 1
        if outcome.label_source is not None:
            self.label_sources[outcome.label_source] += 1
        if outcome.status == "failed":
            self.reasons[outcome.reason] += 1
        self.warned += bool(outcome.warnings)
        self.left_out += len(outcome.left_out)
        for target in outcome.targets:
            if (verdict := verdict_of(outcome, target)) != "-":
                self.verdicts[verdict] += 1
                self.by_target.setdefault(target, Counter())[verdict] += 1


def verdict_of(outcome: ImageOutcome, target: str) -> str:
    """What the judge says of a tile: ``s``ure, ``u``nsure, ``o``dd or ``w``rong; ``-`` without a judge."""
    if outcome.judged is None or target not in outcome.judged:
        return "-"
    if target in outcome.judged_wrong:
        return "w"
    if target in outcome.judged_odd:
        return "o"
    return "s" if outcome.judged[target] >= SURE else "u"


class Links:
    """Where originals are, as a page in an output folder may link to them."""

    def __init__(self, folder: Location) -> None:
        """For pages in a folder; only those on this machine lead to originals."""
        self._base = os.fspath(folder.absolute()) if isinstance(folder, Path) else None

    def to_original(self, outcome: ImageOutcome) -> tuple[str, bool]:
        """A relative URL, empty if there is no such file, and whether browsers show what it leads to."""
        if self._base is None or storage.is_url(outcome.source) or storage.is_url(outcome.path):
            return "", False
        below = outcome.source not in ("-", outcome.path)
        for source, path in ((outcome.source, outcome.path), (_raw(outcome.source), _raw(outcome.path))):
            file = Path(source) / path if below else Path(path)
            # The paths are relative to the folder that the run was started in, which may not be this one.
            if storage.is_file(file) and _may_be(file, outcome.version):
                relative = os.path.relpath(os.path.abspath(file), self._base)  # noqa: PTH100 - keeps links
                shown = file.suffix.lower() in _SHOWN_BY_BROWSERS
                return as_url(relative), shown
        return "", False


def _may_be(file: Path, version: str | None) -> bool:
    """Whether a file is as large as the one of a version; a copy of it has another time."""
    return version is None or version.partition("-")[0] == str(storage.size_of(file))


def as_url(path: str) -> str:
    """A path, relative and with ``/``, as a relative URL."""
    return quote(path.replace(os.sep, "/").encode("utf-8", "surrogateescape"), safe="/")


def url_of_output(path: str) -> str:
    """An output's path, as a manifest has it, as a relative URL."""
    return as_url(_raw(path))


def _raw(text: str) -> str:
    r"""A name with the bytes that a manifest has as ``\xff``; one that is written so stays."""
    if "\\x" not in text:
        return text
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    try:
        raw.decode()
    except UnicodeDecodeError:
        return os.fsdecode(raw)
    return text  # valid UTF-8 is never escaped


def row_of(outcome: ImageOutcome, classes: Sequence[str], links: Links) -> list[Any]:
    """An image as the page's script takes it.

    Status, path, source, reason, label, where that came from and its confidence in per mille (or -1); the
    URLs of the original and of the grid (or empty), and whether the original can be shown; warnings; then
    of each tile: index of its target, verdict (upper case if it was left out), the judge's probability in
    per mille and the realism in hundredths of a per cent (or -1), and its URL (or empty).
    """
    index = {name: number for number, name in enumerate(classes)}
    own = {output.target: output.path for output in outcome.outputs if output.role == "tile"}
    grid = next((output.path for output in outcome.outputs if output.role == "grid"), "")
    original, shown = links.to_original(outcome)
    tiles = []
    for target in outcome.targets:
        verdict = verdict_of(outcome, target)
        if target in outcome.left_out:
            verdict = verdict.upper()
        probability = (outcome.judged or {}).get(target)
        realism = (outcome.judged_realism or {}).get(target)
        tiles.append(
            [
                index.get(target, -1),
                verdict,
                -1 if probability is None else round(1000 * probability),
                -1 if realism is None else round(10_000 * realism),
                url_of_output(own[target]) if target in own else "",
            ]
        )
    return [
        STATUSES.index(outcome.status),
        outcome.path,
        outcome.source,
        outcome.reason,
        -1 if outcome.label is None else index.get(outcome.label, -1),
        -1 if outcome.label_source is None else SOURCES.index(outcome.label_source),
        -1 if outcome.confidence is None else round(1000 * outcome.confidence),
        original,
        url_of_output(grid) if grid else "",
        int(shown),
        list(outcome.warnings),
        tiles,
    ]


def as_script(value: Any) -> str:
    """JSON that may stand in a script, also in one within a page."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
