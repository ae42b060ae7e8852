"""The page of an evaluation: what was measured of a model, and what its tiles look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvae_cli import storage
from cvae_cli.gallery.templates import check_is_ours, render

PAGE = "index.html"
_LOW = 0.9
"""Share of a pair below which it stands out."""
_MOST_CLASSES = 30
"""Above which the pairs are only shown as a picture."""


@dataclass(frozen=True)
class MeasuredRow:
    """A line of the table.

    Attributes:
        title: of the metric.
        better: which direction is better; may be empty.
        value: with its unit.
        note: what the value is of; may be empty.
        references: what else gives which value, by name.
    """

    title: str
    better: str
    value: str
    note: str = ""
    references: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture beside the page.

    Attributes:
        name: of its file.
        title: above it.
        text: what it shows.
    """

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        model: its name.
        facts: what else identifies model, data and judge, in pairs.
        rows: of the table.
        classes: the K class names.
        pairs: (K, K): share of tiles of a class (row), drawn as another (column), that are recognised; nan
            where there is none.
        pictures: in the order in which they are shown.
        ignores_label: whether the label hardly changes what the model draws.
    """

    model: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[MeasuredRow, ...]
    classes: tuple[str, ...]
    pairs: Sequence[Sequence[float]]
    pictures: tuple[Picture, ...]
    ignores_label: bool = False


def check_report(folder: Path, *, overwrite: bool) -> None:
    """Raise :class:`cvae_cli.errors.OutputError` if the page would replace a file that cvae did not write."""
    check_is_ours(folder / PAGE, overwrite=overwrite)


def write_report(folder: Path, report: Report) -> Path:
    """Write the page of an evaluation into the folder of its pictures; the file.

    Raises:
        OutputError: it cannot be written.
    """
    pairs = [
        (name, [None if math.isnan(share) else (f"{100 * share:.1f}", share < _LOW) for share in row])
        for name, row in zip(report.classes, report.pairs, strict=True)
    ]
    text = render("report.html", report=report, pairs=pairs if len(pairs) <= _MOST_CLASSES else [])
    storage.write_file(folder / PAGE, text.encode("utf-8", "backslashreplace"))
    return folder / PAGE
