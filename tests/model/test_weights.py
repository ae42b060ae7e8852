from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvae_cli.errors import WeightsError
from cvae_cli.model import registry, weights
from cvae_cli.training.recipe import LossWeights, Recipe


def change_card(file: Path, **changes: object) -> None:
    card = file.with_suffix(".json")
    raw = {**json.loads(card.read_text()), **changes}
    card.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))


def rewrite(file: Path, content: bytes) -> None:
    """Other weights with metadata that agrees with them."""
    file.write_bytes(content)
    change_card(file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_export_and_load(small_model: Path) -> None:
    model, card = weights.load(small_model)
    assert card.name == "small"
    assert not model.training
    assert card.raw["bytes"] == small_model.stat().st_size
    assert card.raw["parameters"] == sum(value.numel() for value in model.state_dict().values())
    assert not list(small_model.parent.glob(".*"))


def damage_metadata(**changes: object) -> Callable[[Path], None]:
    return lambda file: change_card(file, **changes)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def drop_tensor(file: Path) -> None:
    from safetensors.torch import load, save

    tensors = load(file.read_bytes())
    tensors.pop("decoder.out.bias")
    rewrite(file, save(tensors))


def reshape_tensor(file: Path) -> None:
    from safetensors.torch import load, save

    tensors = load(file.read_bytes())
    tensors["decoder.out.bias"] = torch.zeros(9)
    rewrite(file, save(tensors))


def add_tensor(file: Path) -> None:
    from safetensors.torch import load, save

    rewrite(file, save({**load(file.read_bytes()), "extra": torch.zeros(1)}))


def poison_tensor(file: Path) -> None:
    from safetensors.torch import load, save

    tensors = load(file.read_bytes())
    tensors["decoder.out.bias"][0] = float("nan")
    rewrite(file, save(tensors))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_metadata(format_version=2), "format version 2"),
        (damage_metadata(format_version=...), "format version None"),
        (damage_metadata(sha256=...), "'sha256' is missing"),
        (damage_metadata(metrics=[]), "'metrics' has the wrong type"),
        (damage_metadata(spec={"classes": ["a"]}), "classes"),
        (lambda file: file.with_suffix(".json").unlink(), "missing beside it"),
        (lambda file: file.with_suffix(".json").write_text("{"), "not valid JSON"),
        (lambda file: file.with_suffix(".json").write_bytes(b"\xff\xfe"), "not valid JSON"),
        (lambda file: file.with_suffix(".json").write_text("[]"), "not a JSON object"),
        (cut_short, "bytes, but its metadata says"),
        (flip_a_bit, "sha256"),
        (lambda file: rewrite(file, b"\x08" * 400), "not a valid safetensors file"),
        (drop_tensor, "'decoder.out.bias' is missing"),
        (reshape_tensor, "has shape"),
        (add_tensor, "'extra' is not part"),
        (poison_tensor, "not finite"),
    ],
)
def test_damage_is_refused_with_its_reason(
    small_model: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(small_model)
    with pytest.raises(WeightsError, match=message):
        weights.load(small_model)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_never_opened(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if zipped:
        torch.save({"weights": _Bomb()}, small_model)
    else:
        small_model.write_bytes(pickle.dumps(_Bomb()))
    rewrite(small_model, small_model.read_bytes())
    with pytest.raises(WeightsError, match="pickle"):
        weights.load(small_model)
    assert not Path("exploded").exists()


def test_absurd_sizes_allocate_nothing(small_model: Path, small_spec) -> None:
    change_card(small_model, spec={**small_spec.to_dict(), "canvas_size": 4096, "widths": [4096] * 4})
    with pytest.raises(WeightsError, match="has shape"):
        weights.load(small_model)


@pytest.mark.parametrize("name", sorted(registry.shipped()))
def test_shipped_weights_agree_with_their_metadata(name: str) -> None:
    file = registry.shipped()[name]
    model, card = weights.load(file)
    assert card.name == name
    assert file.stat().st_size <= 16_000_000
    assert card.raw["train_command"].startswith(f"cvae train --data {card.raw['data_set']} ")
    assert card.raw["licence"] == "MIT"
    assert not card.ignores_label
    assert model.spec == card.spec


def flat_recipe(recipe: Recipe) -> dict[str, object]:
    """A recipe in the flat form in which the shipped models recorded it."""
    optimizer, discriminator, classifier = recipe.optimizer, recipe.discriminator, recipe.classifier
    flat = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": optimizer.learning_rate,
        "betas": optimizer.betas,
        "warmup_steps": optimizer.warmup_steps,
        "ema_decay": recipe.ema_decay,
        "validation_images": recipe.validation_images,
        "loss": asdict(recipe.loss),
        "finish": recipe.fine_tuning and asdict(recipe.fine_tuning),
        "finish_share": recipe.fine_tuning_share,
        "discriminator_width": discriminator.width,
        "discriminator_rate": discriminator.learning_rate_factor,
        "discriminator_betas": discriminator.betas,
        "discriminator_centred": discriminator.centred,
        "feature_discriminator_width": discriminator.feature_width,
        "discriminator_augments": discriminator.augment,
        "target_margin": classifier.margin,
        "target_augmented": False,
        "target_square": classifier.square,
        "flips": recipe.augmentation.flips,
        "input_share": recipe.augmentation.affine_share,
        "input_affine": recipe.augmentation.affine,
        "cycle_share": recipe.cycle_share,
        "least_steps": recipe.min_steps,
        "common_code": recipe.alignment.strength,
        "moments_rate": recipe.alignment.moments_rate,
        "classifier_epochs": classifier.pretrain_epochs,
        "classifier_rests": classifier.frozen,
        "classifier_affine": classifier.affine,
    }
    return json.loads(json.dumps(flat))


@pytest.mark.parametrize("name", registry.shipped())
def test_models_are_shipped_as_their_recipes_make_them(name: str) -> None:
    from cvae_cli.training.recipes import RECIPES, distilled, for_images, with_pairs

    card = registry.read_card(registry.shipped()[name])
    training, spec = card.raw["training"], card.spec
    if name in RECIPES:
        wanted = RECIPES[name]
    else:
        wanted = with_pairs(for_images(card.spec.kind, card.spec.classes, card.spec.image_size, 1))
    if "teacher" in training:
        assert Recipe.from_dict(training["recipe"]) == distilled(wanted)
        made = distilled(wanted).spec
        assert (spec.tile_widths, spec.tile_maps) == (made.tile_widths, made.tile_maps)
        training = training["teacher"]["training"]
        spec = replace(spec, tile_widths=(), tile_maps=False, auto_precision="fp32")
    measured = {"latent_norm": None, "label_temperature": 1.0, "auto_precision": "fp32"}
    assert replace(spec, **measured) == wanted.spec
    trained_with = dict(training["recipe"])
    if "alignment" in trained_with:
        assert Recipe.from_dict(trained_with) == wanted
    else:
        del trained_with["spec"]
        recipe = flat_recipe(wanted)
        for part in ("loss", "finish"):  # terms that did not exist yet have no weight
            if trained_with.get(part):
                none = asdict(LossWeights(target=0, recon=0, kl=0))
                trained_with[part] = {**none, **trained_with[part]}
        assert trained_with == {key: recipe[key] for key in trained_with}
    assert f"{name}-judge" in registry.shipped("judge")


@pytest.mark.parametrize("length", [0x180, 0x280, 0x480, 0x4B50])
def test_a_header_whose_length_begins_like_a_pickle_is_no_pickle(small_model: Path, length: int) -> None:
    from safetensors.torch import load

    content = small_model.read_bytes()
    size = int.from_bytes(content[:8], "little")
    padded = size - size % 0x10000 + 0x10000 + length  # the low bytes are those of a pickle or a zip
    header = content[8 : 8 + size].ljust(padded)
    rewrite(small_model, padded.to_bytes(8, "little") + header + content[8 + size :])
    assert small_model.read_bytes()[:1] in (b"\x80", b"P")
    assert load(small_model.read_bytes())
    weights.load(small_model)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=4))
def test_any_damage_is_refused_before_a_tensor_is_used(small_model: Path, changes: list) -> None:
    """By the checksum; and where someone has made that fit, by the checks that come after it."""
    whole, card = small_model.read_bytes(), small_model.with_suffix(".json").read_text()
    content = bytearray(whole)
    for at, junk in changes:
        at %= min(len(content), 6000)  # the header, where it hurts
        content[at : at + len(junk)] = junk
    small_model.write_bytes(content)
    if content != whole:
        with pytest.raises(WeightsError):
            weights.load(small_model)
    rewrite(small_model, bytes(content))
    with contextlib.suppress(WeightsError):
        weights.load(small_model)
    small_model.write_bytes(whole)
    small_model.with_suffix(".json").write_text(card)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=_JSON)
def test_any_metadata_is_read_or_refused(small_model: Path, data: st.DataObject, value: object) -> None:
    card = small_model.with_suffix(".json")
    text = card.read_text()
    raw = json.loads(text)
    place = raw["spec"] if data.draw(st.booleans()) else raw
    place[data.draw(st.sampled_from(sorted(place)))] = value
    card.write_text(json.dumps(raw))
    with contextlib.suppress(WeightsError):
        weights.load(small_model)
    card.write_text(text)
