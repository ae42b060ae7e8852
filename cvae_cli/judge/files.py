"""Which judge belongs to a model, and whether it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import UserError, WeightsError
from cvae_cli.judge.spec import JudgeSpec
from cvae_cli.model import registry
from cvae_cli.model.registry import ModelCard
from cvae_cli.storage import Location

KIND = "judge"
"""The ``kind`` of a judge's weights."""
NO_BANK = (
    "this judge has no bank of real images to compare tiles with; delete it and run cvae evaluate, which "
    "trains one that has."
)


def read_judge(file: Location) -> tuple[dict[str, Any], JudgeSpec]:
    """Read and check the metadata of a judge; the weights themselves are not opened.

    Raises:
        WeightsError: no valid metadata, or not of a judge.
    """
    raw = registry.read_metadata(file, KIND)
    try:
        return raw, JudgeSpec.from_dict(raw["spec"])
    except WeightsError as error:
        raise WeightsError(f"{file.with_suffix('.json')}: {error}") from error


def judge_of(card: ModelCard, data: str | None = None) -> Location:
    """Where the judge of a model is, or would be: the shipped one, or beside the model's file.

    Args:
        card: of the model.
        data: the data set to judge by; ``None`` for the one that the model was trained on.
    """
    data = data or str(card.raw["data_set"])
    if registry.shipped().get(card.name) == card.file:
        data = Path(data).name  # a shipped model may have been trained on a folder
    shipped = registry.shipped(KIND).get(f"{data}-judge")
    # A folder of one's own may be called as a data set is; its images are of another size, or other classes.
    if shipped is not None and _takes(read_judge(shipped)[1], card):
        return shipped
    return card.file.with_name("judge.safetensors")


def _takes(judge: JudgeSpec, card: ModelCard) -> bool:
    """Whether a judge takes what a model draws."""
    theirs = card.spec
    wanted = (theirs.classes, theirs.image_size, theirs.channels)
    return (judge.classes, judge.image_size, judge.channels) == wanted


def find_judge(card: ModelCard) -> Location:
    """The judge of a model, checked to fit it.

    Raises:
        UserError: there is none, or it does not fit; the message says how to make one.
    """
    file = judge_of(card)
    if not storage.exists(file):
        raise UserError(
            f"no judge for the data set {card.raw['data_set']!r} of {card.name}: run cvae evaluate once, "
            f"which trains one and keeps it as {file}."
        )
    check_fits(file, card, card.raw["data_set"])
    return file


def check_fits(file: Location, card: ModelCard, data: str) -> None:
    """Check that a judge was trained on a data set and takes what a model draws.

    Raises:
        UserError: it was not, or does not.
    """
    raw, ours = read_judge(file)
    theirs, remedy = card.spec, "name another one with --judge, or delete it to have one trained."
    # A folder of one's own may be named in several ways, and moved.
    if Path(raw["data_set"]).name != Path(data).name:
        raise UserError(f"{file}: this is a judge of {raw['data_set']!r}, not of {data!r}; {remedy}")
    if not _takes(ours, card):
        raise UserError(
            f"{file}: this judge does not fit {card.name}: it takes {_describe(ours)}, but the model draws "
            f"{_describe(theirs)}; {remedy}"
        )


def _describe(spec: Any) -> str:
    kind = "grey" if spec.channels == 1 else "RGB"
    return f"{len(spec.classes)} classes ({', '.join(spec.classes[:3])} ...) at {spec.image_size} px {kind}"
