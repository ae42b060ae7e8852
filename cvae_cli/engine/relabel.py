"""Relabelling folders: every image drawn under every label that is not its own.

Files and the network work at the same time. A thread for each core reads, decodes and prepares
images, runs the network on a batch of them (on a GPU a thread of its own does), and composes,
encodes and writes the pictures; the calling thread only hands out what is to be done. A window
bounds how many images are in flight, so memory does not grow with their number, and outcomes
come in the order in which the images were found.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae_cli import __version__
from cvae_cli.engine.device import one_core_a_thread
from cvae_cli.engine.draw import Drawer, image_target, resolve_precision
from cvae_cli.engine.judge import Judge, find_judge, mark
from cvae_cli.engine.labels import Label, LabelRule, require_class
from cvae_cli.errors import ImageError, UserError
from cvae_cli.images import decode, discover, grid, prepare, save
from cvae_cli.model import weights
from cvae_cli.model.spec import ModelSpec
from cvae_cli.outcomes import ImageOutcome, Status

_PICTURES_VERSION = 2
"""Raised when the same options begin to make other pictures, so that finished ones are redone."""

_BATCHES_AHEAD = 2
"""Batches of images that are loaded or written beside those that are drawn."""

TILES = "tiles"
_FINISHED = "finished before"
_OWN_CLASS = "already of the only class to draw"


@dataclass(frozen=True)
class RelabelOptions:
    """What the user asked for.

    Attributes:
        sources: files and folders.
        out: the folder to write to.
        model: a shipped name or a file.
        listing: paths, one an item, instead of sources: ``-``.
        labels: ``auto``, ``folder``, ``predict``, a class, or a CSV file.
        targets: classes to draw; empty for all. An image's own class is always left out.
        write: ``grid``, ``tiles`` or ``both``.
        invert: ``auto``, ``always`` or ``never``.
        device: as ``--device``.
        precision: as ``--precision``.
        batch_size: images at once; ``None`` chooses.
        workers: threads for reading and writing, and on the CPU for drawing; ``None`` chooses.
        check: have a judge read every tile.
        min_confidence: leave out tiles that the judge gives less than this probability of
            their target, with ``tiles``; ``None`` for none. It implies ``check``.
        overwrite: do finished images again.
        shard: this process's part: index from 1, and the number of parts.
        dry_run: only say what would be written.
    """

    sources: tuple[Path, ...]
    out: Path
    model: str = "mnist"
    listing: Iterable[str] | None = None
    labels: str = "auto"
    targets: tuple[str, ...] = ()
    write: str = "grid"
    invert: prepare.Invert = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    check: bool = False
    min_confidence: float | None = None
    overwrite: bool = False
    shard: tuple[int, int] | None = None
    dry_run: bool = False


def relabel(options: RelabelOptions) -> Iterator[ImageOutcome]:
    """Relabel every image of the sources and write the pictures and the manifest.

    Everything that can be wrong with the options is found before the first image is read.

    Yields:
        An outcome for each image, in the order in which they were found.

    Raises:
        UserError: options that cannot be used, or no image at all.
        OutputError: the output folder cannot be written, now or later.
    """
    if options.listing is None:
        discover.check_sources(options.sources)
        if any(source.is_dir() and source.resolve() == options.out.resolve() for source in options.sources):
            raise UserError(f"{options.out} is the source itself; choose another folder for --out.")
    card = weights.read_card(weights.resolve(options.model))
    rule = LabelRule(options.labels, card.spec.classes)
    targets = _target_indices(options.targets, card.spec)
    if options.min_confidence is not None and options.write == "grid":
        raise UserError("--min-confidence leaves out tiles: add --write tiles or --write both.")
    judge_file = find_judge(card) if options.check or options.min_confidence is not None else None
    judge_sha256 = weights.read_metadata(judge_file)["sha256"] if judge_file else None
    job = _Job(options, card, rule, targets, resolve_precision(options.precision), judge_sha256)
    if options.dry_run:
        yield from _plan(job)
        return
    # Both before the model is loaded; and where there is no image, no folder is made either.
    stream = find(options)
    first = list(islice(stream, 1))
    job.folder.create()
    drawer = Drawer(
        card.file, device=options.device, precision=options.precision, batch_size=options.batch_size
    )
    if judge_file is not None:
        # All tiles of a batch at once: again one shape for the whole run.
        batch = drawer.batch_size * max(1, job.columns)
        job.judge = Judge(judge_file, device=options.device, batch_size=batch)
    with (
        save.Manifest(options.out, _manifest_name(options.shard)) as manifest,
        one_core_a_thread() as initialise,
    ):
        for outcome in _run(job, drawer, chain(first, stream), initialise):
            manifest.write({**outcome.to_dict(), "model": card.name, "model_sha256": card.sha256})
            yield outcome


def find(options: RelabelOptions) -> Iterator[discover.Found]:
    """The images that these options name, in order; of a shard only its part.

    Raises:
        UserError: there is none in all the sources.
    """
    if options.listing is not None:
        images = discover.from_list(options.listing, exclude=options.out)
    else:
        images = discover.discover(options.sources, exclude=options.out)
    empty = True
    for found in images:
        empty = False
        if options.shard is None or discover.in_shard(found, options.shard[0] - 1, options.shard[1]):
            yield found
    if empty:
        where = "the list on stdin" if options.listing is not None else ", ".join(map(str, options.sources))
        raise UserError(
            f"no image found in {where}. Looked for {' '.join(sorted(discover.SUFFIXES))}, in all "
            "sub-folders that are not hidden."
        )


def label_note(label_source: str | None, confidence: float | None) -> str:
    """Where a label came from, in the few characters that fit under a tile."""
    if label_source == "predict" and confidence is not None:
        return f"predicted {min(99, int(confidence * 100))}%"
    return {"folder": "from folder", "class": "as given", "csv": "from CSV"}.get(label_source or "", "")


def default_workers() -> int:
    """Threads for all the work: one for each processor this process may use, up to 64."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return min(64, max(2, count))


