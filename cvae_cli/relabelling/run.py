"""Relabelling folders: every image drawn under every label that is not its own.

File work and the network overlap. One thread per core loads images, draws batches of them (on GPUs a
thread of its own does, one for each), and renders and writes the pictures; the calling thread only hands
out work. In a long run processes do it for these threads. A bounded number of images is in flight, so
memory does not grow with their number, and outcomes come in the order in which the images were found.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, nullcontext
from importlib.metadata import version
from itertools import chain, islice

from cvae_cli import __version__, storage
from cvae_cli.errors import ImageError, UnreachableError
from cvae_cli.images.discover import ImageRef, iter_images
from cvae_cli.images.listings import SharedListings
from cvae_cli.images.manifest import Manifest, check_manifest, manifest_name, to_record
from cvae_cli.images.naming import printable
from cvae_cli.images.output import OutputFolder
from cvae_cli.inference.threads import default_workers, one_core_per_thread, processors
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.parts import PartWriter, run_name
from cvae_cli.relabelling.pipeline import grouped_map
from cvae_cli.relabelling.plan import RelabelPlan, make_plan
from cvae_cli.relabelling.processes import WorkerProcesses
from cvae_cli.relabelling.render import Rendered
from cvae_cli.relabelling.worker import Before, Worker, identify, with_known_outcomes
from cvae_cli.storage import RemotePath

_GROUPS_WAITING = 2
"""Batches in flight beside those that are being worked on."""
_TOGETHER = 16
"""Images that a thread loads or writes at once where another one draws them."""


def relabel(options: RelabelOptions, *, listings: SharedListings | None = None) -> Iterator[ImageOutcome]:
    """Relabel every image of the sources and write the pictures and the manifest.

    All that can be wrong with the options is found here, before the first outcome is asked for.

    Args:
        options: what to do.
        listings: of another walk through the same sources, such as one that counts.

    Returns:
        An outcome for each image, in the order in which they were found. Pictures are written as the
        outcomes are taken; closing the generator, or dropping it before its first outcome, ends the run after
        the images in flight.

    Raises:
        UserError: options that cannot be used, or no image at all.
        OutputError: the output folder cannot be written, now or later.
    """
    plan = make_plan(options)
    images = iter_images(
        options.sources, options.listing, exclude=options.out, shard=options.shard, listings=listings
    )
    # Asked for here, so that nothing is created or loaded where there is no image.
    images = chain(list(islice(images, 1)), images)
    if options.dry_run:
        return _plan_all(plan, images)
    manifest = plan.out / manifest_name(options.shard)
    check_manifest(manifest, sources=plan.sources, out=plan.out, overwrite=options.overwrite)
    folder = OutputFolder(plan.out)
    folder.create()
    before = Before(plan)
    worker = Worker(plan, folder, before, device=options.device, batch_size=options.batch_size)
    workers = options.workers or default_workers()
    processes = None
    if _in_processes(options, before):
        processes = WorkerProcesses(worker, workers, streamed=options.listing is not None)
    try:
        if processes is not None and not before.has_finished:
            images = processes.begin(images)
        worker.check()
    except BaseException:
        if processes is not None:
            processes.shutdown()
        before.close(changed=False)
        raise
    outcomes = _run(worker, images, options, workers, processes)
    if processes is not None:
        # Dropped before its first outcome, none of its own code runs; dropped later, this runs before that.
        weakref.finalize(outcomes, processes.shutdown, cancel_futures=True)
    return outcomes


def _run(
    worker: Worker,
    images: Iterator[ImageRef],
    options: RelabelOptions,
    workers: int,
    processes: WorkerProcesses | None,
) -> Iterator[ImageOutcome]:
    plan = worker.plan
    complete = False
    # Closed before the manifest takes its name, which an earlier one, still open, would bar on Windows.
    with processes or nullcontext(), manifest_of(plan, options) as manifest:
        try:
            with closing(drawn_by(worker, images, workers, processes)) as drawn:
                yield from _recorded(worker, drawn, manifest, options)
            complete = True
        finally:
            manifest.add(precision=worker.used_precision)
            worker.before.close(complete=complete)


def _recorded(
    worker: Worker, drawn: Iterator[ImageOutcome | Rendered], manifest: Manifest, options: RelabelOptions
) -> Iterator[ImageOutcome]:
    """Outcomes, each in the manifest once all that there is of it is written."""
    plan, parts = worker.plan, worker.before.parts

    def record(outcome: ImageOutcome, name: str = "") -> None:
        if parts is not None and name:
            parts.replaced(name)
        manifest.write(to_record(outcome))

    if parts is not None:
        writer = PartWriter(plan, worker.folder, run_name(plan, parts, options))
        yield from writer.collect(drawn, record)
        return
    for outcome in drawn:
        assert isinstance(outcome, ImageOutcome)
        record(outcome)
        yield outcome


def manifest_of(plan: RelabelPlan, options: RelabelOptions) -> Manifest:
    """The manifest that a run writes.

    Raises:
        OutputError: it cannot be written.
    """
    spec, judge = plan.spec, plan.judge_file
    run = {
        "model": plan.model_name,
        "model_sha256": plan.model_sha256,
        "classes": list(spec.classes),
        "image_size": spec.image_size,
        "channels": spec.channels,
        "judge": None if judge is None else judge.stem,
        "judge_sha256": plan.judge_sha256,
        "options": {
            "sources": ["-"]
            if options.listing is not None
            else [printable(str(one)) for one in plan.sources],
            "labels": printable(storage.shown(options.labels)),
            "targets": list(plan.class_names(plan.targets)),
            "write": options.write,
            "invert": plan.invert,
            "fit": plan.fit,
            "precision": plan.precision,
            "min_confidence": plan.min_confidence,
            "min_realism": plan.min_realism,
            "shard": None if options.shard is None else list(options.shard),
        },
        "precision": None,
        "versions": {"cvae": __version__, "torch": version("torch")},
    }
    return Manifest(plan.out / manifest_name(options.shard), run)


def _in_processes(options: RelabelOptions, before: Before) -> bool:
    """Whether a long run is to go on in processes: not where threads mostly wait for other machines.

    Nor where there are to be more of them than processors, which is for the same; nor where what is finished
    is known by Parquet files, which only this process looks at.
    """
    places = (*options.sources, options.out)
    return (
        options.processes
        and not any(isinstance(place, RemotePath) for place in places)
        and 2 <= (options.workers or 2) <= processors()
        and not (before.parts is not None and before.parts.found)
    )


def drawn_by(
    worker: Worker, images: Iterator[ImageRef], workers: int, processes: WorkerProcesses | None = None
) -> Generator[ImageOutcome | Rendered, None, None]:
    """Load, draw and write images; in order, what became of them, or is still to be written.

    Args:
        worker: what does it.
        images: which ones.
        workers: how many threads.
        processes: that work for these in a long run; ``None`` for none.
    """
    items = with_known_outcomes(worker.plan, images, worker.before)
    # As long as all is finished no model is loaded.
    for item in items:
        if isinstance(item, ImageRef):
            rest: Iterator[ImageRef | ImageOutcome] = chain([item], items)
            if processes is not None and worker.before.has_finished:
                rest = processes.begin(rest)  # torch has not been needed so far
            with one_core_per_thread() as initialise:
                threads = ThreadPoolExecutor(workers, "cvae", initialise)
                yield from _drawn(worker, rest, workers, threads, processes)
            return
        yield item


def _drawn(
    worker: Worker,
    items: Iterator[ImageRef | ImageOutcome],
    workers: int,
    threads: Executor,
    processes: WorkerProcesses | None,
) -> Iterator[ImageOutcome | Rendered]:
    size = worker.relabeller.batch_size
    devices = len(worker.copies)
    on_cpu = worker.relabeller.device.type == "cpu" and devices == 1
    pool = threads
    if processes is not None:
        pool = processes
        processes.work_for(threads, draws=on_cpu)
        items = processes.watch(items)
    gpu = ThreadPoolExecutor(devices, "cvae-draw")
    try:
        if on_cpu:
            # Each thread draws batches of its own on one core: threads that share a batch spend much of
            # their time waiting for each other. It loads and writes them too, as handing over costs more.
            # The first batches are small, so that all threads have something to do at once.
            first = 1 if workers > 1 else None
            yield from grouped_map(
                pool, worker.relabel, items,
                size=size, counts=_is_open, ahead=workers + _GROUPS_WAITING, first=first,
            )  # fmt: skip
        else:
            ahead = workers + _GROUPS_WAITING * size // _TOGETHER
            loaded = grouped_map(
                pool, worker.load_all, items, size=_TOGETHER, counts=_is_open, ahead=ahead, first=1
            )
            drawn = grouped_map(
                gpu, worker.draw, loaded, size=size, counts=_is_open, ahead=devices + _GROUPS_WAITING
            )
            yield from grouped_map(
                pool, worker.write_all, drawn, size=_TOGETHER, counts=_is_open, ahead=ahead
            )
    finally:
        # Also when the caller stops early: what was begun is finished, the rest is dropped.
        gpu.shutdown(wait=True, cancel_futures=True)
        pool.shutdown(wait=True, cancel_futures=True)


def _is_open(item: object) -> bool:
    """Whether there is still something to do for an image."""
    return not isinstance(item, ImageOutcome)


def _plan_all(plan: RelabelPlan, images: Iterator[ImageRef]) -> Iterator[ImageOutcome]:
    before = Before(plan)
    try:
        for ref in images:
            yield _planned_outcome(plan, ref, before)
    finally:
        before.close(changed=False)


def _planned_outcome(plan: RelabelPlan, ref: ImageRef, before: Before) -> ImageOutcome:
    """What would be done for an image; nothing is decoded, drawn or written."""
    found = identify(plan, ref, before)
    if isinstance(found, ImageOutcome):
        return found
    targets = plan.targets_of(found.label.index if found.label else None)
    try:
        for name in filter(before.outputs.may_have, plan.output_names(ref, targets)):
            plan.check_replaceable(ref, name)
    except (ImageError, UnreachableError) as error:
        return found.outcome.failed(str(error))
    source = found.label.source if found.label else "predict"
    return found.outcome.updated(
        label_source=source,
        targets=plan.class_names(targets),
        outputs=plan.outputs(ref, targets),
    )
