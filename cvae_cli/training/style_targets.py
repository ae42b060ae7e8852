"""Which style a tile should have: that of its original, relative to the classes of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.canvas import to_canvas
from cvae_cli.model.spec import ImageKind, ModelSpec
from cvae_cli.model.style_losses import colour_layout, silhouette_style, stroke_style

_MEASURES: dict[ImageKind, tuple[Callable[[Tensor], Tensor], int]] = {
    ImageKind.STROKES: (stroke_style, 3),
    ImageKind.SILHOUETTES: (silhouette_style, 2),
}
"""The measure of each kind that is compared within a class, and how many numbers it gives."""
_BATCH = 1000


class StyleTargets(nn.Module):
    """Mean and standard deviation of each class's style, measured on real training images."""

    def __init__(self, spec: ModelSpec) -> None:
        """Nothing is measured yet."""
        super().__init__()
        self.spec = spec
        self.measure: Callable[[Tensor], Tensor] | None
        self.measure, count = _MEASURES.get(spec.kind, (None, 0))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(spec.num_classes, count))
        self.register_buffer("std", torch.ones(spec.num_classes, count))

    @torch.no_grad()
    def fit(self, images: Tensor, y: Tensor) -> None:
        """Measure the style of each class.

        Args:
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if self.measure is None:
            return
        batches = (to_canvas(part, self.spec.canvas_size) for part in images.split(_BATCH))
        style = torch.cat([self.measure(batch) for batch in batches])
        for label in range(self.spec.num_classes):
            of_class = style[y == label]
            if len(of_class) > 1:
                self.mean[label] = of_class.mean(dim=0)
                self.std[label] = of_class.std(dim=0).clamp(min=1e-3)

    def difference(self, x: Tensor, y: Tensor, tile: Tensor, target: Tensor) -> Tensor:
        """How far the style of tiles is from that of their originals.

        The style of strokes and silhouettes is compared relative to the class of each; colours are
        compared as they are.

        Args:
            x: (B, C, H, W), the originals, in [0, 1].
            y: (B,) int64, their labels.
            tile: (B, C, H, W) in [0, 1].
            target: (B,) int64, the labels of the tiles.

        Returns:
            A scalar.
        """
        if self.measure is None:
            return F.l1_loss(colour_layout(tile), colour_layout(x))
        wanted = (self.measure(x) - self.mean[y]) / self.std[y]
        found = (self.measure(tile) - self.mean[target]) / self.std[target]
        # Beyond three standard deviations lie scribbles that another class has no match for.
        difference = F.smooth_l1_loss(found, wanted.clamp(-3, 3), reduction="none")
        return difference.sum(dim=1).mean()
