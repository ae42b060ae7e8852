"""``cvae models``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import invoke

from cvae_cli.model import registry


def test_models_lists_what_is_shipped() -> None:
    run = invoke("models")
    lines = run.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "kind", "classes"]
    assert [line.split()[0] for line in lines[1:]] == list(registry.shipped(None))
    assert {line.split()[1] for line in lines[1:]} == {"model", "judge"}
    # Every line has its columns below the headings, for awk.
    starts = [lines[0].index(head) for head in ("kind", "classes", "MB")]
    assert all(line[start - 1] == " " and line[start] != " " for line in lines for start in starts)
    listed = json.loads(invoke("models", "--json").stdout)
    assert [line["name"] for line in listed] == list(registry.shipped(None))


def test_models_shows_all_of_one(small_model: Path) -> None:
    shown = invoke("models", "mnist").stdout
    card = registry.read_card(registry.shipped()["mnist"])
    assert card.sha256 in shown
    assert card.raw["train_command"] in shown
    assert json.loads(invoke("models", "mnist", "--json").stdout) == card.raw
    assert "classes: cat, dog, a very long class name indeed" in invoke("models", small_model).stdout
    judge = json.loads(invoke("models", "mnist-judge", "--json").stdout)
    assert judge["kind"] == "judge"
    unknown = invoke("models", "nist")
    assert unknown.exit_code == 2
    assert "mnist" in unknown.stderr


def test_one_damaged_file_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = registry.shipped(None)
    for name, text in (("broken", "{"), ("bare", '{"format_version": 1, "kind": "model", "spec": {}}')):
        (tmp_path / f"{name}.json").write_text(text)
        files[name] = tmp_path / f"{name}.safetensors"
    monkeypatch.setattr(registry, "shipped", lambda kind=None: files)
    run = invoke("models")
    assert run.exit_code == 0
    assert {line.split()[0] for line in run.stdout.splitlines()} > {"cifar10", "mnist", "mnist-judge"}
    assert "broken" in run.stderr
    assert "bare" in run.stderr


def test_names_of_classes_do_not_steer_the_terminal(small_model: Path) -> None:
    card = json.loads(small_model.with_suffix(".json").read_text())
    card["spec"]["classes"][0] = "\x1b[31mred\u202e\n"
    small_model.with_suffix(".json").write_text(json.dumps(card))
    shown = invoke("models", small_model).stdout
    assert "classes: \\x1b[31mred\\u202e\\n, dog" in shown


def test_models_warns_of_one_that_ignores_its_label(small_model: Path) -> None:
    card = small_model.with_suffix(".json")
    card.write_text(card.read_text().replace('"label_effect": 20.0', '"label_effect": 0.2'))
    assert "ignores its label" in invoke("models", small_model).stderr
