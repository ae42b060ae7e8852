"""Data sets for training and measuring, as uint8 tensors in memory."""

from __future__ import annotations

import gzip
import pickle
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvae_cli.engine import recipes
from cvae_cli.errors import DataError, ImageError
from cvae_cli.images import decode


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) uint8, at native size.
        labels: (N,) int64 in [0, K).
        classes: the K class names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One image and its label."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A batch at once; a ``DataLoader`` prefers this to one call an image."""
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> LabelledImages:
        """The images at the given indices."""
        return LabelledImages(self.images[indices], self.labels[indices], self.classes)


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
    return LabelledImages(data.data[:, None].contiguous(), data.targets.long(), tuple("0123456789"))


def load_fashion(data_dir: Path, *, train: bool) -> LabelledImages:
    """Fashion-MNIST (Xiao et al. 2017) through torchvision, downloaded where it is missing.

    The folder may also be the one that holds its four ``.gz`` files, as Debian's package
    ``dataset-fashion-mnist`` lays them out.

    Raises:
        DataError: the files are not there and cannot be downloaded, or they are damaged.
    """
    from torchvision.datasets import FashionMNIST

    with tempfile.TemporaryDirectory() as scratch:
        root, where = data_dir, data_dir / "FashionMNIST" / "raw"
        if (data_dir / "train-images-idx3-ubyte.gz").exists():
            root, where = Path(scratch), data_dir
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
    return LabelledImages(images, data.targets.long(), recipes.FASHION.spec.classes)


def _unpack(folder: Path, into: Path) -> None:
    """Unpack all ``*-ubyte.gz`` of a folder. Raises :class:`DataError` where one is damaged."""
    into.mkdir(parents=True)
    for file in folder.glob("*-ubyte.gz"):
        try:
            with gzip.open(file) as packed, (into / file.stem).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
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
        if all((folder / name).is_dir() for name in recipes.CIFAR10.spec.classes):
            return load_class_folders(folder, recipes.CIFAR10.spec.classes)
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
    return LabelledImages(images, torch.tensor(data.targets), recipes.CIFAR10.spec.classes)


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
    for label, name in enumerate(classes):
        for file in sorted((folder / name).iterdir()):
            try:
                pixels = decode.decode(decode.read_bytes(file)).pixels
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
NAMES = tuple(_LOADERS)


def load(name: str, data_dir: Path, *, train: bool) -> LabelledImages:
    """Load the training or the test part of a data set by its name.

    Raises:
        DataError: no such data set, or it cannot be had.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown data set {name!r}; there is {', '.join(NAMES)}.")
    return _LOADERS[name](data_dir, train=train)


def hold_out(data: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    """Split training images into a part to train on and a part to validate on.

    The split is the same for every seed, so that runs can be compared. Where the set is small
    at most a tenth of it is held out.
    """
    count = min(count, len(data) // 10)
    if count < 1:
        raise DataError(f"{len(data)} training images are too few: at least 10 are needed.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(20240229))
    return data.subset(order[count:]), data.subset(order[:count])


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
