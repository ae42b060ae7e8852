"""Which models there are and what their metadata says; needs no torch, so that it answers at once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import UnknownModelError, WeightsError, did_you_mean
from cvae_cli.model.spec import ModelSpec
from cvae_cli.storage import Location

FORMAT_VERSION = 1
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "name": str,
    "spec": dict,
    "sha256": str,
    "bytes": int,
    "parameters": int,
    "data_set": str,
    "metrics": dict,
    "train_command": str,
    "versions": dict,
    "licence": str,
}
MODEL = "model"
"""The ``kind`` of weights that draw; a file without a kind is one of these."""


@dataclass(frozen=True)
class ModelCard:
    """The metadata of a weights file.

    Attributes:
        file: the ``.safetensors`` file.
        name: what the model is called.
        spec: what builds the network and prepares its input.
        sha256: of the weights file, in hexadecimal.
        raw: the whole JSON.
    """

    file: Location
    name: str
    spec: ModelSpec
    sha256: str
    raw: dict[str, Any]

    @property
    def ignores_label(self) -> bool:
        """Whether, as training measured it, the label hardly changes what is drawn."""
        return ignores_label(self.spec.num_classes, self.raw["metrics"])


def ignores_label(num_classes: int, metrics: dict[str, Any]) -> bool:
    """Whether a model's tiles hardly differ between labels, or hardly follow them.

    Args:
        num_classes: how many classes there are.
        metrics: ``label_effect`` in grey levels, of which less than 1 cannot be seen; and
            ``effectiveness``, which must be a quarter of the way from chance to 1. A missing metric
            is not held against the model.
    """
    floors = {"label_effect": 1.0, "effectiveness": 0.25 + 0.75 / num_classes}
    return any(
        isinstance(metrics.get(name), (int, float)) and metrics[name] < floor
        for name, floor in floors.items()
    )


def shipped(kind: str | None = MODEL) -> dict[str, Path]:
    """The weights of a kind (``None``: all) that come with the package: name to file, sorted."""
    try:
        folder = Path(str(resources.files("cvae_cli.weights")))
    except ModuleNotFoundError:
        # A checkout that is not installed has them beside the package, not in it.
        folder = Path(__file__).parents[2] / "weights"
    names = [name for name, _ in storage.list_folder(folder) if name.endswith(".safetensors")]
    files = {name.removesuffix(".safetensors"): folder / name for name in names}
    return {name: file for name, file in files.items() if kind is None or _kind_of(file) == kind}


def _kind_of(file: Location) -> str | None:
    """The kind of shipped weights; ``None`` if they are damaged, which must not spoil the others."""
    try:
        return str(read_metadata(file).get("kind", MODEL))
    except WeightsError:
        return None


def resolve(model: str) -> Location:
    """The weights file of ``--model``: a shipped name, or a path.

    Raises:
        UnknownModelError: neither; the message lists the shipped names.
    """
    known = shipped()
    if model in known:
        return known[model]
    if (file := shipped(None).get(model)) and _kind_of(file) is None:
        return file  # damaged, as whoever reads it will say
    path = storage.locate(model)
    if path.suffix == ".json":
        path = path.with_suffix(".safetensors")
    if storage.is_folder(path):
        path = path / "model.safetensors"
    if storage.is_file(path):
        return path
    names = ", ".join(known) or "none"
    raise UnknownModelError(
        f"no model {storage.shown(model)!r}.{did_you_mean(model, known)} Models shipped with cvae: {names}. "
        "For a model of your own, give its .safetensors file or the run folder that cvae train wrote."
    )


def read_metadata(file: Location, kind: str | None = None) -> dict[str, Any]:
    """Read and check the JSON beside a weights file, all but its spec.

    Args:
        file: the ``.safetensors`` file; only its first bytes are read.
        kind: the kind of weights it must hold; ``None`` for any.

    Raises:
        WeightsError: no JSON, one that does not follow the schema, or another kind of weights.
    """
    _refuse_pickle(file)
    beside = file.with_suffix(".json")
    try:
        raw = json.loads(storage.read_text(beside))
    except FileNotFoundError:
        raise WeightsError(f"{file}: its metadata {beside.name} is missing beside it.") from None
    except OSError as error:
        raise WeightsError(f"{beside}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{beside}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise WeightsError(f"{beside}: not a JSON object.")
    if raw.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{beside}: format version {raw.get('format_version')!r}; this version of cvae reads "
            f"version {FORMAT_VERSION}."
        )
    for key, wanted in _REQUIRED.items():
        if key not in raw:
            raise WeightsError(f"{beside}: {key!r} is missing.")
        if not isinstance(raw[key], wanted) or isinstance(raw[key], bool):
            raise WeightsError(f"{beside}: {key!r} has the wrong type.")
    found = raw.get("kind", MODEL)
    if kind is not None and found != kind:
        raise WeightsError(f"{file}: this is a {found}, but a {kind} is needed.")
    return raw


def read_card(file: Location) -> ModelCard:
    """Read and check the metadata of a model; the weights themselves are not opened.

    Raises:
        WeightsError: as :func:`read_metadata`, or an invalid spec.
    """
    raw = read_metadata(file, MODEL)
    try:
        spec = ModelSpec.from_dict(raw["spec"])
    except WeightsError as error:
        raise WeightsError(f"{file.with_suffix('.json')}: {error}") from error
    return ModelCard(file, raw["name"], spec, raw["sha256"], raw)


def read_content(file: Location, raw: dict[str, Any]) -> bytes:
    """Read a weights file whole, checked against its metadata.

    Args:
        file: the ``.safetensors`` file.
        raw: its metadata, from :func:`read_metadata`.

    Raises:
        WeightsError: its size or its sha256 is not what it should be.
    """
    # Before it is read: a wrong file may be of any size.
    size = storage.size_of(file)
    if size != raw["bytes"]:
        raise WeightsError(
            f"{file}: {size} bytes, but its metadata says {raw['bytes']}: "
            "the file is incomplete or belongs to another JSON."
        )
    content = storage.read_bytes(file)
    if hashlib.sha256(content).hexdigest() != raw["sha256"]:
        raise WeightsError(f"{file}: its sha256 is not the one in its metadata; download or export it again.")
    return content


def _refuse_pickle(file: Location) -> None:
    try:
        head = storage.read_head(file, 9)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from error
    # The length of a safetensors header may begin with the same bytes, but then its JSON follows.
    if (head[:2] == b"PK" or head[:1] == b"\x80") and head[8:] != b"{":
        raise WeightsError(
            f"{file}: this is a pickle (a torch.save file or a checkpoint), which could run any code "
            "when it is opened. cvae reads only safetensors, such as the model.safetensors of a run."
        )
