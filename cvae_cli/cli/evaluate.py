"""``cvae evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import completion, options
from cvae_cli.cli.console import make_console, verbosity, visible
from cvae_cli.cli.progress import ProgressDisplay
from cvae_cli.cli.tables import MAX_PAIR_CLASSES, print_metrics, print_pairs

if TYPE_CHECKING:
    from cvae_cli.data.pairs import Pairing
    from cvae_cli.evaluation.report import Evaluation
    from cvae_cli.gallery.report import Report


@click.command("evaluate", short_help="Measure a model on real test images, with an independent judge.")
@options.model
@click.option(
    "--data",
    type=options.Text(),
    metavar="NAME|FOLDER",
    shell_complete=completion.data_sets,
    help="The data set.  [default: the model's own]",
)
@options.data_dir
@click.option(
    "--judge",
    type=options.FilePath(dir_okay=False),
    metavar="FILE",
    help="The .safetensors file of a judge; if it does not exist, a judge is trained and kept there.  "
    "[default: the one shipped for the data set, else judge.safetensors beside the model]",
)
@click.option("--limit", type=click.IntRange(1), help="A quick look: this many test images, drawn at random.")
@click.option(
    "--out",
    type=options.FilePath(),
    metavar="DIR",
    help="Also write a page, DIR/index.html, with the tables and pictures: the pairs as a heat map, the "
    "worst tiles, median and random tiles, and scatter plots of the style.",
)
@click.option("--overwrite", is_flag=True, help="Replace pictures in DIR that cvae did not write.")
@options.device
@options.precision
@click.option(
    "--json", "as_json", is_flag=True, envvar="CVAE_EVALUATE_JSON", help="Print JSON instead of tables."
)
def command(as_json: bool, **asked: Any) -> None:
    """Measure whether the label decides, whether everything else stays, and whether tiles look real.

    Every test image is drawn under each of its wrong labels. A judge, a classifier that took no part
    in training or choosing the model, classifies the tiles; its accuracy on real images comes first.
    The tables go to stdout.
    """
    console = make_console()
    if verbosity() >= 0:
        console.print(f"evaluating {visible(asked['model'])} ...", markup=False)
    from cvae_cli.evaluation.run import EvaluateOptions, evaluate
    from cvae_cli.gallery.report import check_report, write_report

    def found_pairs(pairing: Pairing) -> None:
        if verbosity() >= 0:
            console.print(_describe(pairing), markup=False)

    if asked["out"] is not None:
        check_report(asked["out"], overwrite=asked["overwrite"])
    with ProgressDisplay(console) as display:
        found = evaluate(EvaluateOptions(**asked), display.update, found_pairs)
    page = None if asked["out"] is None else write_report(asked["out"], _as_report(found))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_metrics(found)
        if len(found.classes) <= MAX_PAIR_CLASSES:
            print_pairs(found)
    if verbosity() >= 0:
        console.print(
            f"{found.images} images, {found.tiles} tiles, {found.seconds:.0f} s on {found.device}",
            markup=False,
        )
        for written in (*found.pictures, *([] if page is None else [page])):
            console.print(f"-> {visible(str(written))}", markup=False)


_TITLES = {
    "heat-map.png": (
        "Pairs",
        "% of the tiles of each pair of classes that are recognised as the target.",
    ),
    "worst.png": (
        "The worst tiles",
        "Those whose target the judge finds least probable; originals on the left.",
    ),
    "median.png": ("Median tiles", "Of each class those in the middle, by how real the judge finds them."),
    "random.png": ("Random tiles", "Test images, each under one wrong label, both chosen at random."),
    "style.png": ("Style", "What should stay, measured on originals and on their tiles."),
}


def _as_report(found: Evaluation) -> Report:
    """An evaluation as its page shows it."""
    from cvae_cli.gallery.report import MeasuredRow, Picture, Report

    rows = tuple(
        MeasuredRow(
            metric.title,
            metric.better.value,
            metric.format(),
            metric.note,
            tuple((name, metric.format(value)) for name, value in metric.references.items()),
        )
        for metric in found.metrics
    )
    facts = {
        "data": found.data,
        "test images": f"{found.images:,}",
        "tiles": f"{found.tiles:,}",
        "model": found.model_sha256[:12],
        "judge": f"{found.judge} {found.judge_sha256[:12]}",
        "device": f"{found.device}, {found.precision}",
    }
    names = [Path(picture).name for picture in found.pictures]
    pictures = tuple(Picture(name, *_TITLES[name]) for name in names)
    return Report(
        found.model,
        tuple(facts.items()),
        rows,
        found.classes,
        found.pairs,
        pictures,
        found.ignores_label,
    )


def _describe(pairing: Pairing) -> str:
    """Whether tiles have a truth to be compared with, and why not."""
    shared = f"{pairing.images} test images share {pairing.names} names"
    if pairing.believed:
        return f"paired: {shared}; tiles are compared with what is really there"
    return (
        f"not paired: {shared}, but that may be chance: images of one name are more alike than others in "
        f"{pairing.nearer:.0%} of cases (by chance 50%)"
    )