@dataclass
class _Job:
    """What is the same for all images of a run."""

    options: RelabelOptions
    card: weights.ModelCard
    rule: LabelRule
    targets: tuple[int, ...]
    precision: str
    judge_sha256: str | None = None
    judge: Judge | None = None

    def __post_init__(self) -> None:
        spec = self.card.spec
        self.spec = spec
        self.target = image_target(spec)
        self.layout = grid.Layout(native=spec.image_size, channels=spec.channels)
        self.folder = save.OutputFolder(self.options.out)
        self.class_folders = _folder_names(self.spec.classes)
        self.grids = self.options.write in ("grid", "both")
        self.tiles = self.options.write in ("tiles", "both")

    @property
    def columns(self) -> int:
        """Tiles an image, at most."""
        return len(self.targets) - (len(self.targets) == self.spec.num_classes)

    def targets_of(self, label: int | None) -> tuple[int, ...]:
        return tuple(index for index in self.targets if index != label)

    def outputs(self, found: discover.Found, targets: tuple[int, ...]) -> list[str]:
        """The files of an image, relative to the output folder, the grid first."""
        place = found.output
        if self.grids and self.tiles and place.parts[0].casefold().rstrip("_") == TILES:
            # A source folder of this name must not end up among the tiles, nor meet one named so.
            place = type(place)(place.parts[0] + "_", *place.parts[1:])
        names = [f"{place}.png"] if self.grids else []
        if self.tiles:
            names += [f"{TILES}/{self.class_folders[index]}/{found.output}.png" for index in targets]
        return names

    def fingerprint(self, found: discover.Found, sha256: str, label: Label | None) -> str:
        """A hash of all that decides an image's pictures, apart from device and batch size."""
        parts = [
            _PICTURES_VERSION,
            _printable(found.relative),
            sha256,
            self.card.sha256,
            "predict" if label is None else [label.index, label.source],
            list(self.targets),
            self.options.invert,
            self.precision,
        ]
        if self.judge_sha256 is not None:
            parts.append([self.judge_sha256, self.options.min_confidence])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(eq=False)
class _Slot:
    """One image on its way through a run."""

    found: discover.Found
    loading: Future[_Loaded | ImageOutcome] | None = None
    loaded: _Loaded | None = None
    drawn: Future[dict[_Slot, Future[ImageOutcome]]] | None = None
    """Of its batch; then, for each of its images, the future of what is being written."""
    outcome: ImageOutcome | None = None

    def is_finished(self) -> bool:
        """Whether its outcome can be had without waiting."""
        return (
            self.drawn is not None
            and self.drawn.done()
            and (self.drawn.exception() is not None or self.drawn.result()[self].done())
        )


