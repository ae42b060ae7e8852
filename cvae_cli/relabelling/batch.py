"""Drawing a batch: arrays in, arrays out; nothing is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cvae_cli.images.discover import ImageRef
from cvae_cli.images.prepare import LoadedImage
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.labels import Label
from cvae_cli.relabelling.plan import RelabelPlan

if TYPE_CHECKING:
    from cvae_cli.inference.relabeller import Relabeller
    from cvae_cli.judge.predict import Judge


@dataclass(frozen=True)
class LoadedItem:
    """An image that is ready for the model.

    Attributes:
        ref: the image.
        image: its pixels.
        label: its own label; ``None`` leaves it to the model's classifier.
        fingerprint: of everything that decides its pictures.
        outcome: what is known of it so far.
    """

    ref: ImageRef
    image: LoadedImage
    label: Label | None
    fingerprint: str
    outcome: ImageOutcome


@dataclass(frozen=True)
class RelabelledItem:
    """An image with its tiles.

    Attributes:
        item: the image.
        label: index of its own class.
        label_source: where the label comes from.
        confidence: the classifier's probability of the label; ``None`` unless it was predicted.
        targets: indices of the T classes that it was drawn as.
        tiles: (T, C, H, W) uint8 at native size.
        probabilities: (T, K) float32, the judge's, of each tile; ``None`` without a judge.
        realism: (T,) float32, by the judge's bank, of each tile; ``None`` without one.
    """

    item: LoadedItem
    label: int
    label_source: str
    confidence: float | None
    targets: tuple[int, ...]
    tiles: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    realism: NDArray[np.float32] | None = None


def relabel_batch(
    plan: RelabelPlan, relabeller: Relabeller, judge: Judge | None, items: Sequence[LoadedItem]
) -> list[RelabelledItem]:
    """Predict the labels that are missing, draw all targets, and have the judge classify the tiles.

    Args:
        plan: of the run.
        relabeller: the loaded model.
        judge: the loaded judge, or ``None``.
        items: at least one.
    """
    from cvae_cli.inference.transfer import download, upload  # not torch before there is something to draw

    # To a GPU they go once, and tiles come back once, when the judge there has seen them.
    images = upload(np.stack([item.image.native for item in items]), relabeller.device)
    labels = np.array([item.label.index if item.label else -1 for item in items], np.int64)
    confidences: list[float | None] = [None] * len(items)
    if (labels < 0).any():
        predicted, probabilities = relabeller.classify(images)
        for number in np.flatnonzero(labels < 0).tolist():
            labels[number], confidences[number] = predicted[number], float(probabilities[number])
    targets = [plan.targets_of(int(label)) for label in labels]
    # One shape for the whole run: where an image has fewer targets, the rest of its row is dropped.
    others = (labels + 1) % plan.spec.num_classes
    wanted = np.repeat(others[:, None], max(1, plan.max_targets), axis=1)
    for row, indices in zip(wanted, targets, strict=True):
        row[: len(indices)] = indices
    drawn, found = relabeller.draw_on_device(images, labels, wanted)  # (N, T, C, H, W), (N,)
    judged: NDArray[np.float32] | None = None
    realism: NDArray[np.float32] | None = None
    if judge is not None:
        predictions = judge.predict(drawn.flatten(0, 1))
        judged = predictions.probabilities.reshape(*wanted.shape, -1)  # (N, T, K)
        if judge.has_bank:
            realism = judge.realism(predictions, wanted.reshape(-1)).reshape(wanted.shape)  # (N, T)
    tiles, scales = download(drawn, found)
    return [
        RelabelledItem(
            item=_with_scale(item, float(scales[i])),
            label=int(labels[i]),
            label_source=item.label.source if item.label else "predict",
            confidence=confidences[i],
            targets=targets[i],
            tiles=tiles[i, : len(targets[i])],
            probabilities=None if judged is None else judged[i, : len(targets[i])],
            realism=None if realism is None else realism[i, : len(targets[i])],
        )
        for i, item in enumerate(items)
    ]


def _with_scale(item: LoadedItem, scale: float) -> LoadedItem:
    """The image with a note of how much its latent vector was shrunk, if it was."""
    if scale == 1.0:
        return item
    prepared = {**item.outcome.prepared, "latent_scale": round(scale, 3)}
    return replace(item, outcome=item.outcome.updated(prepared=prepared))
