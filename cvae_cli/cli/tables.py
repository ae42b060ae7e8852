"""Tables for people, on stdout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from cvae_cli.cli.console import visible

if TYPE_CHECKING:
    from rich.table import Table

    from cvae_cli.evaluation.report import Evaluation

MAX_PAIR_CLASSES = 12
"""Up to this many classes the table of pairs fits on a terminal."""


def print_metrics(found: Evaluation, *, short: bool = False) -> None:
    """Print the metrics of an evaluation; in short only those that say most."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = (
        f"{found.model} ({found.model_sha256[:12]}) on {found.images} test images of {found.data}: "
        f"{found.tiles} tiles, judge {found.judge} ({found.judge_sha256[:12]})"
    )
    table = Table(
        title=Text(visible(title)),  # not markup, whatever the names
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("for comparison")
    for metric in found.metrics:
        if short and not metric.is_key:
            continue
        references = ", ".join(f"{name} {metric.format(value)}" for name, value in metric.references.items())
        title = ", ".join(filter(None, (metric.title, metric.better.value)))
        # Text, since the names of classes are in some of them, and no markup.
        cells = (title, metric.format(), metric.note or references)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    echo_table(table)


def print_pairs(found: Evaluation) -> None:
    """Print, for each pair of classes, in how many tiles the judge recognises the target."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="% recognised as the target; rows: source, columns: target, in brackets: reconstruction",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("")
    for name in found.classes:
        table.add_column(Text(visible(name)[:8]), justify="right")
    for source, row in enumerate(found.pairs):
        cells = []
        for target, share in enumerate(row):
            text = "-" if math.isnan(share) else f"{100 * share:.1f}"
            cells.append(f"({text})" if source == target else text)
        table.add_row(Text(visible(found.classes[source])[:12]), *cells)
    echo_table(table)


def echo_table(table: Table) -> None:
    """Print a table on stdout; if that is not a terminal, in full width and without padding."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 200
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def echo_columns(rows: list[list[str]]) -> None:
    """Print rows in plain columns, for people and for cut and awk alike."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
