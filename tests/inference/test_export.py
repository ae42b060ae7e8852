"""Exported graphs draw what the models draw, for any number of images and targets."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image

from cvae_cli.errors import UserError
from cvae_cli.images.load import load_image
from cvae_cli.inference import export as exporting
from cvae_cli.inference.export import classifier_file, export
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry

SIZES = [(1, 1), (3, 4), (2, 1), (1, 3)]


def examples(name: str) -> np.ndarray:
    """Real images, where there are some: noise is far from all that was trained on."""
    folder = {"mnist": "digits", "cifar10": "photos", "letters": "letters"}.get(name)
    spec = registry.read_card(registry.shipped()[name]).spec
    files = sorted((ROOT / "examples" / folder).glob("*/*")) if folder else []
    images = [load_image(file, spec).native for file in files if file.is_file()][:4]
    random = np.random.default_rng(0)
    while len(images) < 4:
        image = np.zeros((spec.channels, spec.image_size, spec.image_size), np.uint8)
        image[:, 6:22, 8:20] = random.integers(100, 256)
        images.append(image)
    return np.stack(images)


@pytest.mark.long
@pytest.mark.parametrize("name", ["cifar10", "fashion", "letters", "mnist"])
def test_every_shipped_model_draws_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = registry.shipped()[name]
    graph, classifier = export(file, tmp_path / "model.onnx")
    relabeller = Relabeller(file, device="cpu", precision="fp32")
    images, classes = examples(name), relabeller.spec.num_classes
    session = onnxruntime.InferenceSession(str(graph))
    assert [one.name for one in session.get_inputs()] == ["images", "labels", "targets"]
    assert [one.name for one in session.get_outputs()] == ["tiles"]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(relabeller.spec.classes)
    assert told["model_sha256"] == relabeller.card.sha256
    for count, wanted in SIZES:
        some, labels = images[:count], np.arange(count) % classes
        targets = (labels[:, None] + np.arange(wanted)) % classes  # the image itself among them
        (tiles,) = session.run(["tiles"], {"images": some, "labels": labels, "targets": targets})
        expected = relabeller.draw(some, labels, targets)
        assert tiles.dtype == np.uint8
        assert tiles.shape == expected.shape
        assert np.abs(tiles.astype(int) - expected).max() <= 1
    (probabilities,) = onnxruntime.InferenceSession(str(classifier)).run(None, {"images": images})
    labels, confidences = relabeller.classify(images)
    assert (probabilities.argmax(axis=1) == labels).all()
    np.testing.assert_allclose(probabilities.max(axis=1), confidences, atol=1e-4)


def test_onnx_says_what_it_takes_and_gives(small_model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for file in export(small_model, tmp_path / "model.bin", format="onnx"):
        graph = onnx.load(file)
        onnx.checker.check_model(graph)
        assert graph.opset_import[0].version == exporting.OPSET
        assert {one.key for one in graph.metadata_props} >= {"classes", "model_sha256", "image_size"}


def test_the_archive_of_torch_draws_the_same(small_model: Path, tmp_path: Path) -> None:
    graph, classifier = export(small_model, tmp_path / "model.pt2")
    relabeller = Relabeller(small_model, device="cpu", precision="fp32")
    spec = relabeller.spec
    images = np.random.default_rng(0).integers(
        0, 256, (3, spec.channels, spec.image_size, spec.image_size), np.uint8
    )
    told: dict[str, object] = {"metadata.json": ""}
    module = torch.export.load(graph, extra_files=told).module()
    assert json.loads(str(told["metadata.json"]))["model_sha256"] == relabeller.card.sha256
    for count, wanted in SIZES:
        labels = np.arange(count) % spec.num_classes
        targets = (labels[:, None] + np.arange(wanted)) % spec.num_classes
        tiles = module(torch.from_numpy(images[:count]), torch.from_numpy(labels), torch.from_numpy(targets))
        expected = relabeller.draw(images[:count], labels, targets)
        assert np.abs(tiles.numpy().astype(int) - expected).max() <= 1
    read = torch.export.load(classifier).module()(torch.from_numpy(images)).numpy()
    assert (read.argmax(axis=1) == relabeller.classify(images)[0]).all()
    # Each with its own part of the weights.
    parts = [torch.export.load(file).state_dict for file in (graph, classifier)]
    assert not any(name.startswith("model.classifier.") for name in parts[0])
    assert all(name.startswith("model.classifier.") for name in parts[1])


def test_nothing_is_replaced_unasked(small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    beside = classifier_file(out)
    assert beside.name == "model.classifier.pt2"
    beside.write_text("of somebody else")
    with pytest.raises(UserError, match="add --overwrite"):
        export(small_model, out)
    assert beside.read_text() == "of somebody else"
    assert not out.exists()
    export(small_model, out, overwrite=True)
    torch.export.load(io.BytesIO(beside.read_bytes()))


def test_a_format_that_is_not_known_or_not_installed(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="add --format"):
        export(small_model, tmp_path / "model.bin")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cvae-cli\[export\]'"):
        export(small_model, tmp_path / "model.bin", format="onnx")
    assert not list(tmp_path.glob("model.bin*"))


@pytest.mark.long
def test_the_documented_lines_run_without_torch_and_cvae(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    text = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert script is not None
    export(registry.shipped()["mnist"], tmp_path / "digits.onnx")
    spec = registry.read_card(registry.shipped()["mnist"]).spec
    seven = next((ROOT / "examples" / "digits" / "7").iterdir())
    Image.fromarray(load_image(seven, spec).native[0]).save(tmp_path / "seven.png")
    forbidden = "import sys\nsys.modules['torch'] = sys.modules['cvae_cli'] = None\n"
    subprocess.run([sys.executable, "-c", forbidden + script[1]], cwd=tmp_path, check=True)
    tiles = [load_image(tmp_path / f"seven-as-{name}.png", spec).native for name in "012345689"]
    labels, _ = Relabeller(registry.shipped()["mnist"], device="cpu").classify(np.stack(tiles))
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
