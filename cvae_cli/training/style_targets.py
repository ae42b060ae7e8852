"""Which style a tile should have: that of its original, relative to the classes of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.model.canvas import images_at_once, to_canvas
from cvae_cli.model.classifiers import Classifier
from cvae_cli.model.spec import ImageKind, ModelSpec
from cvae_cli.model.style_losses import colour_layout, silhouette_style, stroke_style

_MEASURES: dict[ImageKind, tuple[Callable[[Tensor], Tensor], int]] = {
    ImageKind.STROKES: (stroke_style, 3),
    ImageKind.SILHOUETTES: (silhouette_style, 2),
}
"""The measure of each kind that is compared within a class, and how many numbers it gives."""
_BATCH = 1000


class FeatureStyle(nn.Module):
    """Style as second moments of feature maps, relative to the class.

    Gram matrices of the first two feature maps of a frozen classifier, each with a constant channel so that
    means count too (Gatys et al. 2016, "Image style transfer using convolutional neural networks", eq. 3).
    What they are differs more by class than by style, so they are compared in standard deviations within the
    class of each image.
    """

    def __init__(self, spec: ModelSpec, classifier: nn.Module) -> None:
        """Nothing is measured yet; only the small classifier has feature maps for it."""
        super().__init__()
        self.spec = spec
        widths = classifier.style_widths if isinstance(classifier, Classifier) else ()
        count = sum((width + 1) ** 2 for width in widths)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(spec.num_classes, count))
        self.register_buffer("std", torch.ones(spec.num_classes, count))

    @torch.no_grad()
    def fit(self, classifier: nn.Module, images: Tensor, y: Tensor) -> None:
        """Measure the moments of each class.

        Args:
            classifier: pre-trained and frozen.
            images: (N, C, H, W) uint8, real training images.
            y: (N,) int64.
        """
        if not isinstance(classifier, Classifier):
            return
        device = self.mean.device
        for label in range(self.spec.num_classes):
            parts = images[y.cpu() == label].split(images_at_once(_BATCH, self.spec.canvas_size))
            style = torch.cat(
                [_moments(classifier, to_canvas(part.to(device), self.spec.canvas_size)) for part in parts]
                or [self.mean[:0]]
            )
            if len(style) > 1:
                self.mean[label] = style.mean(dim=0)
                self.std[label] = style.std(dim=0).clamp(min=1e-4)

    def difference(self, classifier: nn.Module, x: Tensor, y: Tensor, tile: Tensor, target: Tensor) -> Tensor:
        """How far the style of tiles is from that of their originals, relative to the class of each.

        Args:
            classifier: as for :meth:`fit`; no gradient reaches its parameters.
            x: (B, C, H, W), the originals, in [0, 1].
            y: (B,) int64, their labels.
            tile: (B, C, H, W) in [0, 1].
            target: (B,) int64, the labels of the tiles.

        Returns:
            A scalar.
        """
        if not isinstance(classifier, Classifier):
            return tile.sum() * 0.0
        with torch.no_grad():
            wanted = ((_moments(classifier, x) - self.mean[y]) / self.std[y]).clamp(-3, 3)
        found = (_moments(classifier, tile) - self.mean[target]) / self.std[target]
        return (found - wanted).abs().mean()


def _moments(classifier: Classifier, x: Tensor) -> Tensor:
    """Gram matrices of the feature maps, (B, sum of (C + 1)^2) float32."""
    found = []
    for h in classifier.style_maps(x):
        flat = F.pad(h.float().flatten(2), (0, 0, 0, 1), value=1.0)  # (B, C + 1, H * W)
        with torch.autocast(h.device.type, enabled=False):
            found.append((flat @ flat.mT / flat.shape[2]).flatten(1))
    return torch.cat(found, dim=1)


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
        size = self.spec.canvas_size
        batches = (to_canvas(part, size) for part in images.split(images_at_once(_BATCH, size)))
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
