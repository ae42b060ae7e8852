"""``cvae grid``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.console import ImageProgress, make_console, print_failure, verbosity
from cvae_cli.outcomes import Report


@click.command("grid", short_help="Make one contact sheet: a row an image, a column a class.")
@options.sources(required=False)
@options.model
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="SHEET.png",
    help="The picture to write.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 1000),
    default=25,
    show_default=True,
    help="At most so many images; without SOURCE, so many styles.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the styles, without SOURCE.")
@options.labels
@options.invert
@options.device
@options.precision
@options.check
@click.option("--overwrite", is_flag=True, help="Replace a file that cvae did not write.")
@click.pass_context
def command(ctx: click.Context, /, source: tuple[Path, ...], **asked: Any) -> None:
    """Make one contact sheet of the images of SOURCE: a row an image, a column a class.

    The original comes first; the frame of its own class is bright, and what stands there is its
    reconstruction. SOURCE is files, folders, or - for a list of paths on stdin. Without SOURCE
    the sheet shows samples from the model's prior, one style a row.
    """
    from cvae_cli.engine.sheet import SheetOptions, sheet

    console = make_console()
    job = SheetOptions(sources=source, listing=options.listing(source), **asked)
    report = Report()
    with ImageProgress(console, "grid", total=job.rows) as progress:
        for outcome in sheet(job):
            report.add(outcome)
            if outcome.status == "failed":
                print_failure(console, outcome.path, outcome.reason)
            progress.update(report)
    if verbosity() >= 0:
        rows = f"{report.done} images" if report.total else f"{job.rows} styles from the prior"
        failed = f", {report.failed} failed" if report.failed else ""
        console.print(f"{rows}{failed} -> {job.out}", markup=False)
    ctx.exit(report.exit_code)
