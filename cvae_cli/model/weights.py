"""Weights on disk: ``NAME.safetensors`` with its ``NAME.json``, checked before they are used.

Reading metadata needs no torch, so that ``cvae models`` answers at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cvae_cli.errors import UnknownModelError, WeightsError
from cvae_cli.model.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from cvae_cli.model.network import ConditionalVAE

    Network = TypeVar("Network", bound=nn.Module)

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
"""The kind of weights that draw; a file without a kind is of this one."""


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

    file: Path
    name: str
    spec: ModelSpec
    sha256: str
    raw: dict[str, Any]

    @property
    def ignores_label(self) -> bool:
        """Whether training measured that the label changes next to nothing, or to no purpose."""
        return ignores_label(self.spec.num_classes, self.raw["metrics"])


def ignores_label(classes: int, metrics: dict[str, Any]) -> bool:
    """Whether a model's pictures hardly differ between labels, or hardly follow them.

    Args:
        classes: how many there are.
        metrics: ``label_effect`` in grey levels, below 1 of which nothing is to be seen; and
            ``effectiveness``, which has to be a quarter of the way from chance to all. What is
            missing is not held against the model.
    """
    floors = {"label_effect": 1.0, "effectiveness": 0.25 + 0.75 / classes}
    return any(
        isinstance(metrics.get(name), (int, float)) and metrics[name] < floor
        for name, floor in floors.items()
    )


def shipped(kind: str | None = MODEL) -> dict[str, Path]:
    """The weights of a kind (``None``: all) that come with the package: name to file, sorted."""
    # A checkout that is not installed has them beside the package, not in it.
    package = importlib.util.find_spec("cvae_cli.weights")
    beside = Path(__file__).parents[2] / "weights"
    folder = Path(package.origin).parent if package and package.origin else beside
    files = sorted(folder.glob("*.safetensors"))
    return {file.stem: file for file in files if kind in (None, read_metadata(file).get("kind", MODEL))}


def resolve(model: str) -> Path:
    """The weights file of ``--model``: a shipped name, or a path.

    Raises:
        UnknownModelError: neither; the message lists the names there are.
    """
    known = shipped()
    if model in known:
        return known[model]
    path = Path(model)
    # os.path, unlike Path, answers False for a name that cannot be.
    if path.suffix == ".json":
        path = path.with_suffix(".safetensors")
    if os.path.isdir(path):  # noqa: PTH112
        path = path / "model.safetensors"
    if os.path.isfile(path):  # noqa: PTH113
        return path
    names = ", ".join(known) or "none"
    raise UnknownModelError(
        f"no model {model!r}: shipped with cvae: {names}. For a model of your own, name its "
        ".safetensors file or the run folder that cvae train wrote."
    )


def read_metadata(file: Path, kind: str | None = None) -> dict[str, Any]:
    """Read and check the JSON beside a weights file, all but its spec.

    Args:
        file: the ``.safetensors`` file; it is not read beyond its first bytes.
        kind: what it must be; ``None`` for any.

    Raises:
        WeightsError: no JSON, one that does not follow the schema, or another kind of weights.
    """
    _refuse_pickle(file)
    beside = file.with_suffix(".json")
    try:
        raw = json.loads(beside.read_text(encoding="utf-8"))
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
            f"{beside}: format version {raw.get('format_version')!r}; this cvae reads "
            f"version {FORMAT_VERSION}."
        )
    for key, wanted in _REQUIRED.items():
        if key not in raw:
            raise WeightsError(f"{beside}: {key!r} is missing.")
        if not isinstance(raw[key], wanted) or isinstance(raw[key], bool):
            raise WeightsError(f"{beside}: {key!r} has the wrong type.")
    found = raw.get("kind", MODEL)
    if kind is not None and found != kind:
        raise WeightsError(f"{file}: this is a {found}, where a {kind} is wanted.")
    return raw


def read_card(file: Path) -> ModelCard:
    """Read and check the metadata of a model; the weights themselves are not opened.

    Raises:
        WeightsError: as :func:`read_metadata`, or a spec that is none.
    """
    raw = read_metadata(file, MODEL)
    try:
        spec = ModelSpec.from_dict(raw["spec"])
    except WeightsError as error:
        raise WeightsError(f"{file.with_suffix('.json')}: {error}") from error
    return ModelCard(file, raw["name"], spec, raw["sha256"], raw)


def _refuse_pickle(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from error
    # The length of a safetensors header may begin with the same bytes; its JSON follows.
    if (head[:2] == b"PK" or head[:1] == b"\x80") and head[8:] != b"{":
        raise WeightsError(
            f"{file}: this is a pickle (a torch.save file or a checkpoint), which could run any code "
            "when it is opened; cvae reads safetensors only, such as the model.safetensors of a run."
        )


def load(file: Path) -> tuple[ConditionalVAE, ModelCard]:
    """Load a model, after checking schema, size, sha256, and every key and shape, in this order.

    Args:
        file: a ``.safetensors`` file with its JSON beside it.

    Returns:
        The network in evaluation mode, fp32, on the CPU; and its metadata.

    Raises:
        WeightsError: the first check that fails. Nothing is ever unpickled.
    """
    card = read_card(file)

    def build() -> ConditionalVAE:
        from cvae_cli.model.network import ConditionalVAE

        return ConditionalVAE(card.spec)

    return load_network(file, card.raw, build), card


def load_network(file: Path, raw: dict[str, Any], build: Callable[[], Network]) -> Network:
    """Fill a network with the tensors of a file, each of them checked before one is used.

    Args:
        file: a ``.safetensors`` file.
        raw: its metadata, from :func:`read_metadata`.
        build: makes the network that the metadata describes.

    Returns:
        The network in evaluation mode, fp32, on the CPU.

    Raises:
        WeightsError: size, sha256, a key or a shape is not what it should be.
    """
    content = file.read_bytes()
    if len(content) != raw["bytes"]:
        raise WeightsError(
            f"{file}: {len(content)} bytes, but its metadata says {raw['bytes']}: "
            "the file is incomplete or belongs to another JSON."
        )
    if hashlib.sha256(content).hexdigest() != raw["sha256"]:
        raise WeightsError(f"{file}: its sha256 is not the one in its metadata; fetch or export it again.")

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{file}: not a valid safetensors file: {error}") from error
    # On the meta device, which holds shapes only: a spec of absurd sizes allocates nothing.
    with torch.device("meta"):
        network = build()
    wanted = {name: tuple(value.shape) for name, value in _kept(network).items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise WeightsError(f"{file}: tensor {name!r} is missing.")
        if name not in wanted:
            raise WeightsError(f"{file}: tensor {name!r} is not part of this architecture.")
        if wanted[name] != found[name]:
            raise WeightsError(
                f"{file}: tensor {name!r} has shape {found[name]}, the spec asks for {wanted[name]}."
            )
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise WeightsError(f"{file}: tensor {name!r} holds values that are not finite numbers.")
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return network.eval()


def _kept(network: nn.Module) -> dict[str, Any]:
    """The tensors of a network that its file holds.

    All but the counts of batch normalisation, which only training reads and half precision cannot hold;
    a network that is filled begins them anew.
    """
    tensors = network.state_dict().items()
    return {name: value for name, value in tensors if not name.endswith("num_batches_tracked")}


def export(
    network: nn.Module,
    file: Path,
    *,
    spec: dict[str, Any],
    name: str,
    data_set: str,
    metrics: dict[str, float],
    train_command: str,
    versions: dict[str, str],
    training: dict[str, Any],
    licence: str,
    kind: str = MODEL,
) -> dict[str, Any]:
    """Write a network's weights in half precision, and the JSON beside them.

    Both files appear whole or not at all, the JSON last.

    Args:
        network: the network; fp16 is what it is stored in.
        file: where the ``.safetensors`` goes.
        spec: what builds the network again, as JSON takes it.
        name: what it is called.
        data_set: what it was trained on.
        metrics: figures measured on images that it was not trained on.
        train_command: the exact command that made it.
        versions: of the libraries that made it.
        training: the recipe, and whatever else tells how it came about.
        licence: of the weights.
        kind: what the network does.

    Returns:
        The metadata that was written.
    """
    import torch
    from safetensors.torch import save as save_tensors

    tensors = {
        key: value.detach().to("cpu", torch.float16).contiguous() for key, value in _kept(network).items()
    }
    content = save_tensors(tensors)
    raw = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "name": name,
        "spec": spec,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(value.numel() for value in tensors.values()),
        "data_set": data_set,
        "metrics": {key: round(value, 5) for key, value in metrics.items()},
        "train_command": train_command,
        "versions": versions,
        "licence": licence,
        "training": training,
    }
    _replace(file, content)
    _replace(file.with_suffix(".json"), (json.dumps(raw, indent=2) + "\n").encode())
    return raw


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
