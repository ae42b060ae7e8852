from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import Recorder
from PIL import Image

from cvae_cli.data.catalogue import CLASSES
from cvae_cli.errors import DataError, UserError
from cvae_cli.training.options import TrainOptions, resolve
from cvae_cli.training.recipes import MNIST


def test_a_known_data_set_is_resolved(data_dir: Path, tmp_path: Path) -> None:
    options = TrainOptions(
        data_dir=data_dir, out=tmp_path / "run", batch_size=34, learning_rate=1e-4, epochs=6
    )
    recipe, data, folder = resolve(options, Recorder())
    assert (recipe.batch_size, recipe.optimizer.learning_rate) == (34, 1e-4)
    assert recipe.spec == MNIST.spec
    assert (data.name, len(data.training), len(data.validation)) == ("mnist", 306, 34)
    assert folder == tmp_path / "run"
    assert options.trainer(recipe).train_command == (
        "cvae train --data mnist --epochs 6 --seed 0 --batch-size 34 --learning-rate 0.0001"
    )


def test_a_command_is_quoted_and_names_what_differs_from_the_defaults() -> None:
    options = TrainOptions(
        data="my marks", seed=3, arch="resnet18", label_blind=True, image_size=48, channels=1,
        precision="fp32", devices=2,
    )  # fmt: skip
    assert options.command(5) == (
        "cvae train --data 'my marks' --epochs 5 --seed 3 --arch resnet18 --label-blind --image-size 48 "
        "--channels 1 --precision fp32 --devices 2 --num-nodes 1"
    )


def test_options_that_do_not_go_together_are_refused(data_dir: Path) -> None:
    with pytest.raises(UserError, match="add --arch resnet18"):
        resolve(TrainOptions(data_dir=data_dir, label_blind=True), Recorder())
    with pytest.raises(UserError, match="mnist has its own"):
        resolve(TrainOptions(data_dir=data_dir, channels=3), Recorder())


def test_a_known_data_set_of_another_size_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate(CLASSES["cifar10"]):
        (tmp_path / "cifar10" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / "cifar10" / "train" / name / "0.png")
    with pytest.raises(DataError, match=r"64x64 pixels, not 32x32; .* --data FOLDER"):
        resolve(TrainOptions("cifar10", data_dir=tmp_path), Recorder())


def test_parts_of_ones_own_come_in_one_order_for_every_seed_and_process(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label, name in enumerate(("a", "b")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = np.full((32, 32), 100 * label + number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        _, data, _ = resolve(TrainOptions(str(tmp_path / "data"), out=tmp_path / "run"), Mock())
        orders.append(data.training.images[:, 0, 0, 0].tolist())
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])  # not class by class
