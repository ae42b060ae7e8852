"""Parquet files of images: those that cvae writes, those of others, and what is wrong with some."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from cvae_cli.data import folders, tables
from cvae_cli.errors import DataError, UserError
from cvae_cli.images.png import encode_png
from cvae_cli.model.spec import ImageKind, ModelSpec

CLASSES = ("cat", "dog", "eel")
SPEC = ModelSpec(
    classes=CLASSES, image_size=28, canvas_size=32, channels=1, latent_dim=4, widths=(8, 8, 8, 8),
    label_dim=4, polarity="light-on-dark", fit="pad", margin=0.0, kind=ImageKind.SILHOUETTES,
)  # fmt: skip


def picture(value: int) -> bytes:
    pixels = np.zeros((28, 28, 1), np.uint8)
    pixels[8:20, 8:20] = value
    return encode_png(pixels)


def row(number: int, label: int, **other: Any) -> dict[str, Any]:
    image = {"bytes": picture(100 + label * 50), "path": f"{number}.png"}
    return {"image": image, "label": label, "name": f"source-{number}", **other}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(tables.encode(rows, CLASSES))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, "b.parquet", [row(number, number % 3) for number in range(60)])
    write(tmp_path, "a.parquet", [row(number, 1) for number in range(60, 70)])
    (tmp_path / ".cvae-1.part.parquet").write_bytes(b"not yet")
    found = folders.scan(tmp_path)
    assert found.classes == CLASSES
    train, left_out = folders.read(found, "train", SPEC)
    test, _ = folders.read(found, "test", SPEC)
    assert (len(train) + len(test), left_out) == (70, [])
    assert len(test) >= 3
    for data in (train, test):
        peaks = data.images.amax(dim=(1, 2, 3)).tolist()
        assert peaks == [100 + 50 * label for label in data.labels.tolist()]
    assert folders.profile_folder(found).image_size == 28


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    for first in (0, 1):
        write(tmp_path, "train-0.parquet", [row(number, (number + first) % 3) for number in range(9)])
        train, _ = folders.read(folders.scan(tmp_path), "train", SPEC)
        peaks = train.images.amax(dim=(1, 2, 3)).tolist()
        assert peaks == [100 + 50 * label for label in train.labels.tolist()]


def test_tiles_of_one_source_are_paired_and_stay_together(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", [row(number // 3, number % 3) for number in range(120)])
    found = folders.scan(tmp_path)
    names = [{image.stem for files in found.parts[part] for image in files} for part in ("train", "test")]
    assert not names[0] & names[1]
    train, _ = folders.read(found, "train", SPEC)
    assert train.counterparts is not None


def test_parts_are_told_by_the_names_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, "train-00000-of-00001.parquet", [row(number, number % 2) for number in range(10)])
    write(tmp_path, "test-00000-of-00001.parquet", [row(number, 0) for number in range(20, 23)])
    found = folders.scan(tmp_path)
    assert found.classes == ("cat", "dog")  # of which there are images
    assert {part: [len(files) for files in by_class] for part, by_class in found.parts.items()} == {
        "train": [5, 5], "test": [3, 0],
    }  # fmt: skip


def test_columns_are_those_that_datasets_shows_as_images() -> None:
    note = json.loads(tables.schema(CLASSES).metadata[b"huggingface"])["info"]["features"]
    assert note["image"] == {"_type": "Image"}
    assert note["label"] == note["source_label"] == {"names": list(CLASSES), "_type": "ClassLabel"}
    assert list(note) == tables.schema(CLASSES).names


@pytest.mark.long
def test_datasets_loads_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path, "a.parquet", [row(number, number % 3) for number in range(6)])
    file = str(tmp_path / "a.parquet")
    loaded = datasets.load_dataset("parquet", data_files=file, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.features["label"].names == list(CLASSES)
    assert isinstance(loaded[0]["image"], Image.Image)
    assert [one["label"] for one in loaded] == [0, 1, 2, 0, 1, 2]


def test_files_of_others_are_read(tmp_path: Path) -> None:
    """Labels as text, images as bytes, few and many row groups."""
    rows = {"image": [picture(200)] * 2500, "label": ["left", "right"] * 1250}
    parquet.write_table(pa.table(rows), tmp_path / "x.parquet", row_group_size=700)
    found = folders.scan(tmp_path)
    assert found.classes == ("left", "right")
    images = [image for files in found.parts["train"] for image in files]
    assert all(isinstance(image, tables.TableImage) for image in images)
    assert images[-1].read() == picture(200)  # type: ignore[union-attr]
    assert str(images[0]).startswith(f"{tmp_path / 'x.parquet'}, row ")


def test_a_column_of_names_of_others_may_be_anything(tmp_path: Path) -> None:
    columns = {"image": [picture(200)] * 60, "label": ["a", "b"] * 30, "name": [1, 2] * 30}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    found = folders.scan(tmp_path)
    assert len({image.stem for files in found.parts["train"] for image in files}) > 40


def test_a_large_row_group_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 4000
    rows = {
        "image": [picture(number % 200 + 50) for number in range(count)],
        "label": ["a", "b"] * (count // 2),
    }
    parquet.write_table(pa.table(rows), tmp_path / "x.parquet")
    opened: list[Path] = []
    plain = tables.open_table
    monkeypatch.setattr(tables, "open_table", lambda file: opened.append(file) or plain(file))
    found = folders.scan(tmp_path)
    opened.clear()
    folders.read(found, "train", SPEC)
    assert len(opened) == 1
    last = tables.TableImage(tmp_path / "x.parquet", 3999, "x")
    first = tables.TableImage(tmp_path / "x.parquet", 0, "x")
    assert (last.read(), first.read()) == (picture(3999 % 200 + 50), picture(50))


@pytest.mark.parametrize("labels", [[0, 1, 10, 2] * 3, ["0", "1", "10", "2"] * 3], ids=["numbers", "names"])
def test_numbers_without_names_are_the_names(tmp_path: Path, labels: list[Any]) -> None:
    parquet.write_table(pa.table({"image": [picture(200)] * 12, "label": labels}), tmp_path / "x.parquet")
    assert folders.scan(tmp_path).classes == ("0", "1", "2", "10")


def test_an_image_that_cannot_be_read_is_left_out_by_its_row(tmp_path: Path) -> None:
    rows = [row(number, number % 2) for number in range(40)]
    rows[3]["image"]["bytes"] = b"nothing"
    rows[5]["image"]["bytes"] = None
    write(tmp_path, "a.parquet", rows)
    found = folders.scan(tmp_path)
    left_out = [one for part in ("train", "test") for one in folders.read(found, part, SPEC)[1]]
    assert sorted(image.row for image, _ in left_out) == [3, 5]  # type: ignore[union-attr]
    assert any("there is no image in this row" in reason for _, reason in left_out)


def test_what_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, columns: dict[str, Any], message: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        parquet.write_table(pa.table(columns), folder / "a.parquet")
        with pytest.raises(DataError, match=message):
            folders.scan(folder)

    refused("columns", {"picture": [b""]}, "no columns image and label; there are picture")
    refused("float", {"image": [b""], "label": [0.5]}, r"the label 0\.5 is no class")
    refused("one", {"image": [b""] * 2, "label": ["a", "a"]}, "hold 1 classes")
    (tmp_path / "one" / "b").mkdir()
    with pytest.raises(DataError, match="the folder b stands beside Parquet files"):
        folders.scan(tmp_path / "one")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        folders.scan(broken)
    write(tmp_path / "tests", "test-0.parquet", [row(1, 0)])
    with pytest.raises(DataError, match="none of its Parquet files is to train on"):
        folders.scan(tmp_path / "tests")
    write(tmp_path / "more", "train.parquet", [row(1, 0), row(2, 1)])
    write(tmp_path / "more", "val.parquet", [row(3, 2)])
    with pytest.raises(DataError, match="the class eel is only among the val images"):
        folders.scan(tmp_path / "more")
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cvae-cli\[parquet\]'"):
        folders.scan(tmp_path / "more")


def test_arrow_is_imported_for_nothing_else() -> None:
    import subprocess

    code = "import sys\nfrom cvae_cli.data import folders\nassert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiles_are_plain_png() -> None:
    image = Image.open(io.BytesIO(picture(200)))
    assert (image.size, image.mode, image.info) == ((28, 28), "L", {})


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_folder_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"out\xff")
    write(folder, "a.parquet", [row(number, number % 3) for number in range(9)])
    assert tables.open_table(folder / "a.parquet").read().num_rows == 9
    train, left_out = folders.read(folders.scan(folder), "train", SPEC)
    assert (len(train.labels) > 3, left_out) == (True, [])
