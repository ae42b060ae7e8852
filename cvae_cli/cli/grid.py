"""``cvae grid``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.blocks import print_rows
from cvae_cli.cli.console import (
    make_console,
    make_stdout_console,
    print_failure,
    verbosity,
    visible,
    warn_of_unshown,
)
from cvae_cli.cli.progress import ProgressDisplay
from cvae_cli.cli.signals import StopRequest
from cvae_cli.errors import ListStopped
from cvae_cli.outcomes import Report
from cvae_cli.storage import Location

if TYPE_CHECKING:
    from cvae_cli.images.grid import SheetRow


@click.command("grid", short_help="Make a contact sheet: one row per image, one column per class.")
@options.sources(required=False)
@options.null
@options.model
@click.option(
    "--out",
    type=options.FilePath(urls=True),
    metavar="SHEET.png",
    help="The picture to write, or its URL.",
)
@click.option(
    "--show",
    is_flag=True,
    help="Draw the rows into the terminal, on stdout; then no --out is needed.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 1000),
    default=25,
    show_default=True,
    help="Most images on the sheet; without SOURCE, the number of styles.",
)
@click.option(
    "--seed", type=options.SEED, default=0, show_default=True, help="Seed of the styles, without SOURCE."
)
@options.labels
@options.invert
@options.fit
@options.device
@options.precision
@options.check
@click.option("--overwrite", is_flag=True, help="Replace a file that cvae did not write.")
@click.pass_context
def command(
    ctx: click.Context, /, source: tuple[Location, ...], null: bool, show: bool, **asked: Any
) -> None:
    """Make a contact sheet of the images of SOURCE: one row per image, one column per class.

    The original comes first. The tile of its own class has a bright frame: it is the image's
    reconstruction. SOURCE is files, folders, or - for a list of paths on stdin. Without SOURCE the
    sheet shows samples from the model's prior, one style per row.
    """
    from cvae_cli.relabelling.sheet import SheetOptions, sheet

    if asked["out"] is None and not show:
        raise click.UsageError("name the picture to write with --out, or add --show.")
    console = make_console()
    drawn: list[tuple[tuple[str, ...], Sequence[SheetRow]]] = []
    stop = StopRequest()
    job = SheetOptions(
        sources=source,
        listing=options.listing(source, null=null, should_stop=stop),
        show=(lambda classes, rows: drawn.append((classes, rows))) if show else None,
        **asked,
    )
    report = Report()
    with stop, ProgressDisplay(console) as display, suppress(ListStopped):
        outcomes = sheet(job)
        warn_of_unshown(console, job.model)
        for outcome in outcomes:
            report.add(outcome)
            if outcome.status == "failed":
                print_failure(console, outcome.path, outcome.reason)
            elif outcome.status == "skipped" and verbosity() >= 0:
                console.print(f"passed over {visible(outcome.path)}: {outcome.reason}", markup=False)
            display.update("grid", report.total, job.rows, unit="images")
            if stop.signal:
                break
    if stop.signal:
        console.print("interrupted; no sheet was written.")
        ctx.exit(stop.exit_code)
    for classes, rows_drawn in drawn:
        # After the progress bar, which would write over it.
        print_rows(make_stdout_console(), classes, rows_drawn)
    if verbosity() >= 0 and job.out is not None:
        rows = f"{report.done} images" if report.total else f"{job.rows} styles from the prior"
        failed = f", {report.skipped} passed over" if report.skipped else ""
        failed += f", {report.failed} failed" if report.failed else ""
        console.print(f"{rows}{failed} -> {visible(str(job.out))}", markup=False)
    ctx.exit(report.exit_code)
