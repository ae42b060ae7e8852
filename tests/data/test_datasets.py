from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvae_cli.data import datasets
from cvae_cli.errors import DataError


def test_cifar10_is_read_from_class_folders(photo_dir: Path) -> None:
    data = datasets.load("cifar10", photo_dir, train=True)
    assert data.images.shape == (340, 3, 32, 32)
    assert data.labels.bincount().tolist() == [34] * 10
    assert data.classes[3] == "cat"
    with Image.open(photo_dir / "cifar10" / "train" / "cat" / "0002.png") as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert any(torch.equal(found, pixels) for found in data.images[data.labels == 3])
    # The folder of the set itself will do as well.
    inside = datasets.load("cifar10", photo_dir / "cifar10", train=False)
    assert len(inside) == 40


def test_a_damaged_or_odd_image_is_named(photo_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(photo_dir / "cifar10", root)
    file = root / "test" / "cat" / "0001.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"cat/0001\.png: cannot be read"):
        datasets.load("cifar10", root, train=False)
    Image.new("RGB", (30, 32)).save(file)
    with pytest.raises(DataError, match="several sizes"):
        datasets.load("cifar10", root, train=False)


def test_without_files_or_network_it_says_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    with pytest.raises(DataError, match=r"could not be downloaded \(no network\).*cifar-10-batches-py"):
        datasets.load("cifar10", tmp_path, train=True)


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_is_read_from_its_files_packed_or_not(data_dir: Path, tmp_path: Path, packed: bool) -> None:
    raw = data_dir / "MNIST" / "raw"  # of the same format
    if packed:
        for file in raw.iterdir():
            (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    else:
        shutil.copytree(raw, tmp_path / "FashionMNIST" / "raw")
    expected = datasets.load("mnist", data_dir, train=False)
    found = datasets.load("fashion", tmp_path, train=False)
    assert found.images.equal(expected.images)
    assert found.labels.equal(expected.labels)
    assert found.classes[9] == "ankle-boot"


def test_damaged_files_of_fashion_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be unpacked"):
        datasets.load("fashion", tmp_path, train=True)


def test_missing_and_damaged_data(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def no_network(self: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nmany\nlines")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", no_network)
    with pytest.raises(DataError, match=r"could not be downloaded .*--data-dir"):
        datasets.load("mnist", tmp_path, train=True)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_dir / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        datasets.load("mnist", tmp_path, train=True)
    with pytest.raises(DataError, match="unknown data set"):
        datasets.load("nist", tmp_path, train=True)
