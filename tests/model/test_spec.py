from __future__ import annotations

import json

import pytest

from cvae_cli.errors import WeightsError
from cvae_cli.model.spec import ImageKind, ModelSpec


def test_round_trip_through_json(small_spec: ModelSpec) -> None:
    assert ModelSpec.from_dict(json.loads(json.dumps(small_spec.to_dict()))) == small_spec


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"classes": ["one"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": ["a", 3]}, "class name"),
        ({"classes": "ab"}, "classes"),
        ({"image_size": 33}, "canvas_size"),
        ({"canvas_size": 30}, "canvas_size"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": True}, "latent_dim"),
        ({"latent_dim": "16"}, "latent_dim"),
        ({"widths": [8, 8, 8]}, "widths"),
        ({"channels": 4}, "channels"),
        ({"arch": "__import__('os')"}, "arch"),
        ({"polarity": "dark"}, "polarity"),
        ({"margin": 0.5}, "margin"),
        ({"label_in_encoder": 1}, "label_in_encoder"),
        ({"label_in_decoder": False}, "'compact' must use the label"),
        ({"arch": "resnet18", "label_in_encoder": False}, "'resnet18' must use the label"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_field_is_named(change: dict, names: str) -> None:
    raw = {**ModelSpec(classes=("a", "b")).to_dict(), **change}
    with pytest.raises(WeightsError, match=names):
        ModelSpec.from_dict(raw)


@pytest.mark.parametrize("raw", [None, [], {}, {"image_size": 28}])
def test_not_a_spec(raw: object) -> None:
    with pytest.raises(WeightsError):
        ModelSpec.from_dict(raw)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"style": "strokes"}, ImageKind.STROKES),
        ({"style": "silhouettes"}, ImageKind.SILHOUETTES),
        ({"style": "colours"}, ImageKind.PHOTOGRAPHS),
        ({"style": "auto", "polarity": "light-on-dark"}, ImageKind.STROKES),
        ({"polarity": "light-on-dark"}, ImageKind.STROKES),
        ({"style": "auto", "channels": 3}, ImageKind.PHOTOGRAPHS),
    ],
)
def test_the_kind_of_images_is_read_from_the_style_in_the_file(raw: dict, kind: ImageKind) -> None:
    spec = ModelSpec.from_dict({"classes": ["a", "b"], **raw})
    assert spec.kind is kind
    assert ModelSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("style", ["swirls", 3, ["strokes"]])
def test_an_unknown_style_is_refused(style: object) -> None:
    with pytest.raises(WeightsError, match="style is"):
        ModelSpec.from_dict({"classes": ["a", "b"], "style": style})
