"""Drawing a batch: the tiles are those of the model, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvae_cli.images.discover import iter_images
from cvae_cli.judge.predict import Judge
from cvae_cli.model import registry
from cvae_cli.relabelling.batch import LoadedItem, relabel_batch
from cvae_cli.relabelling.labels import Label
from cvae_cli.relabelling.worker import Worker


@pytest.fixture
def items(worker: Worker) -> list[LoadedItem]:
    """Three images: labelled as 7, as one of the targets, and not at all."""
    loaded = [worker.load(ref) for ref in list(iter_images(worker.plan.sources, exclude=worker.plan.out))[:3]]
    first, second, third = (item for item in loaded if isinstance(item, LoadedItem))
    return [first, replace(second, label=Label(1, "csv")), replace(third, label=None)]


def test_tiles_are_what_the_model_draws(worker: Worker, items: list[LoadedItem]) -> None:
    seven, one, predicted = relabel_batch(worker.plan, worker.relabeller, None, items)
    assert (seven.label, seven.label_source, seven.confidence, seven.targets) == (7, "class", None, (0, 1))
    assert (one.label, one.label_source, one.targets) == (1, "csv", (0,))  # never its own class
    native = np.stack([item.image.native for item in items])
    labels, confidences = worker.relabeller.classify(native)
    assert (predicted.label, predicted.label_source) == (labels[2], "predict")
    assert predicted.confidence == pytest.approx(confidences[2])
    for drawn, image in zip((seven, one, predicted), native, strict=True):
        targets = np.array([drawn.targets])
        alone = worker.relabeller.draw(image[None], np.array([drawn.label]), targets)[0]
        assert np.array_equal(drawn.tiles, alone)
        assert drawn.probabilities is None
        assert drawn.realism is None


def test_each_tile_is_classified_by_the_judge(worker: Worker, items: list[LoadedItem]) -> None:
    judge = Judge(registry.shipped("judge")["mnist-judge"], device="cpu", batch_size=8)
    for drawn in relabel_batch(worker.plan, worker.relabeller, judge, items):
        assert drawn.probabilities is not None
        assert drawn.probabilities.shape == (len(drawn.targets), 10)
        expected = judge.predict(drawn.tiles)
        assert np.abs(drawn.probabilities - expected.probabilities).max() < 1e-5
        # Of its own target each, whatever else the image is drawn as.
        assert drawn.realism is not None
        usual = judge.realism(expected, np.array(drawn.targets))
        assert np.abs(drawn.realism - usual).max() < 1e-3


def test_an_image_of_the_only_target_has_no_tiles(worker: Worker, items: list[LoadedItem]) -> None:
    (drawn,) = relabel_batch(replace(worker.plan, targets=(7,)), worker.relabeller, None, items[:1])
    assert drawn.targets == ()
    assert len(drawn.tiles) == 0
