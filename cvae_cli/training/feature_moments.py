"""How usual and how varied what is drawn is for its class, in the features of frozen networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WINDOW = 500
"""Images of each class that the running moments look back on."""
_ENOUGH = 100
"""Images and tiles of a class before its moments are compared."""
_LEAST_STD = 1e-3


class FeatureMoments(nn.Module):
    """Running mean and variance of each class's features, of real images and of tiles.

    A discriminator and a classifier see one image at a time, and both are pleased by one usual car for every
    original. Moments see the whole class.
    """

    def __init__(self, num_classes: int, sizes: tuple[int, ...]) -> None:
        """Nothing has been seen yet.

        Args:
            num_classes: K.
            sizes: how many numbers each network's features have.
        """
        super().__init__()
        self.sizes = sizes
        shape = (2, num_classes, sum(sizes))
        self.mean: Tensor
        self.variance: Tensor
        self.seen: Tensor
        # Without features there is nothing for a checkpoint to hold.
        persistent = bool(sizes)
        self.register_buffer("mean", torch.zeros(shape), persistent=persistent)
        self.register_buffer("variance", torch.ones(shape), persistent=persistent)
        self.register_buffer("seen", torch.zeros(2, num_classes, 1), persistent=persistent)

    def forward(
        self, real: list[Tensor], y: Tensor, tiles: list[Tensor], target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take note of a batch, and compare its tiles with real images.

        Args:
            real: each network's features of the originals, (B, D).
            y: (B,) int64, their labels.
            tiles: the same of the tiles.
            target: (B,) int64, their labels.

        Returns:
            Two scalars. How far the moments of tiles are from those of real images of the same class, in
            standard deviations of these: half the squared difference of the means, and a quarter of that of
            the variances' ratio to 1. And by how much distances among the tiles of the batch differ from
            those among their originals, the class of each left out, relative to these (the idea of Benaim &
            Wolf 2017, "One-sided unsupervised domain mapping", eq. 3, in features).
        """
        originals, drawn = (torch.cat([part.float() for part in parts], dim=1) for parts in (real, tiles))
        for which, (features, labels) in enumerate(((originals, y), (drawn, target))):
            self._follow(which, features.detach(), labels)
        std = self.variance[0].sqrt().clamp(min=_LEAST_STD)
        relative = (originals - self.mean[0][y]) / std[y]
        relative_drawn = (drawn - self.mean[0][target]) / std[target]

        known = (self.seen.amin(dim=0) >= _ENOUGH).float()  # (K, 1)
        shift = known * (self.mean[1] - self.mean[0]) / std
        excess = known * (self.variance[1] / std.square() - 1)
        value = (shift.square() / 2 + excess.square() / 4).mean()
        # The gradient of that with respect to the whole window, applied to those of it that are here.
        here, towards = relative_drawn, shift[target]
        push = (towards * here + excess[target] / 2 * (here - towards).square()).mean()
        distances = [
            self._distances(a, b)
            for a, b in zip(relative.split(self.sizes, 1), relative_drawn.split(self.sizes, 1), strict=True)
        ]
        return value + push - push.detach(), known.amin() * torch.stack(distances).mean()

    def _distances(self, originals: Tensor, drawn: Tensor) -> Tensor:
        if len(originals) < 2:
            return drawn.sum() * 0.0  # one image has no distance
        wanted = _apart(originals)
        return (_apart(drawn) - wanted).abs().mean() / wanted.mean().clamp(min=_LEAST_STD)

    @torch.no_grad()
    def _follow(self, which: int, features: Tensor, labels: Tensor) -> None:
        """Move the moments of the classes of a batch: their mean at first, later over a window."""
        mean, variance, seen = self.mean[which], self.variance[which], self.seen[which]
        # (B, K); torch's one_hot looks at the labels, for which a GPU would have to be waited for.
        each = (labels[:, None] == torch.arange(len(mean), device=labels.device)).to(features.dtype)
        count = each.sum(dim=0)[:, None]
        seen.add_(count).clamp_(max=_WINDOW)
        share = count / seen.clamp(min=1)
        mean.add_(share * (each.T @ features / count.clamp(min=1) - mean))
        deviation = (features - mean[labels]).square()
        variance.add_(share * (each.T @ deviation / count.clamp(min=1) - variance))


def _apart(x: Tensor) -> Tensor:
    """How far each two of (B, D) lie apart, (B * (B - 1) / 2,)."""
    # Apple's GPUs have no pdist.
    return _apart_by_pairs(x) if x.device.type == "mps" else F.pdist(x)


def _apart_by_pairs(x: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(x), len(x), 1, device=x.device)
    return torch.linalg.vector_norm(x[first] - x[second], dim=1)