@dataclass(frozen=True)
class _Identified:
    """An image that there is something to do for."""

    content: bytes
    label: Label | None
    fingerprint: str


@dataclass
class _Loaded:
    """An image that is ready for the network."""

    found: discover.Found
    prepared: prepare.Prepared
    label: Label | None
    fingerprint: str
    steps: dict[str, Any] = field(default_factory=dict)


def _run(
    job: _Job, drawer: Drawer, stream: Iterator[discover.Found], initialise: Callable[[], None]
) -> Iterator[ImageOutcome]:
    workers = job.options.workers or default_workers()
    on_cpu = drawer.device.type == "cpu"
    # On the CPU each thread draws a batch of its own on one core: threads that share a batch spend
    # much of their time waiting for each other. A GPU takes one batch after the other.
    window = ((workers if on_cpu else 1) + _BATCHES_AHEAD) * drawer.batch_size
    slots: deque[_Slot] = deque()  # in flight, in order
    ready: list[_Slot] = []  # loaded, waiting for a batch to be full
    waiting: deque[_Slot] = deque()  # still loading, in order
    pool = ThreadPoolExecutor(workers, "cvae", initialise)
    drawing = pool if on_cpu else ThreadPoolExecutor(1, "cvae-draw")
    # Where the thread that draws is one of many it writes too: handing on costs more than it saves.
    finish = _at_once if on_cpu else pool.submit
    exhausted = False
    try:
        while True:
            while not exhausted and len(slots) < window:
                found = next(stream, None)
                if found is None:
                    exhausted = True
                    break
                slot = _Slot(found, loading=pool.submit(_load, job, found))
                slots.append(slot)
                waiting.append(slot)
            while waiting and len(ready) < drawer.batch_size:
                slot = waiting.popleft()
                assert slot.loading is not None
                result = slot.loading.result()
                if isinstance(result, ImageOutcome):
                    slot.outcome = result
                else:
                    slot.loaded = result
                    ready.append(slot)
            # A batch that cannot fill up is drawn as it is: at the end, or where all that is in
            # flight waits for it (images that were finished before take up the window too).
            stuck = not waiting and (exhausted or (len(slots) >= window and slots[0] in ready))
            if len(ready) == drawer.batch_size or (ready and stuck):
                batch, ready = ready, []
                drawn = drawing.submit(_draw_batch, job, drawer, batch, finish)
                for slot in batch:
                    slot.drawn = drawn
            # Wait for the oldest only when there is nothing else to do.
            full = exhausted or len(slots) >= window
            while slots and (slots[0].outcome or slots[0].drawn):
                head = slots[0]
                if head.drawn is not None:
                    if not head.is_finished() and (waiting or not full):
                        break
                    head.outcome = head.drawn.result()[head].result()
                slots.popleft()
                assert head.outcome is not None
                yield head.outcome
                full = exhausted
            if exhausted and not slots:
                return
    finally:
        # Also when the caller stops early: what was begun is dropped or finished, not left half.
        drawing.shutdown(wait=True, cancel_futures=True)
        pool.shutdown(wait=True, cancel_futures=True)


def _at_once(work: Callable[..., ImageOutcome], *arguments: Any) -> Future[ImageOutcome]:
    """As an executor's ``submit``, in the calling thread."""
    done: Future[ImageOutcome] = Future()
    try:
        done.set_result(work(*arguments))
    except Exception as error:
        done.set_exception(error)
    return done


def _identify(job: _Job, found: discover.Found) -> _Identified | ImageOutcome:
    """Read one image and say what it is; or why not, or that there is nothing to do."""
    label: Label | None = None
    try:
        if found.problem:
            raise ImageError(found.problem)
        content = decode.read_bytes(found.file)
        label = job.rule.label(found)
    except (ImageError, MemoryError) as error:
        return _failure(job, found, error, label, {})
    fingerprint = job.fingerprint(found, hashlib.sha256(content).hexdigest(), label)
    if not job.options.overwrite and (finished := _finished(job, found, label, fingerprint)):
        return finished
    if label is not None and not job.targets_of(label.index):
        return _outcome(
            job, found, "skipped", reason=_OWN_CLASS, label=label.index, label_source=label.source
        )
    return _Identified(content, label, fingerprint)


