"""``cvae evaluate``."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.console import PLAIN_SECONDS, make_console, verbosity, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cvae_cli.outcomes import Evaluation, Figure

_SHARES = {"judge_accuracy", "effectiveness", "effectiveness_lowest_pair", "leakage", "precision", "recall"}
_GREY_LEVELS = {"composition", "composition_10", "reversibility"}
_NATS = {"elbo", "kl", "recon_loss"}
_MEANINGS = {
    "judge_accuracy": "judge's accuracy",
    "effectiveness": "effectiveness, higher is better",
    "effectiveness_lowest_pair": "  its lowest pair",
    "composition": "composition, 1 cycle, lower is better",
    "composition_10": "composition, 10 cycles",
    "reversibility": "reversibility, lower is better",
    "leakage": "leakage, lower is better",
    "realism": "realism (Frechet distance), lower is better",
    "diversity": "diversity, 1 is real",
    "precision": "precision, higher is better",
    "recall": "recall, higher is better",
    "bits_per_dimension": "bits per dimension",
}
_SHORT = ("judge_accuracy", "effectiveness", "effectiveness_lowest_pair", "realism", "diversity")
_SHOWN_CLASSES = 12
"""Up to so many classes the table of pairs fits on a terminal."""


@click.command("evaluate", short_help="Measure a model on real test images, with an independent judge.")
@options.model
@click.option("--data", metavar="NAME", help="The data set.  [default: the model's own]")
@options.data_dir
@click.option(
    "--judge",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A judge's .safetensors file; where there is none it is trained and kept there.  [default: the one "
    "shipped for the data set, else judge.safetensors beside the model]",
)
@click.option("--limit", type=click.IntRange(1), help="A quick look: so many test images, drawn at random.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write pictures too: the pairs as a heat map, the worst tiles, random ones, a style scatter.",
)
@click.option("--overwrite", is_flag=True, help="Replace pictures in DIR that cvae did not write.")
@options.device
@options.precision
@click.option(
    "--json", "as_json", is_flag=True, envvar="CVAE_EVALUATE_JSON", help="Print JSON instead of the table."
)
def command(as_json: bool, **asked: Any) -> None:
    """Measure whether the label decides, whether all else stays, and whether tiles look real.

    Every test image is drawn under each of its wrong labels. A judge, a classifier that took no
    part in training or choosing the model, reads what was drawn; its accuracy on real images
    stands first. The table goes to stdout.
    """
    console = make_console()
    if verbosity() >= 0:
        console.print(f"evaluating {asked['model']} ...", markup=False)
    from cvae_cli.engine.evaluate import EvaluateOptions, evaluate

    with EvaluateProgress(console) as progress:
        found = evaluate(EvaluateOptions(**asked), progress)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_figures(found)
        if len(found.classes) <= _SHOWN_CLASSES:
            _echo(_pairs_table(found))
    if verbosity() >= 0:
        console.print(
            f"{found.images} images, {found.tiles} tiles, {found.seconds:.0f} s on {found.device}",
            markup=False,
        )
        for picture in found.pictures:
            console.print(f"-> {visible(picture)}", markup=False)


def shown(figure: Figure, value: float) -> str:
    """A value in the unit of its metric."""
    if math.isnan(value):
        return "-"
    if figure.name in _SHARES:
        return f"{100 * value:.2f}%"
    if figure.name in _GREY_LEVELS:
        return f"{value:.2f} grey levels"
    if figure.name in _NATS:
        return f"{value:.2f} nats"
    return f"{value:.3f}"


def print_figures(found: Evaluation, *, short: bool = False) -> None:
    """Print the table of figures on stdout; in short only those that tell most."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{found.model} ({found.model_sha256[:12]}) on {found.images} test images of {found.data}: "
        f"{found.tiles} tiles, judge {found.judge} ({found.judge_sha256[:12]})",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("beside it")
    for figure in found.figures:
        if short and figure.name not in _SHORT and not figure.name.startswith("style_"):
            continue
        beside = ", ".join(f"{name} {shown(figure, value)}" for name, value in figure.beside.items())
        name = _MEANINGS.get(figure.name, figure.name)
        if figure.name.startswith("style_"):
            name = f"style kept, r of {figure.name.removeprefix('style_')}"
        table.add_row(name, shown(figure, figure.value), figure.note or beside)
    _echo(table)


def _echo(table: Table) -> None:
    """Print a table on stdout; where that is no terminal, as wide as it is, without padding."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _pairs_table(found: Evaluation) -> Table:
    """The source x target table."""
    from rich import box
    from rich.table import Table

    table = Table(
        title="% read as the target; rows: source, columns: target, in brackets: reconstructed",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("")
    for name in found.classes:
        table.add_column(visible(name)[:8], justify="right")
    for source, row in enumerate(found.pairs):
        cells = []
        for target, share in enumerate(row):
            text = "-" if math.isnan(share) else f"{100 * share:.1f}"
            cells.append(f"({text})" if source == target else text)
        table.add_row(visible(found.classes[source])[:12], *cells)
    return table


class EvaluateProgress:
    """A rich bar for each step of the work; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        """Of a console; nothing is shown yet."""
        self.console = console
        self.live = console.is_terminal and verbosity() >= 0
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        self.last = time.monotonic()

    def __enter__(self) -> EvaluateProgress:
        """Show the bar, where there is a terminal."""
        if self.live:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take it away."""
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if self.bar is not None:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            self.bar.update(self.tasks[what], completed=done, total=total)
        elif verbosity() >= 0 and time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            self.console.print(f"{what}: {done} of {total}", markup=False)
