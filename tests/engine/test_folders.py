"""A folder of one's own images: what is found, what it is taken for, and the whole way with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageDraw

from cvae_cli.cli import main
from cvae_cli.engine import folders, recipes
from cvae_cli.engine.datasets import LabelledImages
from cvae_cli.engine.draw import image_target
from cvae_cli.engine.objective import Objective
from cvae_cli.engine.train import TrainOptions, _own, _sampler
from cvae_cli.errors import DataError
from cvae_cli.model import weights
from tests.conftest import PEAK, needs_proc

COUNTS = {"cross": 40, "ring": 9, "bar": 70}


def mark(kind: str, number: int) -> Image.Image:
    """A dark mark on paper, of one of three kinds, each picture of another size."""
    random = np.random.default_rng(number)
    side = int(random.integers(36, 60))
    image = Image.new("L", (side, side + number % 5), 245)
    draw = ImageDraw.Draw(image)
    x, y = (int(value) for value in random.integers(4, 10, 2))
    end = side - 8
    if kind == "cross":
        draw.line((x, y, end, end), fill=20, width=3)
        draw.line((end, y, x, end), fill=20, width=3)
    elif kind == "ring":
        draw.ellipse((x, y, end, end), outline=20, width=3)
    else:
        draw.line((side // 2, y, side // 2, end), fill=20, width=3)
    return image


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three uneven classes, one of them with a folder inside, and two files that are none."""
    folder = tmp_path_factory.mktemp("marks")
    for kind, count in COUNTS.items():
        (folder / kind / "more").mkdir(parents=True)
        for number in range(count):
            mark(kind, number).save(folder / kind / ("more" if number % 7 == 0 else "") / f"{number}.png")
    (folder / "bar" / "broken.png").write_bytes(b"no image")
    (folder / "bar" / "notes.txt").write_text("not taken for one")
    return folder


def save(folder: Path, count: int, pixels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_every_tenth_is_held_out_and_stays_so_when_files_are_added(marks: Path, tmp_path: Path) -> None:
    found = folders.scan(marks)
    assert found.classes == ("bar", "cross", "ring")
    assert set(found.parts) == {"train", "test"}
    train, test = (
        [file.relative_to(marks) for files in found.parts[part] for file in files]
        for part in ("train", "test")
    )
    assert len(train) + len(test) == sum(COUNTS.values()) + 1
    assert not set(train) & set(test)
    assert all(found.parts["test"])  # of every class
    assert 5 <= len(test) <= 30
    copy = shutil.copytree(marks, tmp_path / "copy")
    for number in range(20):
        mark("bar", 500 + number).save(copy / "bar" / f"new{number}.png")
    again = folders.scan(copy)
    still = {file.relative_to(copy) for files in again.parts["test"] for file in files}
    assert set(test) <= still


def test_parts_of_its_own_are_taken_as_they_are(tmp_path: Path) -> None:
    grey = np.full((8, 8), 100, np.uint8)
    for part, classes in {"train": ("10", "9"), "test": ("9",), "val": ("9", "10")}.items():
        for name in classes:
            save(tmp_path / part / name, 3, grey)
    found = folders.scan(tmp_path)
    assert found.classes == ("9", "10")
    assert [len(files) for files in found.parts["train"]] == [3, 3]
    assert [len(files) for files in found.parts["test"]] == [3, 0]
    assert set(found.parts) == {"train", "test", "val"}
    save(tmp_path / "test" / "11", 1, grey)
    with pytest.raises(DataError, match="a class that is not in"):
        folders.scan(tmp_path)


def test_its_own_parts_come_in_one_order_for_every_seed_and_process(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label, name in enumerate(("a", "b")):
            for number in range(8):
                save(
                    tmp_path / part / name / str(number), 1, np.full((32, 32), 100 * label + number, np.uint8)
                )
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        _, training, _ = _own(TrainOptions(str(tmp_path)), Mock())
        orders.append(training.images[:, 0, 0, 0].tolist())
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])  # not class by class