def _load(job: _Job, found: discover.Found) -> _Loaded | ImageOutcome:
    """Read, decode and prepare one image; or say why not, or that there is nothing to do."""
    this = _identify(job, found)
    if isinstance(this, ImageOutcome):
        return this
    notes: dict[str, Any] = {}
    try:
        decoded = decode.decode(this.content, enough=job.target.enough)
        notes = decoded.notes
        prepared = prepare.prepare(decoded.pixels, job.target, invert=job.options.invert)
    except (ImageError, MemoryError) as error:
        return _failure(job, found, error, this.label, notes)
    return _Loaded(found, prepared, this.label, this.fingerprint, {**notes, **prepared.steps})


def _failure(
    job: _Job, found: discover.Found, error: Exception, label: Label | None, notes: dict[str, Any]
) -> ImageOutcome:
    return _outcome(
        job,
        found,
        "failed",
        reason=str(error) if isinstance(error, ImageError) else "too large for the memory of this machine",
        label=label.index if label else None,
        label_source=label.source if label else None,
        prepared=notes,
    )


def _finished(job: _Job, found: discover.Found, label: Label | None, fingerprint: str) -> ImageOutcome | None:
    """The outcome of an image all of whose pictures are there with matching provenance."""
    # Without a label the first target that is never its own is not known: look at any picture.
    known = job.targets_of(label.index if label else None)
    candidates = job.outputs(found, known)
    first: dict[str, Any] = {}
    for name in candidates:
        first = save.read_provenance(job.options.out / name) or {}
        if first.get("fingerprint") == fingerprint:
            break
    index = first.get("label_index")
    if first.get("fingerprint") != fingerprint or not isinstance(index, int):
        return None
    targets = job.targets_of(index)
    verdict = _Verdict.from_provenance(first)
    outputs = verdict.written(job, found, targets)
    for name in outputs:
        if (save.read_provenance(job.options.out / name) or {}).get("fingerprint") != fingerprint:
            return None
    return _outcome(
        job,
        found,
        "skipped",
        reason=_FINISHED,
        label=index,
        label_source=first.get("label_source"),
        confidence=first.get("confidence"),
        targets=targets,
        outputs=outputs,
        prepared=first.get("prepared") or {},
        verdict=verdict,
    )


def _draw_batch(
    job: _Job, drawer: Drawer, batch: list[_Slot], finish: Callable[..., Future[ImageOutcome]]
) -> dict[_Slot, Future[ImageOutcome]]:
    """Run the network on a batch and hand its images on to be written."""
    loaded = [slot.loaded for slot in batch if slot.loaded is not None]
    images = np.stack([item.prepared.native for item in loaded])
    labels = np.array([item.label.index if item.label else -1 for item in loaded], np.int64)
    confidences: list[float | None] = [None] * len(loaded)
    if (labels < 0).any():
        predicted, confidence = drawer.classify(images)
        for number in np.flatnonzero(labels < 0).tolist():
            labels[number], confidences[number] = predicted[number], float(confidence[number])
    targets = [job.targets_of(int(label)) for label in labels]
    # One shape for the whole run: where fewer are wanted, the rest of the row is thrown away.
    wanted = np.zeros((len(loaded), max(1, job.columns)), np.int64)
    for i, indices in enumerate(targets):
        wanted[i, : len(indices)] = indices
    tiles = drawer.draw(images, labels, wanted)
    judged: list[NDArray[np.float32] | None] = [None] * len(loaded)
    if job.judge is not None:
        probabilities = job.judge.read(tiles.reshape(-1, *tiles.shape[2:])).probabilities
        judged = list(probabilities.reshape(*tiles.shape[:2], -1))  # (T, K) each
    finishing = {}
    for i, slot in enumerate(batch):
        assert slot.loaded is not None
        finishing[slot] = finish(
            _finish,
            job,
            slot.loaded,
            int(labels[i]),
            confidences[i],
            targets[i],
            tiles[i, : len(targets[i])],
            judged[i],
        )
        slot.loaded = None
    return finishing


