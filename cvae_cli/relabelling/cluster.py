"""Relabelling on a cluster, with Ray Data (https://docs.ray.io/en/latest/data/data.html).

This process lists the images, decides their names and leaves out what is finished; it writes that down as
work lists. Actors, one for each GPU or core, hold the model and the judge: they read, draw and write their
images with the very functions of the local engine. Only outcomes come back, in the order of the lists, into
one manifest.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import CvaeError, OutputError, UnreachableError, UserError
from cvae_cli.images.discover import ImageRef, iter_images
from cvae_cli.images.manifest import check_manifest, manifest_name, to_record
from cvae_cli.images.output import OutputFolder
from cvae_cli.inference.threads import default_workers
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.earlier import FINISHED
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.parts import PartWriter, run_name
from cvae_cli.relabelling.plan import RelabelPlan, make_plan
from cvae_cli.relabelling.run import drawn_by, manifest_of
from cvae_cli.relabelling.worker import Before, Worker, recorded
from cvae_cli.storage import Location, RemotePath

_FIRST_LIST, _LONGEST_LIST = 256, 10_000
"""Rows of the first work list and of later ones, each twice as long as the one before."""
_BLOCK_ROWS = 64
"""Images that an actor is given at once: what is done again when it dies."""
_CONNECT_SECONDS = 10
_READING = 1
"""Cores, as Ray counts them, that are left to reading the lists; where actors took all, nothing began."""


def relabel_on_cluster(
    options: RelabelOptions, *, address: str | None = None, listed: Callable[[int], None] = lambda count: None
) -> Iterator[ImageOutcome]:
    """As :func:`cvae_cli.relabelling.run.relabel`, by the actors of a Ray cluster.

    Args:
        options: what to do; sources, output folder and model have to be reached from all nodes.
        address: of the cluster, as ``ray.init`` takes it; ``None`` starts Ray on this machine.
        listed: called with the number of images once it is known.

    Raises:
        UserError: as there; or Ray is not installed, or the cluster cannot be reached.
        OutputError: as there.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise UserError("--engine ray needs the extra [ray]: pip install 'cvae-cli[ray]'.")
    if address is not None:
        _check_reachable(address)
    plan = make_plan(options)
    images = iter_images(options.sources, options.listing, exclude=options.out, shard=options.shard)
    images = chain(list(islice(images, 1)), images)
    manifest = plan.out / manifest_name(options.shard)
    check_manifest(manifest, sources=plan.sources, out=plan.out, overwrite=options.overwrite)
    OutputFolder(plan.out).create()
    return _run(plan, images, options, address, listed)


