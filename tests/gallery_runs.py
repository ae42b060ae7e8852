"""Runs that there never were, and what pages make of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cvae_cli.images.manifest import Manifest, to_record
from cvae_cli.outcomes import ImageOutcome, Output

CLASSES = ("0", "1", "2")
HOSTILE = '<img src=x onerror="document.title=1">&amp;.png'


def outcome(path: str, label: str = "0", **changes: Any) -> ImageOutcome:
    """An image of which a grid and tiles of the other classes were written."""
    targets = tuple(name for name in CLASSES if name != label)
    stem = path.removesuffix(".png")
    known = {
        "status": "done", "label": label, "label_source": "predict", "confidence": 0.987, "targets": targets,
        "outputs": (
            Output("grid", path), *(Output("tile", f"tiles/{name}/{stem}.png", name) for name in targets)
        ),
        "judged": dict.fromkeys(targets, 0.99), "judged_realism": dict.fromkeys(targets, 0.5),
    }  # fmt: skip
    return ImageOutcome(path, "imgs", **{**known, **changes})


def of_every_kind() -> list[ImageOutcome]:
    """Images of every status and verdict."""
    return [
        outcome("a.png"),
        outcome("b/wrong.png", "1", judged={"0": 0.2, "2": 0.95}, judged_wrong=("0",)),
        outcome("b/odd.png", "2", judged_realism={"0": 0.001, "1": 0.5}, judged_odd=("0",)),
        outcome(
            "unsure.png",
            judged={"1": 0.6, "2": 0.99},
            left_out=("1",),
            outputs=(Output("grid", "unsure.png"),),
        ),
        ImageOutcome(HOSTILE, "imgs").failed("not an image, or its header is damaged"),
        outcome("\udcff.png", warnings=("its folder is not a class; did you mean 1?",)),
        ImageOutcome("page.html.png", "imgs").skipped("a grid or sheet that cvae drew"),
    ]


def write(
    folder: Path, outcomes: Iterable[ImageOutcome], *, name: str = "manifest.jsonl", **run: Any
) -> Path:
    """Write a manifest into a folder; that folder."""
    folder.mkdir(exist_ok=True)
    known = {
        "model": "mnist", "model_sha256": "0" * 64, "classes": list(CLASSES), "image_size": 28,
        "channels": 1, "judge": "mnist-judge", "judge_sha256": "1" * 64,
        "options": {"targets": list(CLASSES), "sources": ["imgs"]}, "versions": {},
    }  # fmt: skip
    with Manifest(folder / name, {**known, **run}) as manifest:
        for one in outcomes:
            manifest.write(to_record(one))
    return folder


def rows_in(folder: Path) -> list[list[Any]]:
    """What the page's script is given."""
    found = []
    for file in sorted((folder / "gallery").glob("data-*.js"), key=lambda file: int(file.stem[5:])):
        head, rows = file.read_text().split(",", 1)
        assert head == f"/* written by cvae */\ncvae.add({file.stem[5:]}"
        found += json.loads(rows.removesuffix(");\n"))
    return found
