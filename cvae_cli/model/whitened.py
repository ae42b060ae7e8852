"""A short classifier of photographs, which is trained in a few minutes of a GPU or an hour of a core.

Its first layer is fixed: it whitens small patches, so that what follows starts from features of equal weight
(Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3). Then come
blocks of two convolutions, each block at half of the side of the one before. :mod:`cvae_cli.data.fitting`
trains it as that paper does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

_LEAST_VARIANCE = 1e-3
"""Added to the variance of each direction of the patches, at unit contrast. What varies less is mostly the
noise of a camera or of JPEG; amplified, it would be what a decoder is taught to draw."""
_CONTRAST = 4.0
"""Photographs in [0, 1] have a standard deviation of about 1/4."""
_LOGIT_SCALE = 1 / 9
"""Of the logits in training, so that the first steps are small ones."""


class WhitenedClassifier(nn.Module):
    """Predicts the label of a photograph.

    It is trained with batch normalisation without a gain, which :meth:`take` folds into the convolutions: the
    result computes the same function, and its output depends on its own image alone.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        num_classes: int,
        *,
        patch: int = 2,
        training: bool = False,
    ) -> None:
        """Build the network, with random weights.

        Args:
            channels: of the images, 1 or 3.
            widths: channels of the feature maps at 1/2, 1/4 and so on of the side.
            num_classes: number of labels.
            patch: side in pixels of the patches that are whitened.
            training: whether with batch normalisation.
        """
        super().__init__()
        self.widths, self.patch, self.with_norm = tuple(widths), patch, training
        inputs = 2 * channels * patch**2
        self.whiten = nn.Conv2d(channels, inputs, patch)
        self.whiten.weight.requires_grad_(False)
        self.convolutions = nn.ModuleList()
        for width in widths:
            self.convolutions += [_convolution(inputs, width, training), _convolution(width, width, training)]
            inputs = width
        self.head = nn.Linear(inputs, num_classes, bias=False)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps at 1/2, 1/4 and so on of the side of (B, C, H, W) in [0, 1], one row less each."""
        h, found = F.gelu(self.whiten(_CONTRAST * (x - 0.5))), []
        for first, second in zip(self.convolutions[::2], self.convolutions[1::2], strict=True):
            if self.with_norm:
                # Pooled first, as in the paper: the same, since there is no gain, on a quarter of the pixels.
                assert isinstance(first, nn.Sequential)
                h = first[1](F.max_pool2d(first[0](h), 2))
            else:
                h = F.max_pool2d(first(h), 2)
            h = F.gelu(second(F.gelu(h)))
            found.append(h)
        return found

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, D), the largest value of each of the last maps."""
        return _largest(self.maps(x))

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Logits, (B, K), from the feature maps that :meth:`maps` returned."""
        logits: Tensor = self.head(_largest(maps))
        return _LOGIT_SCALE * logits if self.with_norm else logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.logits(self.maps(x))

    def mirrored_logits(self, x: Tensor) -> Tensor:
        """Logits, (B, K), the mean of those of the image and of its mirror image: more often right."""
        both: Tensor = self(torch.cat([x, x.flip(3)]))
        return both.unflatten(0, (2, x.shape[0])).mean(dim=0)

    @torch.no_grad()
    def fit_whitening(self, parts: Iterable[Tensor]) -> None:
        """Fit the first layer.

        Args:
            parts: some thousand training images, in batches of (B, C, H, W) in [0, 1] that fit into memory.
        """
        size, channels = self.patch, self.whiten.in_channels
        total, count = torch.zeros(channels * size**2, channels * size**2, dtype=torch.float64), 0
        for x in parts:
            # On the CPU: not every device has double precision.
            patches = F.unfold(_CONTRAST * (x.float().cpu() - 0.5), size)  # (B, C * size^2, L)
            patches = patches.transpose(1, 2).flatten(0, 1).double()
            total += patches.T @ patches
            count += len(patches)
        variances, directions = torch.linalg.eigh(total / count)
        filters = (directions / (variances + _LEAST_VARIANCE).sqrt()).T.flip(0)
        filters = filters.reshape(-1, channels, size, size)
        self.whiten.weight.copy_(torch.cat([filters, -filters]).float())
        assert self.whiten.bias is not None
        self.whiten.bias.zero_()

    def for_training(self) -> WhitenedClassifier:
        """A new network of the same shape with batch normalisation, ready to be trained."""
        channels, classes = self.whiten.in_channels, self.head.out_features
        network = WhitenedClassifier(channels, self.widths, classes, patch=self.patch, training=True)
        return network.to(memory_format=torch.channels_last).to(self.head.weight.device)

    @torch.no_grad()
    def take(self, trained: WhitenedClassifier) -> None:
        """Take over the weights of a trained :meth:`for_training` network."""
        trained.eval()
        self.whiten.load_state_dict(trained.whiten.state_dict())
        self.head.weight.copy_(_LOGIT_SCALE * trained.head.weight)
        for own, pair in zip(self.convolutions, trained.convolutions, strict=True):
            own.load_state_dict(fuse_conv_bn_eval(pair[0], pair[1]).state_dict())  # type: ignore[index]


def _convolution(inputs: int, outputs: int, training: bool) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not training)
    # The identity as far as it goes, so that a deep network starts as a shallow one.
    nn.init.dirac_(convolution.weight.data[:inputs])
    if not training:
        return convolution
    # A channel that is always the same would be amplified beyond half precision, in which weights are kept.
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.4)
    norm.weight.requires_grad_(False)
    return nn.Sequential(convolution, norm)


def _largest(maps: list[Tensor]) -> Tensor:
    """The largest value of each of the last maps, (B, D)."""
    return maps[-1].amax(dim=(2, 3))