def _finish(
    job: _Job,
    loaded: _Loaded,
    label: int,
    confidence: float | None,
    targets: tuple[int, ...],
    tiles: NDArray[np.uint8],
    judged: NDArray[np.float32] | None,
) -> ImageOutcome:
    """Compose, encode and write the pictures of one image."""
    label_source = loaded.label.source if loaded.label else "predict"
    found = loaded.found
    if not targets:
        return _outcome(
            job,
            found,
            "skipped",
            reason=_OWN_CLASS,
            label=label,
            label_source=label_source,
            confidence=confidence,
            prepared=loaded.steps,
        )
    outputs = job.outputs(found, targets)
    shown = [loaded.prepared.undo(tile) for tile in tiles]
    names = [job.spec.classes[index] for index in targets]
    verdict = _Verdict.of(job, targets, judged)
    provenance = {
        "cvae": __version__,
        "source": _printable(found.relative),
        "label": job.spec.classes[label],
        "label_index": label,
        "label_source": label_source,
        "confidence": None if confidence is None else round(confidence, 4),
        "model": job.card.name,
        "model_sha256": job.card.sha256,
        "fingerprint": loaded.fingerprint,
        "prepared": loaded.steps,
        **verdict.to_dict(),
    }
    pending = list(outputs)
    try:
        _check_replaceable(job, found, outputs)
        if job.grids:
            note = label_note(label_source, confidence)
            original = grid.Original(loaded.prepared.shown, job.spec.classes[label], note)
            picture = grid.draw_row(job.layout, original, list(zip(names, shown, strict=True)), verdict.marks)
            job.folder.write(pending.pop(0), save.encode_png(picture, {**provenance, "targets": names}))
        if job.tiles:
            # Drawn when the label was thought to be another: a wrong picture in a data set of tiles.
            stale = job.options.out / job.outputs(found, (label,))[-1]
            if (save.read_provenance(stale) or {}).get("source") == provenance["source"]:
                stale.unlink(missing_ok=True)
            # Those of an earlier run that was content with less: before the first is written, since
            # an image counts as finished as soon as all its other tiles are there.
            for output, name in zip(pending, names, strict=False):
                old = job.options.out / output
                if name in verdict.left_out and save.read_provenance(old) is not None:
                    old.unlink(missing_ok=True)
        for output, name, tile in zip(pending, names, shown, strict=False):
            if name in verdict.left_out:
                continue
            pixels = np.ascontiguousarray(tile.transpose(1, 2, 0))
            job.folder.write(output, save.encode_png(pixels, {**provenance, "target": name}))
    except ImageError as error:
        return _outcome(
            job,
            found,
            "failed",
            reason=str(error),
            label=label,
            label_source=label_source,
            confidence=confidence,
            prepared=loaded.steps,
        )
    return _outcome(
        job,
        found,
        "done",
        label=label,
        label_source=label_source,
        confidence=confidence,
        targets=targets,
        outputs=verdict.written(job, found, targets),
        prepared=loaded.steps,
        verdict=verdict,
    )


