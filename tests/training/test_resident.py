from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cvae_cli.data.labelled import LabelledImages
from cvae_cli.data.pairs import WithCounterparts
from cvae_cli.training import resident, run
from cvae_cli.training.recipes import MNIST
from cvae_cli.training.resident import ResidentImages


@pytest.fixture
def data() -> LabelledImages:
    images = torch.arange(40, dtype=torch.uint8).reshape(10, 1, 2, 2)
    return LabelledImages(images, torch.arange(10) % 3, ("a", "b", "c"))


@pytest.mark.parametrize(("free", "place"), [(160, "meta"), (159, "cpu")])
def test_images_are_brought_where_there_is_room(
    data: LabelledImages, monkeypatch: pytest.MonkeyPatch, free: int, place: str
) -> None:
    monkeypatch.setattr(resident, "free_bytes", lambda device: free)
    images = ResidentImages(data, torch.device("meta"))
    assert len(images) == 10
    batch, labels = images.__getitems__([3, 1, 3])
    assert (batch.device.type, labels.device.type) == (place, place)
    assert (batch.shape, batch.dtype, labels.dtype) == ((3, 1, 2, 2), torch.uint8, torch.int64)


def test_batches_are_those_of_the_data(data: LabelledImages) -> None:
    images = ResidentImages(data, torch.device("cpu"))
    for got, wanted in zip(images.__getitems__([7, 0, 7]), data.__getitems__([7, 0, 7]), strict=True):
        assert torch.equal(got, wanted)
    image, label = images[4]
    assert torch.equal(image, data.images[4])
    assert int(label) == 1


@pytest.mark.parametrize(("device", "kind"), [("cpu", LabelledImages), ("cuda", ResidentImages)])
def test_training_on_a_gpu_keeps_them_there(
    data: LabelledImages, monkeypatch: pytest.MonkeyPatch, device: str, kind: type
) -> None:
    monkeypatch.setattr(run, "resolve_device", torch.device)
    options = run.TrainerOptions(device=device)
    assert isinstance(run._loader(data, MNIST, options).dataset, kind)
    # Counterparts are drawn where the images are.
    paired = replace(data, counterparts=torch.full((10, 3), -1))
    assert isinstance(run._loader(paired, MNIST, options).dataset, WithCounterparts)
