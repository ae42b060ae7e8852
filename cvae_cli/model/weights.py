"""Tensors on disk: ``NAME.safetensors``, checked against ``NAME.json`` before a tensor is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cvae_cli import storage
from cvae_cli.errors import WeightsError
from cvae_cli.model.registry import FORMAT_VERSION, MODEL, ModelCard, read_card, read_content
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.storage import Location

Network = TypeVar("Network", bound=nn.Module)

_NAMES_IN_FILE = {
    "alignment.class_mean": "common.centre",
    "alignment.to_shared": "common.there",
    "alignment.from_shared": "common.back",
}
"""Tensors that weights files hold under another name than the network."""

_BANK = "bank."
"""Begins the names of what a judge compares images with, which are no parameters."""


def load(file: Location) -> tuple[ConditionalVAE, ModelCard]:
    """Load a model, after checking schema, size, sha256, and every key and shape, in this order.

    Args:
        file: a ``.safetensors`` file with its JSON beside it.

    Returns:
        The network in evaluation mode, fp32, on the CPU; and its metadata.

    Raises:
        WeightsError: the first check that fails. Nothing is ever unpickled.
    """
    card = read_card(file)
    return load_network(file, card.raw, lambda: ConditionalVAE(card.spec)), card


def load_network(file: Location, raw: dict[str, Any], build: Callable[[], Network]) -> Network:
    """Fill a network with the tensors of a file, all of which are checked before one is used.

    Args:
        file: a ``.safetensors`` file.
        raw: its metadata, from :func:`cvae_cli.model.registry.read_metadata`.
        build: makes the network that the metadata describes.

    Returns:
        The network in evaluation mode, fp32, on the CPU.

    Raises:
        WeightsError: size, sha256, a key or a shape is not what it should be.
    """
    try:
        tensors = load_tensors(read_content(file, raw))
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{file}: not a valid safetensors file: {error}") from error
    # The meta device holds shapes only: a spec of absurd sizes allocates nothing.
    with torch.device("meta"), _WithoutInitialisation():
        network = build()
    expected = {_name_in_file(name): (name, value) for name, value in _stored_tensors(network).items()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise WeightsError(f"{file}: tensor {name!r} is missing.")
        if name not in expected:
            raise WeightsError(f"{file}: tensor {name!r} is not part of this architecture.")
        found, wanted = tuple(tensors[name].shape), tuple(expected[name][1].shape)
        if wanted != found:
            raise WeightsError(f"{file}: tensor {name!r} has shape {found}, but the spec asks for {wanted}.")
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise WeightsError(f"{file}: tensor {name!r} holds values that are not finite numbers.")
    filled = {name: tensors[stored].float() for stored, (name, _) in expected.items()}
    network.load_state_dict(filled, assign=True)
    return network.eval()


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves out the initial weights of layers, which are replaced anyway.

    Drawing them on the meta device imports torch's compiler: a second, for nothing.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def _stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network that its file holds.

    All but the batch counts of batch normalisation, which only training reads and half precision
    cannot hold.
    """
    tensors = network.state_dict().items()
    return {name: value for name, value in tensors if not name.endswith("num_batches_tracked")}


def _name_in_file(name: str) -> str:
    return _NAMES_IN_FILE.get(name, name)


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
        network: the network; it is stored as fp16.
        file: where the ``.safetensors`` goes.
        spec: what builds the network again, as JSON takes it.
        name: what it is called.
        data_set: what it was trained on.
        metrics: measured on images that it was not trained on.
        train_command: the exact command that made it.
        versions: of the libraries that made it.
        training: the recipe, and whatever else tells how it was made.
        licence: of the weights.
        kind: what the network does.

    Returns:
        The metadata that was written.

    Raises:
        OutputError: a file cannot be written.
    """
    tensors = {
        _name_in_file(key): value.detach().to("cpu", torch.float16).contiguous()
        for key, value in _stored_tensors(network).items()
    }
    content = save_tensors(tensors)
    raw = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "name": name,
        "spec": spec,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(value.numel() for key, value in tensors.items() if not key.startswith(_BANK)),
        "data_set": data_set,
        "metrics": {key: round(value, 5) for key, value in metrics.items()},
        "train_command": train_command,
        "versions": versions,
        "licence": licence,
        "training": training,
    }
    storage.write_file(file, content)
    storage.write_file(file.with_suffix(".json"), (json.dumps(raw, indent=2) + "\n").encode())
    return raw