@dataclass(frozen=True)
class _Verdict:
    """What the judge says of an image's tiles; nothing without ``--check``."""

    judged: dict[str, float] | None = None
    wrong: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    marks: tuple[grid.Mark, ...] | None = None

    @classmethod
    def of(cls, job: _Job, targets: tuple[int, ...], probabilities: NDArray[np.float32] | None) -> _Verdict:
        """Of (T, K) probabilities of an image's tiles."""
        if probabilities is None:
            return cls()
        names = [job.spec.classes[index] for index in targets]
        marks = tuple(
            mark(row, index, job.spec.classes) for row, index in zip(probabilities, targets, strict=False)
        )
        shares = {
            name: round(float(row[index]), 4)
            for name, index, row in zip(names, targets, probabilities, strict=False)
        }
        least = job.options.min_confidence
        return cls(
            judged=shares,
            wrong=tuple(name for name, one in zip(names, marks, strict=True) if one.kind == "wrong"),
            left_out=tuple(name for name in names if least is not None and shares[name] < least),
            marks=marks,
        )

    @classmethod
    def from_provenance(cls, provenance: dict[str, Any]) -> _Verdict:
        """As it was written into a picture."""
        return cls(
            provenance.get("judged"),
            tuple(provenance.get("judged_wrong") or ()),
            tuple(provenance.get("left_out") or ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """As a picture's provenance holds it."""
        if self.judged is None:
            return {}
        return {
            "judged": self.judged,
            "judged_wrong": list(self.wrong),
            "left_out": list(self.left_out),
        }

    def written(self, job: _Job, found: discover.Found, targets: tuple[int, ...]) -> tuple[str, ...]:
        """The files of an image, less the tiles that were left out."""
        kept = tuple(index for index in targets if job.spec.classes[index] not in self.left_out)
        return tuple(job.outputs(found, kept))


def _check_replaceable(job: _Job, found: discover.Found, outputs: list[str]) -> None:
    """Refuse to replace what cvae did not write: a picture of the user's, even the image itself.

    ``--overwrite`` allows it, except for the images of the sources.

    Raises:
        ImageError: an output is there and is not ours to replace.
    """
    for name in outputs:
        file = job.options.out / name
        try:
            empty = file.stat().st_size == 0
        except OSError:
            continue
        if empty or save.read_provenance(file) is not None:
            continue
        if file.samefile(found.file) or _is_source(job, file):
            raise ImageError(f"its output {file} is one of the images themselves; choose another --out")
        if not job.options.overwrite:
            raise ImageError(f"{file} is there and was not written by cvae; move it, or add --overwrite")


def _is_source(job: _Job, file: Path) -> bool:
    real = file.resolve()
    sources = [source.resolve() for source in job.options.sources]
    out = job.options.out.resolve()
    # A source that holds the output folder does not make its contents sources.
    return any(real == source or (source in real.parents and source not in out.parents) for source in sources)


def _plan(job: _Job) -> Iterator[ImageOutcome]:
    """What would be done: nothing is decoded, drawn or written."""
    for found in find(job.options):
        this = _identify(job, found)
        if isinstance(this, ImageOutcome):
            yield this
            continue
        label = this.label
        targets = job.targets_of(label.index if label else None)
        outputs = job.outputs(found, targets)
        try:
            _check_replaceable(job, found, outputs)
        except ImageError as error:
            yield _failure(job, found, error, label, {})
            continue
        yield _outcome(
            job,
            found,
            "planned",
            label=label.index if label else None,
            label_source=label.source if label else "predict",
            targets=targets,
            outputs=tuple(outputs),
        )


def _outcome(
    job: _Job,
    found: discover.Found,
    status: Status,
    *,
    reason: str = "",
    label: int | None = None,
    label_source: str | None = None,
    confidence: float | None = None,
    targets: tuple[int, ...] = (),
    outputs: tuple[str, ...] = (),
    prepared: dict[str, Any] | None = None,
    verdict: _Verdict | None = None,
) -> ImageOutcome:
    classes = job.spec.classes
    return ImageOutcome(
        path=found.relative,
        source=found.source,
        status=status,
        reason=reason,
        label=None if label is None else classes[label],
        label_source=label_source,
        confidence=confidence,
        targets=tuple(classes[index] for index in targets),
        outputs=outputs,
        prepared=prepared or {},
        judged=verdict.judged if verdict else None,
        judged_wrong=verdict.wrong if verdict else (),
        left_out=verdict.left_out if verdict else (),
    )


def _target_indices(targets: tuple[str, ...], spec: ModelSpec) -> tuple[int, ...]:
    if not targets:
        return tuple(range(spec.num_classes))
    indices = [require_class(name, spec.classes, what="--targets") for name in targets]
    return tuple(sorted(set(indices)))


def _manifest_name(shard: tuple[int, int] | None) -> str:
    return "manifest.jsonl" if shard is None else f"manifest-{shard[0]}-of-{shard[1]}.jsonl"


def _folder_name(class_name: str) -> str:
    """A class name as the name of one folder, whatever characters it has."""
    name = "".join("_" if char in '/\\:*?"<>|\0' or ord(char) < 32 else char for char in class_name)
    return f"_{name}" if name.strip(". ") == "" else name


def _folder_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """A folder for each class; those whose names would be one, also to macOS or Windows, are numbered."""
    names: list[str] = []
    for wanted in map(_folder_name, classes):
        taken, name, serial = {name.casefold() for name in names}, wanted, 2
        while name.casefold() in taken:
            name, serial = f"{wanted}-{serial}", serial + 1
        names.append(name)
    return tuple(names)


def _printable(path: str) -> str:
    """A path as text that can be encoded, also where the file's name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
