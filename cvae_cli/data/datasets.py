"""The data sets known by name, as uint8 tensors in memory."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvae_cli import storage
from cvae_cli.data.catalogue import CLASSES
from cvae_cli.data.labelled import LabelledImages
from cvae_cli.errors import DataError, ImageError
from cvae_cli.images.load import open_image


def load_mnist(data_dir: Path, *, train: bool) -> LabelledImages:
    """MNIST (LeCun et al. 1998) through torchvision, downloaded where it is missing.

    Raises:
        DataError: the files are not there and cannot be downloaded, or they are damaged.
    """
    from torchvision.datasets import MNIST

    data = _from_torchvision(
        MNIST,
        data_dir,
        train,
        name="MNIST",
        where=data_dir / "MNIST" / "raw",
        remedy="Name the folder that holds MNIST/raw/*-ubyte with --data-dir",
    )
    return LabelledImages(data.data[:, None].contiguous(), data.targets.long(), CLASSES["mnist"])


def load_fashion(data_dir: Path, *, train: bool) -> LabelledImages:
    """Fashion-MNIST (Xiao et al. 2017) through torchvision, downloaded where it is missing.

    The folder may also be the one that holds its four ``.gz`` files, as Debian's package
    ``dataset-fashion-mnist`` lays them out.

    Raises:
        DataError: the files are not there and cannot be downloaded, or they are damaged.
    """
    from torchvision.datasets import FashionMNIST

    with storage.temporary_folder() as scratch:
        root, where = data_dir, data_dir / "FashionMNIST" / "raw"
        if storage.exists(data_dir / "train-images-idx3-ubyte.gz"):
            root, where = scratch, data_dir
            _unpack(data_dir, root / "FashionMNIST" / "raw")
        data = _from_torchvision(
            FashionMNIST,
            root,
            train,
            name="Fashion-MNIST",
            where=where,
            remedy="Name the folder that holds FashionMNIST/raw/*-ubyte, or its .gz files, with --data-dir",
        )
    images = data.data[:, None].contiguous()
    return LabelledImages(images, data.targets.long(), CLASSES["fashion"])


def _unpack(folder: Path, into: Path) -> None:
    """Unpack all ``*-ubyte.gz`` of a folder. Raises :class:`DataError` where one is damaged."""
    storage.make_folder(into)
    names = [name for name, _ in storage.list_folder(folder) if name.endswith("-ubyte.gz")]
    for file in (folder / name for name in names):
        try:
            storage.unpack_gzip(file, into / file.stem)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{file}: cannot be unpacked ({_first_line(error)}).") from error


def load_cifar10(data_dir: Path, *, train: bool) -> LabelledImages:
    """CIFAR-10 (Krizhevsky 2009), from class folders or through torchvision.

    Class folders are ``cifar10/{train,test}/CLASS/*`` below the given folder, or the same without
    ``cifar10/``. Where there are none torchvision reads its own files, or downloads them.

    Raises:
        DataError: it is not there and cannot be downloaded, or it is damaged.
    """
    part = "train" if train else "test"
    for folder in (data_dir / "cifar10" / part, data_dir / part):
        if all(storage.is_folder(folder / name) for name in CLASSES["cifar10"]):
            return load_class_folders(folder, CLASSES["cifar10"])
    from torchvision.datasets import CIFAR10

    data = _from_torchvision(
        CIFAR10,
        data_dir,
        train,
        name="CIFAR-10",
        where=data_dir,
        remedy="Name with --data-dir the folder that holds cifar-10-batches-py/, or class folders "
        "cifar10/train/airplane/ and so on",
    )
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(data.targets), CLASSES["cifar10"])


def _from_torchvision(
    data_set: Callable[..., Any], data_dir: Path, train: bool, *, name: str, where: Path, remedy: str
) -> Any:
    """A data set of torchvision's, downloaded where it is missing.

    Raises:
        DataError: the files are not there and cannot be downloaded, or they are damaged.
    """
    try:
        return data_set(str(data_dir), train=train, download=False)
    except RuntimeError:
        try:
            return data_set(str(data_dir), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{name} is not in {where} and could not be downloaded ({_first_line(error)}). "
                f"{remedy}, or run again where there is a network."
            ) from error
    except (OSError, ValueError, AssertionError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"the {name} files in {where} are damaged ({_first_line(error)}); "
            "delete them to have them downloaded again."
        ) from error


def load_class_folders(folder: Path, classes: tuple[str, ...]) -> LabelledImages:
    """All images of ``folder/CLASS/``, by name, as RGB; they must be of one size.

    Raises:
        DataError: a file that cannot be read, images of several sizes, or none.
    """
    images, labels = [], []
    for label, class_name in enumerate(classes):
        for name, _ in storage.list_folder(folder / class_name):
            file = folder / class_name / name
            try:
                pixels = open_image(file).pixels
            except ImageError as error:
                raise DataError(f"{file}: cannot be read as an image ({error}).") from error
            images.append(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))  # grey ones too
            labels.append(label)
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(
            f"{folder}: {'images of several sizes' if sizes else 'no images'} in its class folders."
        )
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(stacked, torch.tensor(labels), classes)


_LOADERS: dict[str, Callable[..., LabelledImages]] = {
    "mnist": load_mnist,
    "fashion": load_fashion,
    "cifar10": load_cifar10,
}


def load(name: str, data_dir: Path, *, train: bool) -> LabelledImages:
    """Load the training or the test part of a data set by its name.

    Raises:
        DataError: no such data set, or it cannot be had.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown data set {name!r}; known by name: {', '.join(_LOADERS)}.")
    return _LOADERS[name](data_dir, train=train)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
