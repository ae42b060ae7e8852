"""``cvae relabel``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click

from cvae_cli.cli import completion, options
from cvae_cli.cli.console import make_console, print_failure, verbosity, visible, warn_of_unshown
from cvae_cli.cli.progress import ProgressDisplay, count_in_background
from cvae_cli.cli.signals import StopRequest
from cvae_cli.errors import ListStopped
from cvae_cli.outcomes import ImageOutcome, Report
from cvae_cli.storage import Location

if TYPE_CHECKING:
    from rich.console import Console

    from cvae_cli.images.listings import SharedListings
    from cvae_cli.relabelling.options import RelabelOptions


@click.command("relabel", short_help="Draw every image of folders under every other label.")
@options.sources(required=True)
@options.null
@options.model
@click.option(
    "--out",
    required=True,
    type=options.FilePath(urls=True),
    metavar="DIR",
    help="The folder to write to, or its URL; created if needed. Sub-folders mirror those of the source.",
)
@options.labels
@click.option(
    "--targets",
    type=options.Names(),
    multiple=True,
    default=("all",),
    show_default="all",
    metavar="all|CLASS,...",
    shell_complete=completion.targets,
    help="The classes to draw; may be repeated. An image's own class is always left out.",
)
@click.option(
    "--write",
    type=click.Choice(["grid", "tiles", "both", "parquet"]),
    default="grid",
    show_default=True,
    help="grid: one annotated picture per image, DIR/SUBFOLDER/STEM.png. tiles: every relabelled image as "
    "a file of its own, at the model's native size, DIR/tiles/CLASS/SUBFOLDER/STEM.png, which is a data "
    "set in class folders. parquet: the same tiles as rows of DIR/tiles/*.parquet, about 200 MB each, "
    "for millions of them; needs the extra [parquet].",
)
@options.invert
@options.fit
@options.device
@options.precision
@click.option("--batch-size", type=click.IntRange(1, 65536), help="Images per batch.  [default: by device]")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Threads that read, write and, on the CPU, draw; in a long run processes work for all but one of "
    "them.  [default: one per processor]",
)
@options.check
@click.option(
    "--min-confidence",
    type=options.Number(0, 1),
    metavar="X",
    help="With --write tiles or parquet: leave out tiles that the judge is unsure about, those whose target "
    "it gives a probability below X (0-1).",
)
@click.option(
    "--min-realism",
    type=options.Number(0, 1),
    metavar="Q",
    help="With --write tiles or parquet: leave out tiles that look less real than all but a share Q (0-1) "
    "of real images of their class. 0.01 leaves out those that are marked as odd.",
)
@click.option("--overwrite", is_flag=True, help="Redo finished images; by default they are skipped.")
@click.option(
    "--shard",
    type=options.Shard(),
    help="Do only the I-th of N parts. Under torchrun and SLURM, their variables decide by default.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="local: this machine alone. ray: actors on all cores or GPUs of a Ray cluster, by default "
    "one on this machine; needs the extra [ray].",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="With --engine ray: the cluster, such as auto or HOST:6379.  [default: this machine alone]",
)
@click.option(
    "--gallery", is_flag=True, help="Also write DIR/index.html, a page for viewing the run in a browser."
)
@click.option("--dry-run", is_flag=True, help="List what would be written, and write nothing.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="CVAE_RELABEL_JSON",
    help="Print one JSON object per image on stdout.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: tuple[Location, ...],
    null: bool,
    shard: tuple[int, int] | None,
    fail_fast: bool,
    as_json: bool,
    engine: str,
    ray_address: str | None,
    gallery: bool,
    **asked: Any,
) -> None:
    """Draw every image of SOURCE under every label that is not its own.

    SOURCE is any number of image files and folders (searched recursively), URLs of these (s3://, gs://,
    az://, sftp://), or - for a list of paths or URLs on stdin. Finished images are skipped, so an
    interrupted run continues where it stopped. DIR/manifest.jsonl records what became of each image.
    """
    from cvae_cli.images.listings import SharedListings
    from cvae_cli.relabelling.options import RelabelOptions
    from cvae_cli.relabelling.run import relabel

    console = make_console()
    if shard is None and (shard := shard_from_environment(os.environ)) and verbosity() >= 0:
        console.print(f"shard {shard[0]}/{shard[1]}, from this process's environment.")
    stop = StopRequest()
    listing = options.listing(source, null=null, should_stop=stop)
    job = RelabelOptions(sources=source, listing=listing, shard=shard, processes=True, **asked)
    report = Report()
    display = ProgressDisplay(console)
    if engine != "ray" and ray_address is not None:
        raise click.UsageError("--ray-address is for --engine ray: add it.")
    if gallery and shard is not None:
        raise click.UsageError("--gallery is for a whole run; use cvae gallery DIR when all shards are done.")
    if gallery and not job.dry_run:
        from cvae_cli.gallery.page import check_page

        check_page(job.out / "index.html", overwrite=job.overwrite)
    local = engine == "local" or job.dry_run
    listings = SharedListings() if local and display.live and job.listing is None else None
    progress = _ImageCount(display)

    def start() -> Iterator[ImageOutcome]:
        if local:
            return relabel(job, listings=listings)
        from cvae_cli.relabelling.cluster import relabel_on_cluster

        return relabel_on_cluster(job, address=ray_address, listed=progress.set_total)

    with (
        stop,
        display,
        suppress(ListStopped),
        closing(start()) as outcomes,  # type: ignore[type-var]
    ):
        warn_of_unshown(console, job.model)
        if listings is not None:
            count_in_background(lambda: _count_images(job, listings), progress.set_total)
        for outcome in outcomes:
            report.add(outcome)
            _print_result(outcome, job, as_json=as_json)
            if outcome.status == "failed":
                print_failure(console, outcome.path, outcome.reason)
            elif verbosity() >= 1:
                console.print(
                    f"{outcome.status} {visible(outcome.path)}: {outcome.label} ({outcome.label_source})",
                    markup=False,
                )
            progress.show(report)
            # A list ends by itself, once what it has named is drawn: it may have waited for long.
            if (stop.signal and listing is None) or (fail_fast and report.failed):
                break
    if verbosity() >= 0:
        console.print(_summary(report, job), markup=False)
    if gallery and not job.dry_run:
        _write_gallery(console, job)
    if stop.signal:
        console.print("interrupted; run the same command again to continue.")
        ctx.exit(stop.exit_code)
    if fail_fast and report.failed:
        console.print("stopped at the first failure (--fail-fast).")
    ctx.exit(report.exit_code)


def _write_gallery(console: Console, job: RelabelOptions) -> None:
    from cvae_cli.gallery.page import GalleryOptions
    from cvae_cli.gallery.page import gallery as write

    page, _ = write(GalleryOptions(job.out, overwrite=job.overwrite))
    if verbosity() >= 0:
        console.print(f"page -> {visible(str(page))}", markup=False)


class _ImageCount:
    """How many images are done, of how many once that is known, and how fast."""

    def __init__(self, display: ProgressDisplay) -> None:
        self.display = display
        self.total: int | None = None
        self.began = time.monotonic()

    def set_total(self, total: int) -> None:
        self.total = total

    def show(self, report: Report) -> None:
        rate = report.total / max(time.monotonic() - self.began, 1e-6)
        failed = f"{report.failed} failed, " if report.failed else ""
        self.display.update(
            "relabel", report.total, self.total, unit="images", detail=f"{failed}{rate:.0f}/s"
        )


def _count_images(job: RelabelOptions, listings: SharedListings) -> int:
    from cvae_cli.images.discover import iter_images

    return sum(1 for _ in iter_images(job.sources, exclude=job.out, shard=job.shard, listings=listings))


def _print_result(outcome: ImageOutcome, job: RelabelOptions, *, as_json: bool) -> None:
    """What a script asked for, on stdout."""
    from cvae_cli.images.manifest import to_record

    if as_json:
        click.echo(json.dumps(to_record(outcome)))
    elif job.dry_run and outcome.status == "planned":
        for output in outcome.outputs:
            click.echo(os.fsencode(str(job.out / output.path)))  # names need not be valid UTF-8


def shard_from_environment(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The part of this process under torchrun or in a step of srun; else ``None``.

    ``SLURM_STEP_NUM_TASKS``, not ``SLURM_NTASKS``: the latter is set in the batch script too, where a
    single process would do the first part and leave the rest.
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
            + (" Tiles that the judge is too unsure about will be left out." if job.min_confidence else "")
            + (" Tiles that look too little like real images will be left out." if job.min_realism else "")
        )
    parts = [f"{report.done} done"]
    parts += [f"{count} skipped ({reason})" for reason, count in report.skips.items()]
    if report.failed:
        parts.append(f"{report.failed} failed")
    names = {
        "folder": "from their folder",
        "predict": "predicted",
        "class": "as given",
        "csv": "from CSV",
        "provenance": "as they were drawn",
    }
    labels = ", ".join(f"{count} {names[source]}" for source, count in report.labels.most_common())
    line = f"{', '.join(parts)} -> {visible(str(job.out))}" + (f"  (labels: {labels})" if labels else "")
    if report.warned:
        line += f"\n{report.warned} with a warning: see warnings in the manifest"
    if report.judged:
        line += f"\njudge: {report.judged_wrong} of {report.judged} tiles show another class"
        if report.compared:
            line += f", {report.judged_odd} are odd"
        least = [] if job.min_confidence is None else [f"below {job.min_confidence:g}"]
        least += [] if job.min_realism is None else [f"realism below {job.min_realism:g}"]
        if least:
            line += f", {report.left_out} left out ({' or '.join(least)})"
    return line
