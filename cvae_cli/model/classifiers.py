"""The classifiers inside a model: they label images that come without a label and teach the decoder."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.whitened import WhitenedClassifier


def make_classifier(spec: ModelSpec) -> nn.Module:
    """The classifier that a spec describes, with random weights."""
    if spec.classifier == "whitened":
        return WhitenedClassifier(spec.channels, classifier_widths(spec), spec.num_classes)
    return ResidualClassifier(spec) if spec.arch == "residual" else Classifier(spec)


def classifier_widths(spec: ModelSpec) -> tuple[int, ...]:
    """Channels of a classifier's feature maps at 1/2, 1/4 and so on of the canvas."""
    growth = 4 if spec.classifier == "whitened" else 2
    return tuple(spec.classifier_width * min(growth**number, 4) for number in range(spec.depth))


class Classifier(nn.Module):
    """Predicts the label of an image: a small convolutional network for strokes and silhouettes."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the classifier of a spec."""
        super().__init__()
        width = spec.classifier_width
        deeper = [
            layer
            for _ in range(spec.depth - 3)
            for layer in (nn.Conv2d(4 * width, 4 * width, 3, padding=1, stride=2), nn.SiLU())
        ]
        self.features = nn.Sequential(
            nn.Conv2d(spec.channels, width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            *deeper,
            nn.Flatten(),
        )
        dim, inputs = 4 * width, 4 * width * spec.coarsest_side**2
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(inputs, dim), nn.SiLU(), nn.Linear(dim, spec.num_classes)
        )

    @property
    def style_widths(self) -> tuple[int, int]:
        """Channels of what :meth:`style_maps` returns."""
        first, second = self.features[0], self.features[2]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        return first.out_channels, second.out_channels

    def style_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first two feature maps of (B, C, H, W), at half of the side; no gradient for parameters."""
        maps, h = [], x
        for layer in self.features[:4]:
            h = functional_call(layer, {name: p.detach() for name, p in layer.named_parameters()}, (h,))
            if isinstance(layer, nn.SiLU):
                maps.append(h)
        return maps[0], maps[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.head(self.features(x))


class ResidualClassifier(nn.Module):
    """Predicts the label of a photograph; its feature maps also train the decoder.

    Residual convolutions at 1/2, 1/4, 1/8 and so on of the side. Models of earlier versions have it; new
    ones have a :class:`~cvae_cli.model.whitened.WhitenedClassifier`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build the classifier of a spec."""
        super().__init__()
        inputs = spec.channels
        self.down, self.residual = nn.ModuleList(), nn.ModuleList()
        for number, outputs in enumerate(classifier_widths(spec)):
            depth = 2 if number == 1 else 1
            self.down.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            same = (nn.Conv2d(outputs, outputs, 3, padding=1) for _ in range(depth))
            self.residual.append(nn.ModuleList(same))
            inputs = outputs
        self.head = nn.Linear(inputs, spec.num_classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps at 1/2, 1/4 and so on of the side of (B, C, H, W) in [0, 1]; not negative."""
        maps = []
        h = 2 * x - 1
        for down, same in zip(self.down, self.residual, strict=True):
            h = F.relu(down(h))
            assert isinstance(same, nn.ModuleList)
            for convolution in same:
                h = h + F.relu(convolution(h))
            maps.append(h)
        return maps

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Logits, (B, K), from the feature maps that :meth:`maps` returned."""
        return self.head(maps[-1].mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, K)."""
        return self.logits(self.maps(x))
