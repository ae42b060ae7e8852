"""One image at a time in, one batch at a time out: the steps of a run, with the model loaded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from cvae_cli import storage
from cvae_cli.errors import CvaeError, ImageError, UnreachableError
from cvae_cli.images.discover import ImageRef
from cvae_cli.images.load import load_image, read_image
from cvae_cli.images.naming import printable
from cvae_cli.images.output import OutputFolder, is_source
from cvae_cli.images.png import provenance_in, read_provenance
from cvae_cli.model import registry
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.batch import LoadedItem, RelabelledItem, relabel_batch
from cvae_cli.relabelling.earlier import EarlierRuns, Outputs, recorded_outcome
from cvae_cli.relabelling.labels import Label
from cvae_cli.relabelling.parts import EarlierParts, recorded_in_part
from cvae_cli.relabelling.plan import RelabelPlan
from cvae_cli.relabelling.render import OWN_CLASS, Rendered, render
from cvae_cli.relabelling.resume import finished_outcome
from cvae_cli.storage import RemotePath

if TYPE_CHECKING:
    from cvae_cli.inference.relabeller import Relabeller
    from cvae_cli.judge.predict import Judge

OWN_PICTURE = "a grid or sheet that cvae drew"


@dataclass(frozen=True)
class IdentifiedItem:
    """An image that there is something to do for, as it was read.

    Attributes:
        ref: the image.
        content: the bytes of its file.
        label: its own label; ``None`` leaves it to the model's classifier.
        fingerprint: of everything that decides its pictures.
        outcome: what is known of it so far.
    """

    ref: ImageRef
    content: bytes
    label: Label | None
    fingerprint: str
    outcome: ImageOutcome


class Before:
    """What there was before a run began."""

    def __init__(self, plan: RelabelPlan, *, look: bool = True) -> None:
        """Look at a plan's output folder, or, where all that is left to do is known, only at its files.

        Raises:
            UserError: its Parquet files are not of this plan.
        """
        self.outputs = Outputs(plan.out)
        self.parts = EarlierParts(plan.out, plan.spec.classes) if plan.parquet and look else None
        # Where everything is to be done again, earlier runs do not matter.
        self.runs = EarlierRuns(plan.out) if look and not (plan.overwrite or plan.parquet) else None

    @property
    def has_finished(self) -> bool:
        """Whether there may be images that are known to be finished."""
        if self.parts is not None:
            return bool(self.parts.found)
        return self.runs is not None and self.runs.count > 0

    def close(self, *, complete: bool = True, changed: bool = True) -> None:
        """Let go of the manifests and parts.

        Args:
            complete: whether the run has come to all images; else what it did not come to is kept.
            changed: whether it has written anything; else nothing is written here either.

        Raises:
            OutputError: a part cannot be written.
        """
        if self.runs is not None:
            if changed:
                self.runs.keep_rest(complete=complete)
            self.runs.close()
        if self.parts is not None:
            try:
                if changed:
                    self.parts.remove_stale()
            finally:
                self.parts.close()


def identify(plan: RelabelPlan, ref: ImageRef, before: Before) -> IdentifiedItem | ImageOutcome:
    """Read an image and tell whether there is anything to do; if not, its final outcome.

    What earlier runs say is finished is not even read.
    """
    if (known := _known(ref)) is not None:
        return known
    outcome = ImageOutcome(ref.relative, ref.source)
    try:
        # Before it is read: if it changes meanwhile, the next run reads it again.
        version = ref.version or storage.version_of(ref.file)
        if (done := recorded(plan, ref, before, version)) is not None:
            return done
        content = read_image(ref.file)
        provenance = provenance_in(io.BytesIO(content))
        if provenance is not None and "target" not in provenance:
            return outcome.skipped(OWN_PICTURE)
        label = plan.rule.label_of(ref, provenance)
        sha256 = hashlib.sha256(content).hexdigest()
        fingerprint = plan.fingerprint(ref, sha256, label)
        outcome = outcome.updated(version=version or None, sha256=sha256, fingerprint=fingerprint)
        if not plan.overwrite:
            if before.parts is not None:
                done = recorded_in_part(plan, ref, before.parts, fingerprint=fingerprint)
            else:
                done = finished_outcome(plan, ref, outcome, label, fingerprint, before.outputs)
            if done is not None:
                return done
    except (ImageError, UnreachableError, MemoryError) as error:
        return outcome.failed(_reason(error))
    if label is None and plan.rule.source == "auto" and (near := plan.rule.near_miss(ref)):
        outcome = outcome.updated(warnings=(f"its folder is not a class; did you mean {near}?",))
    if label is not None:
        outcome = outcome.updated(label=plan.spec.classes[label.index], label_source=label.source)
        if not plan.targets_of(label.index):
            return outcome.skipped(OWN_CLASS)
    return IdentifiedItem(ref, content, label, fingerprint, outcome)


def with_known_outcomes(
    plan: RelabelPlan, images: Iterable[ImageRef], before: Before
) -> Iterator[ImageRef | ImageOutcome]:
    """The images, replaced by their outcomes where these are known without reading anything."""
    for ref in images:
        done = _known(ref)
        # A list does not tell the versions of images of a store; to ask for each is not for this thread.
        if done is None and (ref.version or not isinstance(ref.file, RemotePath)):
            with suppress(UnreachableError):  # whoever loads the image will say so
                done = recorded(plan, ref, before)
        yield ref if done is None else done


def _known(ref: ImageRef) -> ImageOutcome | None:
    """What was known of an image as it was found: that it is not tried, or cannot be used."""
    outcome = ImageOutcome(ref.relative, ref.source)
    if ref.passed_over:
        return outcome.skipped(ref.passed_over)
    return outcome.failed(ref.problem) if ref.problem else None


def recorded(
    plan: RelabelPlan, ref: ImageRef, before: Before, version: str | None = None
) -> ImageOutcome | None:
    """The outcome of an image that manifests say is finished, without reading it; else ``None``."""
    if plan.overwrite or not before.has_finished:
        return None
    version = version or ref.version or storage.version_of(ref.file)
    if before.parts is not None:
        return recorded_in_part(plan, ref, before.parts, version=version or "")
    assert before.runs is not None
    return recorded_outcome(plan, ref, version or "", before.runs, before.outputs)


def load(plan: RelabelPlan, ref: ImageRef, before: Before) -> LoadedItem | ImageOutcome:
    """Read, decode and prepare an image; or its final outcome, if there is nothing to draw."""
    found = identify(plan, ref, before)
    if isinstance(found, ImageOutcome):
        return found
    try:
        image = load_image(found.content, plan.spec, invert=plan.invert, fit=plan.fit)
    except (ImageError, MemoryError) as error:
        prepared = error.preprocessing if isinstance(error, ImageError) else {}
        return found.outcome.updated(prepared=prepared).failed(_reason(error))
    outcome = found.outcome.updated(
        prepared=image.preprocessing.to_dict(),
        warnings=(*found.outcome.warnings, *image.warnings),
    )
    return LoadedItem(ref, image, found.label, found.fingerprint, outcome)


def commit(
    plan: RelabelPlan, folder: OutputFolder, ref: ImageRef, rendered: Rendered, outputs: Outputs
) -> ImageOutcome:
    """Write an image's files; the one step that changes anything.

    Raises:
        OutputError: the output folder cannot be written.
    """
    try:
        for name in rendered.outputs:
            if outputs.may_have(name):
                plan.check_replaceable(ref, name)
        # Before the first file is written: an image counts as finished as soon as all others exist.
        _remove_obsolete(plan, ref, rendered, outputs)
        for name, content in rendered.files:
            folder.write(name, content)
    except (ImageError, UnreachableError) as error:
        return rendered.outcome.unjudged().failed(str(error))
    return rendered.outcome


def _remove_obsolete(plan: RelabelPlan, ref: ImageRef, rendered: Rendered, outputs: Outputs) -> None:
    """Delete tiles of an earlier run that this one would not have written, unless they are its sources."""

    def remove(name: str) -> None:
        file = plan.out / name
        if not storage.is_same_file(file, ref.file) and not is_source(file, plan.sources, plan.out):
            storage.remove(file)

    if rendered.wrong_label is not None and outputs.may_have(rendered.wrong_label):
        drawn_from = (read_provenance(plan.out / rendered.wrong_label) or {}).get("source")
        if drawn_from == printable(ref.relative):
            remove(rendered.wrong_label)
    for name in rendered.left_out:
        if outputs.may_have(name) and read_provenance(plan.out / name) is not None:
            remove(name)


class _Copy(NamedTuple):
    """Model and judge on one device."""

    relabeller: Relabeller
    judge: Judge | None


class Worker:
    """A plan with its model and judge, on each device of its own: what one process holds.

    They are loaded, and torch with them, when they are first needed: a run in which all is finished does not.
    """

    def __init__(
        self,
        plan: RelabelPlan,
        folder: OutputFolder,
        before: Before,
        *,
        device: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            plan: of the run.
            folder: where it writes, already created.
            before: what was there.
            device: as ``--device``; where there are several GPUs and none is named, all of them.
            batch_size: images per batch; ``None`` chooses by the device.
        """
        self.plan = plan
        self.folder = folder
        self.before = before
        self.device, self.batch_size = device, batch_size
        self._idle: SimpleQueue[_Copy] = SimpleQueue()

    @cached_property
    def copies(self) -> list[_Copy]:
        """Model and judge on each device, loaded the first time that they are asked for.

        Raises:
            WeightsError: a weights file is damaged.
            UserError: no such device, or a precision that it does not support.
        """
        from cvae_cli.model.device import all_devices

        copies = [self._load_copy(each) for each in all_devices(self.device)]
        for copy in copies:
            self._idle.put(copy)
        return copies

    def check(self) -> None:
        """Find out what is wrong with options and weights, before anything is written.

        Raises:
            WeightsError: a weights file is damaged.
            UserError: no such device, or a precision that it does not support.
        """
        plan = self.plan
        if not self.before.has_finished or self.device not in ("auto", "cpu") or plan.precision == "fp16":
            _ = self.copies
            return
        # If everything may be finished already, only what can be checked without torch.
        for file in (plan.model_file, plan.judge_file):
            if file is not None:
                registry.read_content(file, registry.read_metadata(file))

    @property
    def used_precision(self) -> str | None:
        """What the model has computed in, in words; ``None`` if it has not been loaded."""
        return self.relabeller.described_precision if "copies" in self.__dict__ else None

    @property
    def relabeller(self) -> Relabeller:
        """The model on the first device."""
        return self.copies[0].relabeller

    def _load_copy(self, device: str) -> _Copy:
        from cvae_cli.inference.relabeller import Relabeller
        from cvae_cli.judge.predict import Judge

        plan = self.plan
        relabeller = Relabeller(
            plan.model_file, device=device, precision=plan.precision, batch_size=self.batch_size
        )
        judge = None
        if plan.judge_file is not None:
            # All tiles of a batch at once: one shape for the whole run.
            tiles = relabeller.batch_size * max(1, plan.max_targets)
            judge = Judge(plan.judge_file, device=device, batch_size=tiles)
        return _Copy(relabeller, judge)

    def load(self, ref: ImageRef) -> LoadedItem | ImageOutcome:
        """See :func:`load`."""
        return load(self.plan, ref, self.before)

    def load_all(self, items: Sequence[ImageRef | ImageOutcome]) -> list[LoadedItem | ImageOutcome]:
        """Load the images among these; what is final already stays as it is."""
        return [item if isinstance(item, ImageOutcome) else self.load(item) for item in items]

    def draw(self, items: Sequence[LoadedItem | ImageOutcome]) -> list[RelabelledItem | ImageOutcome]:
        """Draw the loaded images among these, in one batch; what is final already stays as it is."""
        loaded = [item for item in items if isinstance(item, LoadedItem)]
        with self._copy() as copy:
            drawn = iter(relabel_batch(self.plan, *copy, loaded) if loaded else ())
        return [next(drawn) if isinstance(item, LoadedItem) else item for item in items]

    @contextmanager
    def _copy(self) -> Iterator[_Copy]:
        """The only copy, which threads share; of several, one that no other thread uses."""
        if len(self.copies) == 1:
            yield self.copies[0]
            return
        copy = self._idle.get()
        try:
            yield copy
        finally:
            self._idle.put(copy)

    def write(self, drawn: RelabelledItem | ImageOutcome) -> ImageOutcome | Rendered:
        """Render and write the pictures of an image; as rows of a Parquet file they are not written yet."""
        if isinstance(drawn, ImageOutcome):
            return drawn
        rendered = render(self.plan, drawn)
        if self.plan.parquet:
            return rendered
        return commit(self.plan, self.folder, drawn.item.ref, rendered, self.before.outputs)

    def write_all(self, drawn: Sequence[RelabelledItem | ImageOutcome]) -> list[ImageOutcome | Rendered]:
        """:meth:`write` for each of these."""
        return [self.write(each) for each in drawn]

    def relabel(self, items: Sequence[ImageRef | ImageOutcome]) -> list[ImageOutcome | Rendered]:
        """Load, draw and write, in one thread and one batch."""
        return self.write_all(self.draw(self.load_all(items)))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, CvaeError) else "too large for the memory of this machine"
