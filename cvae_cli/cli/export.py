"""``cvae export``."""

from __future__ import annotations

from pathlib import Path

import click

from cvae_cli import storage
from cvae_cli.cli import completion, options
from cvae_cli.cli.console import make_console, verbosity, visible


@click.command("export", short_help="Write a model as ONNX, to run it without cvae.")
@click.argument("model", type=options.Text(), metavar="NAME|FILE", shell_complete=completion.models)
@click.option(
    "--format",
    type=click.Choice(["onnx", "pt2"]),
    help="onnx, which needs the extra [export], or the archive of torch.export.  [default: by the suffix of "
    "FILE]",
)
@click.option("--out", type=options.FilePath(), required=True, metavar="FILE", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def command(model: str, format: str | None, out: Path, *, overwrite: bool) -> None:
    """Write a model as a graph that runs without cvae, in fp32: images, labels and targets in, tiles out.

    A second graph beside it, FILE with .classifier before its suffix, reads the labels of images.
    """
    from cvae_cli.inference.export import export
    from cvae_cli.model import registry

    console = make_console()
    if verbosity() >= 0:
        console.print(f"tracing {visible(storage.shown(model))} ...", markup=False)
    for file in export(registry.resolve(model), out, format=format, overwrite=overwrite):
        if verbosity() >= 0:
            size = (storage.size_of(file) or 0) / 1e6
            console.print(f"{size:.1f} MB -> {visible(str(file))}", markup=False)
