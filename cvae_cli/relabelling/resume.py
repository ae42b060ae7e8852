"""What an earlier run has finished: its pictures exist and their provenance matches."""

from __future__ import annotations

from typing import Any

from cvae_cli.images.discover import ImageRef
from cvae_cli.images.png import read_provenance
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.check import CheckResult
from cvae_cli.relabelling.earlier import FINISHED, Outputs
from cvae_cli.relabelling.labels import Label
from cvae_cli.relabelling.plan import RelabelPlan


def finished_outcome(
    plan: RelabelPlan,
    ref: ImageRef,
    outcome: ImageOutcome,
    label: Label | None,
    fingerprint: str,
    pictures: Outputs,
) -> ImageOutcome | None:
    """The outcome of an image that is finished, or ``None``.

    Args:
        plan: of the run.
        ref: the image.
        outcome: what is known of it so far.
        label: its own label; ``None`` where it has to be predicted.
        fingerprint: of everything that decides its pictures.
        pictures: that are there already.
    """
    # Without a label it is not known which target is the image's own: any picture will do to tell.
    recorded: dict[str, Any] = {}
    for name in plan.output_names(ref, plan.targets_of(label.index if label else None)):
        recorded = (read_provenance(plan.out / name) or {}) if pictures.may_have(name) else {}
        if recorded.get("fingerprint") == fingerprint:
            break
    index = recorded.get("label_index")
    if recorded.get("fingerprint") != fingerprint or not isinstance(index, int):
        return None
    targets = plan.targets_of(index)
    check = CheckResult.from_provenance(recorded)
    outputs = plan.outputs(ref, targets, left_out=check.left_out)
    for output in outputs:
        if (read_provenance(plan.out / output.path) or {}).get("fingerprint") != fingerprint:
            return None
    known = outcome.updated(
        label=plan.spec.classes[index],
        label_source=recorded.get("label_source"),
        confidence=recorded.get("confidence"),
        targets=plan.class_names(targets),
        outputs=outputs,
        prepared=recorded.get("prepared") or {},
        judged=check.judged,
        judged_wrong=check.wrong,
        judged_realism=check.realism,
        judged_odd=check.odd,
        left_out=check.left_out,
        warnings=tuple(recorded.get("warnings") or ()),
    )
    return known.skipped(FINISHED)
