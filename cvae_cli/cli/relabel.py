"""``cvae relabel``."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import options
from cvae_cli.cli.console import (
    ImageProgress,
    count_in_background,
    make_console,
    print_failure,
    verbosity,
    visible,
)
from cvae_cli.outcomes import Report

if TYPE_CHECKING:
    from cvae_cli.engine.relabel import RelabelOptions


@click.command("relabel", short_help="Draw every image of folders under every other label.")
@options.sources(required=True)
@options.model
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write to; made if it is not there. Sub-folders mirror the source's.",
)
@options.labels
@click.option(
    "--targets",
    type=options.Names(),
    default="all",
    show_default=True,
    metavar="all|CLASS,...",
    help="The classes to draw. An image's own class is always left out.",
)
@click.option(
    "--write",
    type=click.Choice(["grid", "tiles", "both"]),
    default="grid",
    show_default=True,
    help="grid: an annotated picture an image, DIR/SUBFOLDER/STEM.png. tiles: each relabelled image alone, "
    "at the model's native size, DIR/tiles/CLASS/SUBFOLDER/STEM.png: a data set in class folders.",
)
@options.invert
@options.device
@options.precision
@click.option("--batch-size", type=click.IntRange(1, 65536), help="Images at once.  [default: by device]")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Threads that read, write and, on the CPU, draw.  [default: the processors]",
)
@options.check
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="With --write tiles: leave out tiles that the judge gives less than this probability (0-1) of "
    "being their target.",
)
@click.option("--overwrite", is_flag=True, help="Do finished images again; without it they are skipped.")
@click.option(
    "--shard",
    type=options.Shard(),
    help="Do the I-th of N parts; torchrun's and SLURM's variables are used where they are set.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="CVAE_RELABEL_JSON",
    help="Print a JSON object an image on stdout.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: tuple[Path, ...],
    shard: tuple[int, int] | None,
    fail_fast: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Draw every image of SOURCE under every label that is not its own.

    SOURCE is any number of image files and folders (walked recursively), or - for a list of
    paths on stdin. Finished images are skipped, so that a run that was stopped goes on where it
    was. DIR/manifest.jsonl tells what became of each image.
    """
    from cvae_cli.engine.relabel import RelabelOptions, find, relabel

    console = make_console()
    if shard is None and (shard := shard_from_environment(os.environ)) and verbosity() >= 0:
        console.print(f"shard {shard[0]}/{shard[1]}, from the environment of this process.")
    job = RelabelOptions(
        sources=source,
        listing=options.listing(source),
        shard=shard,
        **asked,
    )
    report = Report()
    stopped: list[int] = []
    with (
        _stops_noted(stopped),
        ImageProgress(console, "relabel") as progress,
        closing(relabel(job)) as outcomes,  # type: ignore[type-var]
    ):
        if progress.live and job.listing is None:
            count_in_background(lambda: sum(1 for _ in find(job)), progress.set_total)
        for outcome in outcomes:
            report.add(outcome)
            if as_json:
                click.echo(json.dumps(outcome.to_dict()))
            elif outcome.status == "planned":
                for name in outcome.outputs:
                    click.echo(os.fsencode(job.out / name))  # names need not be valid UTF-8
            if outcome.status == "failed":
                print_failure(console, outcome.path, outcome.reason)
            elif verbosity() >= 1:
                console.print(
                    f"{outcome.status} {visible(outcome.path)}: {outcome.label} ({outcome.label_source})",
                    markup=False,
                )
            progress.update(report)
            if stopped or (fail_fast and report.failed):
                break
    if verbosity() >= 0:
        console.print(_summary(report, job), markup=False)
    if stopped:
        console.print("interrupted; the same command goes on from here.")
        ctx.exit(128 + stopped[0])
    if fail_fast and report.failed:
        console.print("stopped at the first failure (--fail-fast).")
    ctx.exit(report.exit_code)


def shard_from_environment(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The part of this process under torchrun or in a step of srun; else ``None``.

    ``SLURM_STEP_NUM_TASKS``, not ``SLURM_NTASKS``: that is set in the batch script too, where one
    process alone would do the first part and leave the rest.
    """
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        index, count = environment.get(rank, ""), environment.get(size, "")
        if index.isdecimal() and count.isdecimal() and int(index) < int(count) and int(count) > 1:
            return int(index) + 1, int(count)
    return None


def _summary(report: Report, job: RelabelOptions) -> str:
    if job.dry_run:
        return (
            f"{report.planned} images would be relabelled, {report.skipped} skipped, "
            f"{report.failed} cannot be used. Nothing was written."
            + (" Tiles that turn out too unsure will be left out." if job.min_confidence else "")
        )
    parts = [f"{report.done} done"]
    parts += [f"{count} skipped ({reason})" for reason, count in report.skips.items()]
    if report.failed:
        parts.append(f"{report.failed} failed")
    names = {"folder": "from their folder", "predict": "predicted", "class": "as given", "csv": "from CSV"}
    labels = ", ".join(f"{count} {names[source]}" for source, count in report.labels.most_common())
    line = f"{', '.join(parts)} -> {visible(str(job.out))}" + (f"  (labels: {labels})" if labels else "")
    if report.judged:
        line += f"\njudge: {report.judged_wrong} of {report.judged} tiles read as another class"
        if job.min_confidence is not None:
            line += f", {report.left_out} left out (below {job.min_confidence:g})"
    return line


@contextmanager
def _stops_noted(stopped: list[int]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the images in flight; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: object) -> None:
        if stopped:
            os._exit(128 + number)
        stopped.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