def _check_reachable(address: str) -> None:
    """Raise :class:`UserError` if nothing answers at ``HOST:PORT``, which Ray would wait for for minutes."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found is None:
        return  # such as auto
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray-address {address}: no Ray cluster can be reached: {error}.") from error


def _run(
    plan: RelabelPlan,
    images: Iterator[ImageRef],
    options: RelabelOptions,
    address: str | None,
    listed: Callable[[int], None],
) -> Iterator[ImageOutcome]:
    before = Before(plan)
    run = "" if before.parts is None else run_name(plan, before.parts, options)
    try:
        with storage.work_folder(plan.out) as work:
            files, count = _write_lists(plan, images, work, before)
            listed(count)
            with (
                manifest_of(plan, options) as manifest,
                _cluster(address),
                closing(_outcomes(plan, options, files, count, run)) as outcomes,  # type: ignore[type-var]
            ):
                for outcome, name in outcomes:
                    if before.parts is not None and name:
                        before.parts.replaced(name)
                    manifest.write(to_record(outcome))
                    yield outcome
    finally:
        before.close(changed=before.parts is not None)


# Work lists


def _write_lists(
    plan: RelabelPlan, images: Iterator[ImageRef], work: Location, before: Before
) -> tuple[list[Location], int]:
    """Write rows of images to Parquet files; the files, and how many images there are."""
    files: list[Location] = []
    count, longest = 0, _FIRST_LIST
    rows = ({**_row(plan, ref, before), "number": number} for number, ref in enumerate(images))
    while chunk := list(islice(rows, longest)):
        files.append(work / f"{len(files):06d}.parquet")
        storage.write_file(files[-1], _as_parquet(chunk))
        count, longest = count + len(chunk), min(2 * longest, _LONGEST_LIST)
    return files, count


def _row(plan: RelabelPlan, ref: ImageRef, before: Before) -> dict[str, Any]:
    """An image as a row: text as bytes, since names need not be UTF-8; never a login.

    ``final`` is the outcome of an image that is finished; ``begun`` says that some picture of it is there.
    """
    final, begun = None, False
    if not (ref.problem or ref.passed_over):
        first_targets = plan.targets_of(None)[:2]  # one of them is not the image's own
        with suppress(UnreachableError):  # the actor will say so
            final = recorded(plan, ref, before)
            begun = final is None and any(map(before.outputs.written, plan.output_names(ref, first_targets)))
    return {
        "file": os.fsencode(str(_absolute(ref.file))),
        "relative": os.fsencode(ref.relative),
        "source": os.fsencode(ref.source),
        # Actors may have another current folder.
        "place": os.fsencode(ref.source if ref.source in ("-", ref.relative) else _absolute_text(ref.source)),
        "output": os.fsencode(str(ref.output)),
        "problem": os.fsencode(ref.problem),
        "passed_over": os.fsencode(ref.passed_over),
        "version": ref.version,
        "final": "" if final is None else json.dumps(final.to_dict()),
        "begun": begun,
    }


def _absolute(place: Location) -> Location:
    return place if isinstance(place, RemotePath) else place.absolute()


def _absolute_text(source: str) -> str:
    return str(_absolute(storage.locate(source)))


def _with_absolute_paths(plan: RelabelPlan) -> RelabelPlan:
    """A plan that means the same in any current folder."""
    return replace(
        plan,
        sources=tuple(map(_absolute, plan.sources)),
        out=_absolute(plan.out),
        model_file=_absolute(plan.model_file),
        judge_file=plan.judge_file and _absolute(plan.judge_file),
    )


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(rows)
    return storage.to_bytes(lambda stream: parquet.write_table(table, stream))


def _as_ref(plan: RelabelPlan, row: dict[str, Any]) -> ImageRef:
    """The image of a row."""
    file = storage.locate(os.fsdecode(row["file"]))
    if isinstance(file, RemotePath):
        logins = {
            (place.protocol, place.host): place.login
            for place in (*plan.sources, plan.out)
            if isinstance(place, RemotePath)
        }
        file = replace(file, login=logins.get((file.protocol, file.host), ""))
    return ImageRef(
        file,
        os.fsdecode(row["relative"]),
        os.fsdecode(row["place"]),
        PurePosixPath(os.fsdecode(row["output"])),
        os.fsdecode(row["problem"]),
        os.fsdecode(row["passed_over"]),
        row["version"],
    )


# Actors


def _make_actor(plan: RelabelPlan, options: RelabelOptions, workers: int, run: str) -> type:
    """The class of the actors; ``run`` is the name of the parts that they write, if they write such.

    Made here, so that the plan travels inside it: arguments of a constructor are kept by the node that began
    the run, and an actor could not be started again without it.
    """
    plan = _with_absolute_paths(plan)
    device, batch_size = options.device, options.batch_size

    class Relabel:
        def __init__(self) -> None:
            # What looks abandoned from here may be in use on another node.
            folder = OutputFolder(plan.out, clear=False)
            folder.create()
            # What is finished has been left out before; whatever is there now was written by this run.
            before = Before(plan, look=False)
            self.worker = Worker(plan, folder, before, device=device, batch_size=batch_size)

        def __call__(self, table: Any) -> Any:
            import pyarrow

            rows = table.to_pylist()
            refs = (_as_ref(plan, row) for row in rows if not row["final"])
            names: list[str] = []
            try:
                drawn: Iterator[Any] = drawn_by(self.worker, refs, workers)
                if plan.parquet:
                    # Of the same name when another actor does it again.
                    writer = PartWriter(plan, self.worker.folder, run, rows[0]["number"])
                    drawn = iter(list(writer.collect(drawn, lambda outcome, name: names.append(name))))
                found = [row["final"] or json.dumps(_of_this_run(next(drawn), row).to_dict()) for row in rows]
            except CvaeError as error:
                return pyarrow.table({"outcome": [""], "name": [""], "error": [str(error)]})
            redone = iter(names)
            named = ["" if row["final"] else next(redone, "") for row in rows]
            return pyarrow.table({"outcome": found, "name": named, "error": [""] * len(found)})

    return Relabel


def _of_this_run(outcome: ImageOutcome, row: dict[str, Any]) -> ImageOutcome:
    """An outcome as the run reports it: finished by an actor that died is done, not finished before."""
    outcome = outcome.updated(source=os.fsdecode(row["source"]))
    if outcome.reason == FINISHED and not row["begun"]:
        return outcome.updated(status="done", reason="")
    return outcome


def _outcomes(
    plan: RelabelPlan, options: RelabelOptions, files: list[Location], count: int, run: str
) -> Iterator[tuple[ImageOutcome, str]]:
    """Outcomes, in the order of the lists, and the names of sources whose tiles are in a new part."""
    import ray
    from ray.data import ActorPoolStrategy

    gpus = int(ray.cluster_resources().get("GPU", 0)) if options.device != "cpu" else 0
    actors = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) - _READING)
    paths, filesystem = storage.as_arrow(files)
    # A block makes a part: as few as all actors have work for.
    rows = min(_LONGEST_LIST, max(_BLOCK_ROWS, -(-count // actors))) if plan.parquet else _BLOCK_ROWS
    outcomes = (
        ray.data.read_parquet(paths, filesystem=filesystem)
        .repartition(target_num_rows_per_block=rows)
        .map_batches(
            _make_actor(plan, options, options.workers or (default_workers() if gpus else 1), run),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, initial_size=actors, max_size=actors),
            num_cpus=None if gpus else 1,
            num_gpus=1 if gpus else None,
        )
    )
    for table in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in table.to_pylist():
            if row["error"]:
                raise OutputError(row["error"])
            yield ImageOutcome.from_dict(json.loads(row["outcome"])), row["name"]


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray, connected, quiet, and keeping the order of the rows."""
    # Its core writes to stderr by itself, and what matters of that is an exception here too.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    begun = not ray.is_initialized()
    if begun:
        try:
            ray.init(
                address=address or "local",
                num_cpus=default_workers() + _READING if address is None else None,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--ray-address {address}: no Ray cluster can be reached: {error}") from error
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.execution_options.preserve_order
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    try:
        yield
    except ray.exceptions.RayError as error:
        raise OutputError(f"the cluster gave up: {str(error).strip().splitlines()[-1]}") from error
    finally:
        context.enable_progress_bars, context.execution_options.preserve_order = before
        if begun:
            ray.shutdown()
