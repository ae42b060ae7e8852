"""The folder of a training run: which one, what it holds, and whether a run may go on in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import OutputError, UserError, WeightsError
from cvae_cli.training.recipe import Recipe

CHECKPOINT = "last.ckpt"
WEIGHTS = "model.safetensors"
LOGS = "logs"
_DESCRIPTION = "run.json"
_MAX_RUNS = 10_000


def choose_run_folder(name: str, *, resume: bool, runs: Path = Path("runs")) -> Path:
    """``runs/NAME``, or the next one that does not exist; with ``resume`` the latest that does.

    Raises:
        UserError: there is none to resume.
    """
    candidates = [runs / name, *(runs / f"{name}-{number}" for number in range(2, _MAX_RUNS))]
    free = next(number for number, folder in enumerate(candidates) if not storage.exists(folder))
    if not resume:
        return candidates[free]
    if not free:
        raise UserError(f"there is no run of {name} in {runs}/ to resume; leave out --resume.")
    return candidates[free - 1]


def describe_run(data_set: str, seed: int, recipe: Recipe, start: str | None = None) -> dict[str, Any]:
    """What must not change when a run is resumed, as ``run.json`` holds it.

    Args:
        data_set: name or folder.
        seed: of the run.
        recipe: of the run.
        start: sha256 of the weights that it goes on from, if any.
    """
    begun = {} if start is None else {"from": start}
    return {"data": data_set, "seed": seed, **begun, "recipe": recipe.to_dict()}


def check_run_folder(folder: Path, description: dict[str, Any], *, resume: bool) -> None:
    """Check that a run may start, or go on, in a folder.

    Raises:
        UserError: the folder is not empty, or holds no run or another one.
    """
    if not resume:
        if storage.exists(folder) and not storage.is_empty_folder(folder):
            raise UserError(
                f"{folder} is not empty: add --resume to continue that run, or name another --out."
            )
        return
    if not storage.is_folder(folder):
        raise UserError(f"{folder}: there is no such run to resume; leave out --resume.")
    try:
        found = json.loads(storage.read_text(folder / _DESCRIPTION))
    except (OSError, ValueError):
        raise UserError(f"{folder}: not a run folder of cvae train (no valid {_DESCRIPTION}).") from None
    # Through JSON, so that tuples and lists compare equal.
    wanted = json.loads(json.dumps(description))
    if isinstance(found, dict) and _is_same_data(str(found.get("data", "")), wanted["data"]):
        wanted["data"] = found["data"]
        found["recipe"] = _as_now(found.get("recipe"))
    if found == wanted:
        return
    if isinstance(found, dict) and found == {**wanted, "recipe": _with_eyes_of(found, wanted["recipe"])}:
        was = "with" if _eyes_of(found["recipe"]) == "imagenet" else "without"
        raise UserError(
            f"{folder}: this run was started {was} the extra [photographs], and can only go on likewise."
        )
    raise UserError(
        f"{folder}: this run was started with other data, another seed, batch size, learning rate, --from, "
        "--distill or recipe, or by an earlier version; repeat its command, with --resume added."
    )


def _as_now(recipe: Any) -> Any:
    """A recipe of an earlier version with what has been added since, which changes nothing by default."""
    try:
        return json.loads(json.dumps(Recipe.from_dict(recipe).to_dict()))
    except (WeightsError, TypeError, KeyError, AttributeError):
        return recipe


def _eyes_of(recipe: Any) -> str:
    """Through which features the discriminators of a recipe, as a dict, see."""
    return str(recipe["discriminator"]["eyes"])


def _with_eyes_of(found: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with the eyes of another one."""
    try:
        eyes = _eyes_of(found["recipe"])
    except (KeyError, TypeError):
        return recipe
    return {**recipe, "discriminator": {**recipe["discriminator"], "eyes": eyes}}


def _is_same_data(one: str, other: str) -> bool:
    """Whether two names of a data set are spellings of one folder."""
    return one == other or (bool(one) and storage.is_same_file(Path(one), Path(other)))


def create_run_folder(folder: Path, description: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of a new run, with its description.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        storage.make_folder(folder)
        if not resume:
            text = json.dumps(description, indent=2) + "\n"
            storage.write_new_file(folder / _DESCRIPTION, text.encode())
    except FileExistsError:
        raise UserError(f"{folder}: another run has just been started there; name another --out.") from None
    except OSError as error:
        raise OutputError(f"{folder}: the run folder cannot be written: {error.strerror or error}") from error
