"""``cvae gallery``."""

from __future__ import annotations

from typing import Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.console import make_console, verbosity, visible
from cvae_cli.cli.progress import ProgressDisplay


@click.command("gallery", short_help="Make a page for viewing a run in a browser.")
@click.argument("folder", metavar="DIR", type=options.FilePath(urls=True))
@click.option(
    "--out",
    type=options.FilePath(urls=True),
    metavar="PAGE.html",
    help="The page to write.  [default: DIR/index.html]",
)
@click.option(
    "--single-file",
    is_flag=True,
    help="Put the pictures into the page itself, to send it to somebody; for up to 500 images.",
)
@click.option("--overwrite", is_flag=True, help="Replace a page that cvae did not write.")
def command(**asked: Any) -> None:
    """Make a page for viewing a run of cvae relabel in a browser.

    DIR is the folder that was the --out of the run. The page shows each image with its tiles and what the
    judge says of them, failed images first; it has filters, and needs neither a server nor a network.
    """
    from cvae_cli.gallery.page import GalleryOptions, gallery

    console = make_console()
    with ProgressDisplay(console) as display:
        page, summary = gallery(
            GalleryOptions(**asked), lambda done: display.update("gallery", done, None, unit="images")
        )
    if verbosity() >= 0:
        console.print(f"{summary.images} images -> {visible(str(page))}", markup=False)
