"""Models as graphs that run without cvae: ONNX, and the archives of ``torch.export``.

Two graphs make a model. The first relabels::

    images   (N, C, H, W) uint8, of native size
    labels   (N,) int64, the images' own
    targets  (N, T) int64
    tiles    (N, T, C, H, W) uint8, of native size

and the second, beside it, reads labels::

    images         (N, C, H, W) uint8, of native size
    probabilities  (N, K) float32, of each class

Scaling, padding to the canvas and rounding to grey levels are part of them; N and T are free.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cvae_cli import __version__, storage
from cvae_cli.errors import UserError
from cvae_cli.model import weights
from cvae_cli.model.canvas import from_canvas, to_canvas
from cvae_cli.model.registry import ModelCard
from cvae_cli.model.vae import ConditionalVAE
from cvae_cli.storage import Location

FORMATS = ("onnx", "pt2")
OPSET = 18
"""Of ONNX: the one that torch's exporter writes without converting."""
_METADATA_FILE = "metadata.json"


class RelabelGraph(nn.Module):
    """What :meth:`cvae_cli.inference.relabeller.Relabeller.draw` computes, from tensor to tensor."""

    def __init__(self, model: ConditionalVAE) -> None:
        """Of a model, without its classifier."""
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.model.classifier = nn.Identity()

    def forward(self, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Tiles, (N, T, C, H, W) uint8; the arguments are those of the graph."""
        spec = self.model.spec
        latent = self.model.infer(to_canvas(images, spec.canvas_size), labels)
        return from_canvas(self.model.relabel(latent, labels, targets), spec.image_size)


class ClassifyGraph(nn.Module):
    """What :meth:`cvae_cli.inference.relabeller.Relabeller.classify` computes, for all classes."""

    def __init__(self, model: ConditionalVAE) -> None:
        """Of a model, with nothing but its classifier."""
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.model.encoder, self.model.decoder, self.model.tiles = nn.Identity(), nn.Identity(), None
        del self.model.alignment

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, (N, K) float32."""
        logits = self.model.classify(to_canvas(images, self.model.spec.canvas_size))
        return logits.softmax(dim=1)


def classifier_file(file: Path) -> Path:
    """Where the graph that reads labels goes: ``digits.onnx`` to ``digits.classifier.onnx``."""
    return file.with_name(f"{file.stem}.classifier{file.suffix}")


def export(
    model_file: Location, out: Path, *, format: str | None = None, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write the two graphs of a model.

    Args:
        model_file: a ``.safetensors`` file.
        out: where the first goes; the second goes beside it.
        format: ``onnx`` or ``pt2``; ``None`` goes by the suffix of ``out``.
        overwrite: replace files that are there.

    Returns:
        Both files.

    Raises:
        UserError: no known format, ``onnx`` without its extra, or a file is there already.
        WeightsError: the model's file is damaged.
        OutputError: a file cannot be written.
    """
    format = format or out.suffix.removeprefix(".")
    if format not in FORMATS:
        raise UserError(f"{out}: name the file .onnx or .pt2, or add --format.")
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError("--format onnx needs the extra [export]: pip install 'cvae-cli[export]'.")
    files = (out, classifier_file(out))
    for file in files:
        if storage.is_same_file(file, model_file):
            raise UserError(f"{file}: this is the model itself; name another file.")
        if storage.exists(file) and not overwrite:
            raise UserError(f"{file}: is there already; name another file, or add --overwrite.")
    model, card = weights.load(model_file)
    spec = model.spec
    # Two of each, since a graph that has seen a single image may take that for a rule.
    images = torch.zeros(2, spec.channels, spec.image_size, spec.image_size, dtype=torch.uint8)
    labels, targets = torch.tensor([0, 1]), torch.tensor([[0, 1, 1], [1, 0, 1]])
    n, t = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    graphs: tuple[tuple[nn.Module, dict[str, Tensor], dict[str, Any], str], ...] = (
        (
            RelabelGraph(model),
            {"images": images, "labels": labels, "targets": targets},
            {"images": {0: n}, "labels": {0: n}, "targets": {0: n, 1: t}},
            "tiles",
        ),
        (ClassifyGraph(model), {"images": images}, {"images": {0: n}}, "probabilities"),
    )
    write = {"onnx": _onnx, "pt2": _pt2}[format]
    contents = []
    for graph, inputs, dynamic, output in graphs:
        with torch.no_grad(), warnings.catch_warnings():
            # Torch warns of what it will change in its own code, and of what it does not support in others.
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, tuple(inputs.values()), dynamic_shapes=dynamic, strict=False)
            contents.append(write(program, list(inputs), output, _metadata(card, output)))
    for file, content in zip(files, contents, strict=True):
        storage.write_file(file, content)
    return files


def _metadata(card: ModelCard, output: str) -> dict[str, str]:
    """What a graph says of itself, as both formats take it: text by name."""
    return {
        "cvae": __version__,
        "model": card.name,
        "model_sha256": card.sha256,
        "output": output,
        "classes": json.dumps(card.spec.classes),
        "image_size": str(card.spec.image_size),
        "channels": str(card.spec.channels),
        "licence": str(card.raw["licence"]),
    }


def _onnx(program: Any, inputs: list[str], output: str, metadata: dict[str, str]) -> bytes:
    converted = torch.onnx.export(
        program, input_names=inputs, output_names=[output], opset_version=OPSET, dynamo=True, verbose=False
    )
    assert converted is not None
    converted.model.metadata_props.update(metadata)
    converted.model.producer_name, converted.model.producer_version = "cvae", __version__
    content: bytes = converted.model_proto.SerializeToString()
    return content


def _pt2(program: Any, inputs: list[str], output: str, metadata: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={_METADATA_FILE: json.dumps(metadata, indent=2)})
    return stream.getvalue()