@needs_proc
def test_a_look_at_large_photographs_holds_few_of_them(tmp_path: Path) -> None:
    """Sixty of them are two gigabytes of pixels."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    large = Image.effect_noise((4000, 3000), 9).convert("RGB")
    large.save(tmp_path / "a" / "0.jpg")
    for number in range(60):
        os.link(tmp_path / "a" / "0.jpg", tmp_path / ("a", "b")[number % 2] / f"link-{number}.jpg")
    code = (
        f"{PEAK}\nimport sys\nfrom pathlib import Path\nfrom cvae_cli.engine import folders\n"
        "found = folders.scan(Path(sys.argv[1]))\nbefore = peak()\nseen = folders.look(found)\n"
        "print(seen.image_size, seen.resized, peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    size, resized, taken = run.stdout.split()
    assert (size, resized) == ("32", "True")
    assert int(taken) < 500_000


@pytest.mark.parametrize("kind", ["strokes", "silhouettes", "photographs"])
@pytest.mark.parametrize(("size", "classes"), [(28, 2), (48, 3), (64, 101)])
def test_every_kind_and_size_of_model_can_be_trained(kind: str, size: int, classes: int) -> None:
    """All terms of a step are finite and reach all that learns, in both parts of a training."""
    torch.manual_seed(0)
    channels = 3 if kind == "photographs" else 1
    recipe = recipes.for_images(kind, tuple(map(str, range(classes))), size, channels)
    spec = replace(recipe.spec, widths=(16, 16, 8, 8), latent_dim=8, classifier_width=8)
    if spec.decoder_widths:
        spec = replace(spec, decoder_widths=(16, 16, 8, 16))
    objective = Objective(replace(recipe, spec=spec, discriminator_width=8))
    images = torch.randint(0, 256, (12, channels, size, size), dtype=torch.uint8)
    y = torch.arange(12) % classes
    objective.measure_classes(images, y)
    for finishing in (False, recipe.finish is not None):
        if finishing:
            objective.finish(images, y)
        objective.zero_grad(set_to_none=True)
        terms = objective.training_terms(images, y)
        assert all(bool(value.isfinite()) for value in terms.values()), terms
        terms["loss"].backward()
        moved = [
            value.grad is not None and bool(value.grad.any())
            for value in objective.model.decoder.parameters()
        ]
        assert sum(moved) > 0.8 * len(moved)
        # At rest in the last part: gradients pass through it, and are not kept.
        moved = [
            value.grad is not None and bool(value.grad.any())
            for value in objective.model.encoder.parameters()
        ]
        assert any(moved) != finishing
    found = objective.validation_terms(images, y)
    assert all(bool(value.isfinite()) for value in found.values()), found


@pytest.mark.parametrize(
    ("classes", "message"),
    [({}, "no class folders"), ({"a": 3}, "only the class folder 'a'"), ({"a": 3, "b": 0}, "b: no images")],
)
def test_what_cannot_be_learned_is_said(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    for name, count in classes.items():
        save(tmp_path / name, count, np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=message):
        folders.scan(tmp_path)
    with pytest.raises(DataError, match="neither one of mnist, fashion, cifar10 nor a folder"):
        folders.scan(tmp_path / "gone")


def test_a_class_of_one_image_is_refused_and_few_are_warned_about(tmp_path: Path) -> None:
    data = LabelledImages(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 0, 1]), ("a", "b"))
    with pytest.raises(DataError, match="class 'b' has a single training image"):
        folders.check_counts(data, tmp_path)
    seen = folders.Appearance(28, 1, "strokes", resized=False)
    said = folders.describe(tmp_path, seen, data, validation=1, test=1, left_out=[])
    assert said.counts == {"a": 3, "b": 1}
    assert "a (3), b (1)" in said.warnings[0]


def pictures(kind: str) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    made = []
    for number in range(12):
        if kind == "strokes":
            made.append(np.asarray(mark("cross", number).resize((28, 28))))
        elif kind == "silhouettes":
            image = np.zeros((28, 28), np.uint8)
            image[4:25, 5 : 20 + number % 4] = random.integers(120, 256, (21, 15 + number % 4))
            made.append(image)
        else:
            shape = (48, 48) if kind == "grey photographs" else (48, 48, 3)
            ramp = np.linspace(0, 200, 48)[:, None] + random.integers(0, 50, (48, 48))
            made.append((ramp if len(shape) == 2 else ramp[..., None] * [1, 0.6, 0.3]).astype(np.uint8))
    return made


@pytest.mark.parametrize(
    ("kind", "size", "channels", "taken_for"),
    [
        ("strokes", 28, 1, "strokes"),
        ("silhouettes", 28, 1, "silhouettes"),
        ("grey photographs", 48, 1, "photographs"),
        ("photographs", 48, 3, "photographs"),
    ],
)
def test_what_images_are_is_seen(tmp_path: Path, kind: str, size: int, channels: int, taken_for: str) -> None:
    for number, pixels in enumerate(pictures(kind)):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / str(number % 2) / f"{number}.png")
    found = folders.scan(tmp_path)
    seen = folders.look(found)
    assert seen == folders.Appearance(size, channels, taken_for, resized=False)
    assert folders.look(found, image_size=64).image_size == 64
    asked = folders.look(found, channels=3)
    assert (asked.channels, asked.kind) == (3, "photographs")
    recipe = recipes.for_images(seen.kind, found.classes, seen.image_size, seen.channels)
    assert recipe.spec.kind_of_style == ("colours" if taken_for == "photographs" else taken_for)


def test_images_of_several_sizes_become_of_one(marks: Path) -> None:
    found = folders.scan(marks)
    seen = folders.look(found)
    assert seen == folders.Appearance(32, 1, "strokes", resized=True)
    target = image_target(recipes.for_images(seen.kind, found.classes, 32, 1).spec)
    data, left_out = folders.read(found, "train", target)
    assert data.images.shape[1:] == (1, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.images[:, :, 0].float().mean() < 20  # paper became black
    assert [file.name for file, _ in left_out] == ["broken.png"]
    assert "not an image" in left_out[0][1]


def test_rare_classes_are_seen_more_often_but_not_as_often_as_others() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    data = LabelledImages(torch.zeros(1000, 1, 8, 8, dtype=torch.uint8), labels, ("a", "b"))
    recipe = recipes.for_images("strokes", data.classes, 28, 1)
    torch.manual_seed(0)
    order = list(_sampler(data, recipe))
    assert len(order) == recipe.least_steps * recipe.batch_size
    share = Counter(labels[order].tolist())[1] / len(order)
    assert 0.22 < share < 0.28  # 1 / (1 + sqrt(9)), where there are 0.1
    known = replace(recipe, least_steps=0)
    assert sorted(_sampler(data, known)) == list(range(1000))


def test_the_whole_way_with_a_folder(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, be told how good it is, relabel, make a sheet, all with what a newcomer types."""
    real = recipes.for_images

    def small(*arguments: object) -> recipes.Recipe:
        recipe = real(*arguments)  # type: ignore[arg-type]
        spec = replace(recipe.spec, widths=(16, 16, 8, 8), latent_dim=8, classifier_width=8)
        return replace(recipe, spec=spec, least_steps=15, batch_size=16, discriminator_width=8)

    monkeypatch.setattr(recipes, "for_images", small)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(marks, "marks")
    run = CliRunner().invoke(main, ["train", "--data", "marks", "--epochs", "1", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert "marks: 3 classes, 32x32 grey strokes, resized" in run.stderr
    assert "left out marks/bar/broken.png: not an image" in run.stderr
    assert "few training images of ring" in run.stderr
    assert "effectiveness" in run.stdout
    assert "style kept, r of slant" in run.stdout
    card = weights.read_card(Path("runs/marks/model.safetensors"))
    assert (card.name, card.raw["data_set"]) == ("marks", "marks")
    assert card.raw["train_command"] == "cvae train --data marks --epochs 1 --seed 0"
    assert Path("runs/marks/judge.safetensors").exists()

    run = CliRunner().invoke(main, ["evaluate", "--model", "runs/marks", "--data", "./marks", "--json"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        main, ["relabel", "marks", "--model", "runs/marks", "--out", "grids", "--check", "--device", "cpu"]
    )
    assert run.exit_code == 3, run.output
    assert "119 done, 1 failed" in run.stderr
    run = CliRunner().invoke(main, ["grid", "--model", "runs/marks", "--rows", "2", "--out", "sheet.png"])
    assert run.exit_code == 0, run.output

    shutil.move("marks", "elsewhere")
    run = CliRunner().invoke(main, ["evaluate", "--model", "runs/marks"])
    assert run.exit_code == 2
    assert "trained on 'marks', which is not here" in run.stderr
    run = CliRunner().invoke(main, ["train", "--data", "nothing"])
    assert run.exit_code == 2
    assert "unknown data set 'nothing': neither one of mnist, fashion, cifar10 nor a folder" in run.stderr
    run = CliRunner().invoke(main, ["train", "--data", "mnist", "--channels", "3"])
    assert run.exit_code == 2
    assert "mnist has its own" in run.stderr
