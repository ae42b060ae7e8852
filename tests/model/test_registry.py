from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from cvae_cli.errors import UnknownModelError, WeightsError
from cvae_cli.model import registry
from cvae_cli.model.spec import ModelSpec


def test_models_and_judges_are_told_apart() -> None:
    models, judges = registry.shipped(), registry.shipped("judge")
    assert set(models) == {"mnist", "fashion", "cifar10", "letters"}
    assert set(judges) == {f"{name}-judge" for name in models}
    assert registry.shipped(None) == dict(sorted({**models, **judges}.items()))
    assert all(file.stem == name for name, file in registry.shipped(None).items())


def test_a_model_is_found_by_name_file_json_or_run_folder(small_model: Path, tmp_path: Path) -> None:
    assert registry.resolve("mnist") == registry.shipped()["mnist"]
    assert registry.resolve(str(small_model)) == small_model
    assert registry.resolve(str(small_model.with_suffix(".json"))) == small_model
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"")
    assert registry.resolve(str(run)) == run / "model.safetensors"
    for name in ("nist", "x" * 5000, "", "mnist-judge"):
        with pytest.raises(UnknownModelError, match="shipped with cvae: cifar10, fashion, letters, mnist"):
            registry.resolve(name)


@pytest.fixture
def weights_folder(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two shipped models, ``good`` and ``bad``, of which the second is damaged."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("good", "bad"):
        for suffix in (".safetensors", ".json"):
            shutil.copy(small_model.with_suffix(suffix), folder / f"{name}{suffix}")
    (folder / "bad.json").write_text("{")
    monkeypatch.setattr(registry.resources, "files", lambda package: folder)
    return folder


def test_a_damaged_shipped_model_does_not_spoil_the_others(weights_folder: Path) -> None:
    assert registry.resolve("good") == weights_folder / "good.safetensors"
    assert list(registry.shipped()) == ["good"]
    with pytest.raises(WeightsError, match=r"bad\.json: not valid JSON"):
        registry.read_card(registry.resolve("bad"))
    with pytest.raises(UnknownModelError, match="shipped with cvae: good"):
        registry.resolve("gone")


def test_a_card_is_read_without_opening_the_weights(small_model: Path, small_spec: ModelSpec) -> None:
    small_model.write_bytes(b"not looked at")
    card = registry.read_card(small_model)
    assert (card.file, card.name, card.spec) == (small_model, "small", small_spec)
    assert card.sha256 == card.raw["sha256"]


def test_another_kind_of_weights_is_refused(small_model: Path) -> None:
    with pytest.raises(WeightsError, match="this is a model, but a judge is needed"):
        registry.read_metadata(small_model, "judge")
    raw = registry.read_metadata(small_model)
    del raw["kind"]  # as early versions wrote it
    small_model.with_suffix(".json").write_text(json.dumps(raw))
    assert registry.read_metadata(small_model, registry.MODEL) == raw


def test_a_checkpoint_is_called_what_it_is(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match=r"pickle.*model\.safetensors"):
        registry.read_card(tmp_path / "last.ckpt")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.safetensors: cannot be read: No such file"):
        registry.read_card(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("classes", "metrics", "ignores"),
    [
        (10, {"label_effect": 0.99, "effectiveness": 1.0}, True),
        (10, {"label_effect": 1.0, "effectiveness": 0.33}, False),
        (10, {"label_effect": 20.0, "effectiveness": 0.32}, True),
        (2, {"label_effect": 20.0, "effectiveness": 0.6}, True),  # chance is a half
        (2, {"label_effect": 20.0, "effectiveness": 0.63}, False),
        (10, {"label_effect": 1}, False),
        (10, {"effectiveness": None}, False),
        (10, {}, False),
    ],
)
def test_when_a_model_is_said_to_ignore_its_label(classes: int, metrics: dict, ignores: bool) -> None:
    assert registry.ignores_label(classes, metrics) is ignores
