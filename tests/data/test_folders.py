"""Class folders of one's own: which files there are, which are held out, and what is read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MARK_COUNTS, PEAK, draw_mark, needs_proc
from PIL import Image

from cvae_cli.data import folders
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.profile import DatasetProfile
from cvae_cli.errors import DataError
from cvae_cli.images.png import encode_png
from cvae_cli.model.spec import ImageKind, ModelSpec


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
    assert len(train) + len(test) == sum(MARK_COUNTS.values()) + 1
    assert not set(train) & set(test)
    assert all(found.parts["test"])  # of every class
    assert 5 <= len(test) <= 30
    copy = shutil.copytree(marks, tmp_path / "copy")
    for number in range(20):
        draw_mark("bar", 500 + number).save(copy / "bar" / f"new{number}.png")
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


@needs_proc
def test_a_look_at_large_photographs_holds_few_of_them(tmp_path: Path) -> None:
    """Twenty-four of them are nearly a gigabyte of pixels."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    large = Image.effect_noise((4000, 3000), 9).convert("RGB")
    large.save(tmp_path / "a" / "0.jpg")
    for number in range(24):
        os.link(tmp_path / "a" / "0.jpg", tmp_path / ("a", "b")[number % 2] / f"link-{number}.jpg")
    code = (
        f"{PEAK}\nimport sys\nfrom pathlib import Path\nfrom cvae_cli.data import folders\n"
        "found = folders.scan(Path(sys.argv[1]))\nbefore = peak()\nseen = folders.profile_folder(found)\n"
        "print(seen.image_size, seen.resized, peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    size, resized, taken = run.stdout.split()
    assert (size, resized) == ("32", "True")
    assert int(taken) < 500_000


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
    seen = DatasetProfile(28, 1, ImageKind.STROKES, resized=False)
    said = folders.summarise(tmp_path, seen, data, validation=1, test=1, left_out=[])
    assert said.counts == {"a": 3, "b": 1}
    assert "a (3), b (1)" in said.warnings[0]


def test_images_of_several_sizes_become_of_one(marks: Path) -> None:
    found = folders.scan(marks)
    seen = folders.profile_folder(found)
    assert seen == DatasetProfile(32, 1, ImageKind.STROKES, resized=True)
    spec = ModelSpec(
        classes=found.classes, image_size=32, polarity="light-on-dark", margin=1 / 7, kind=ImageKind.STROKES
    )
    data, left_out = folders.read(found, "train", spec)
    assert data.images.shape[1:] == (1, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.images[:, :, 0].float().mean() < 20  # paper became black
    assert [file.name for file, _ in left_out] == ["broken.png"]
    assert "not an image" in left_out[0][1]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Train", "TEST", "Valid"), {"train", "test", "val"}),
        (("training", "testing"), {"train", "test"}),
        (("train_images", "dev"), {"train", "test", "val"}),
    ],
)
def test_parts_may_have_their_usual_names(tmp_path: Path, names: tuple[str, ...], parts: set[str]) -> None:
    for part in names:
        for name in ("a", "b"):
            save(tmp_path / part / name, 4, np.full((8, 8), 100, np.uint8))
    found = folders.scan(tmp_path)
    assert found.classes == ("a", "b")
    assert set(found.parts) == parts


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "training"), "both train and training are train images"),
        (("test", "val"), "none is a folder train"),
        (("train", "test", "spare"), "spare stands beside test and train"),
        (("train", "Training_Set"), "both Training_Set and train are train images"),
    ],
)
def test_parts_that_make_no_sense_are_said(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for part in names:
        for name in ("a", "b"):
            save(tmp_path / part / name, 2, np.full((8, 8), 100, np.uint8))
    with pytest.raises(DataError, match=message):
        folders.scan(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"), ("trainset", "testset"), ("train-images", "test-images"),
        ("train2017", "val2017"), ("imagesTr", "imagesTs"), ("train_data", "validation_data"),
    ],
)  # fmt: skip
def test_parts_by_their_usual_names(tmp_path: Path, train: str, test: str) -> None:
    for part in (train, test):
        for name in ("a", "b"):
            save(tmp_path / part / name, 3, np.full((8, 8), 100, np.uint8))
    found = folders.scan(tmp_path)
    assert found.classes == ("a", "b")
    assert [file.parent.parent.name for file in found.parts["train"][0]] == [train] * len(
        found.parts["train"][0]
    )


@pytest.mark.parametrize(
    "names", [("trainA", "trainB", "testA", "testB"), ("train", "test"), ("test_easy", "test_hard")]
)
def test_parts_without_class_folders_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save(tmp_path / name, 3, np.full((8, 8), 100, np.uint8))
    with pytest.raises(DataError, match="look like parts of a data set, but none is a folder train"):
        folders.scan(tmp_path)


def test_a_class_in_two_spellings_of_unicode(tmp_path: Path) -> None:
    for part, name in (("train", "caf\u00e9"), ("train", "tea"), ("test", "cafe\u0301")):
        save(tmp_path / part / name, 3, np.full((8, 8), 100, np.uint8))
    found = folders.scan(tmp_path)
    assert found.classes == ("caf\u00e9", "tea")
    assert [len(files) for files in found.parts["test"]] == [3, 0]
    save(tmp_path / "train" / "cafe\u0301", 3, np.full((8, 8), 100, np.uint8))
    with pytest.raises(DataError, match="two spellings of Unicode"):
        folders.scan(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        save(tmp_path / name, 4, np.full((8, 8), 100, np.uint8))
    assert folders.scan(tmp_path).classes == ("bus", "train")
    save(tmp_path / "train" / "steam", 2, np.full((8, 8), 100, np.uint8))
    assert folders.scan(tmp_path).classes == ("bus", "train")


def test_pictures_that_cvae_drew_are_left_out_but_for_tiles(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for name in ("a", "b"):
        save(tmp_path / name, 4, pixels)
    (tmp_path / "a" / "grid.png").write_bytes(encode_png(pixels, {"source": "0.png", "targets": ["b"]}))
    (tmp_path / "a" / "tile.png").write_bytes(encode_png(pixels, {"source": "0.png", "target": "a"}))
    found = folders.scan(tmp_path)
    spec = ModelSpec(classes=found.classes, image_size=28)
    read = [folders.read(found, part, spec) for part in ("train", "test")]
    assert sum(len(data) for data, _ in read) == 9
    left_out = [(file.name, reason) for _, files in read for file, reason in files]
    assert left_out == [("grid.png", "a grid or sheet that cvae drew")]


def test_files_of_one_name_are_held_out_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(60):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / label / f"x{number}.png")
    found = folders.scan(tmp_path)
    for part, least in (("train", 50), ("test", 2)):
        a, b = ({file.name for file in files} for files in found.parts[part])
        assert a == b
        assert len(a) >= least
