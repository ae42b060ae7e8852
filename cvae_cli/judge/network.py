"""The judge's network: a classifier of another architecture than any in a model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvae_cli.errors import WeightsError
from cvae_cli.judge.bank import FeatureBank
from cvae_cli.judge.blemishes import BlemishNetwork
from cvae_cli.model.spec import from_plain, to_plain
from cvae_cli.model.whitened import WhitenedClassifier


@dataclass(frozen=True)
class JudgeSpec:
    """Everything needed to build a judge and to feed it; travels with its weights.

    Attributes:
        classes: the class names, in the order of its outputs.
        image_size: height and width of its images in pixels.
        channels: 1 (grey) or 3 (RGB).
        widths: channels of the feature maps at 1/1, 1/2, 1/4 and so on of the image; the last is the
            number of features. With ``patch``: at 1/2, 1/4 and so on.
        patch: side in pixels of the patches that a :class:`~cvae_cli.model.whitened.WhitenedClassifier`
            begins with; 0 for plain convolutions.
        bank: images of each class in its bank of real images; empty for a judge without one, as older
            ones are.
        blemish_widths: channels of the feature maps of its network for blemishes; empty for none.
    """

    classes: tuple[str, ...]
    image_size: int
    channels: int
    widths: tuple[int, ...] = (32, 64, 128)
    patch: int = 0
    bank: tuple[int, ...] = ()
    blemish_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check every field. Raises :class:`WeightsError` naming the first that is wrong."""

        def whole(value: object, most: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

        if len(self.classes) < 2 or not all(isinstance(name, str) and name for name in self.classes):
            raise WeightsError("spec: classes must be at least two names")
        if len(set(self.classes)) != len(self.classes):
            raise WeightsError("spec: classes must be different names")
        if not whole(self.image_size, 4096) or not whole(self.channels, 3):
            raise WeightsError("spec: image_size or channels is not a whole number in its range")
        widths = self.widths
        if not isinstance(widths, tuple) or not 3 <= len(widths) <= 6:
            raise WeightsError("spec: widths must be three to six numbers")
        if not all(whole(width, 4096) for width in widths):
            raise WeightsError("spec: widths must be whole numbers from 1 to 4096")
        if self.patch and not whole(self.patch, 8):
            raise WeightsError("spec: patch must be a whole number from 0 to 8")
        bank, blemishes = self.bank, self.blemish_widths
        if not isinstance(bank, tuple) or len(bank) not in (0, len(self.classes)):
            raise WeightsError("spec: bank must be one number for each class, or none")
        if not all(count == 0 or whole(count, 65536) for count in bank):
            raise WeightsError("spec: bank must be whole numbers up to 65536")
        if not isinstance(blemishes, tuple) or not all(whole(width, 4096) for width in blemishes):
            raise WeightsError("spec: blemish_widths must be whole numbers from 1 to 4096")
        if blemishes and not bank:
            raise WeightsError("spec: blemish_widths needs a bank")

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it; without a bank, as judges had before there were any."""
        plain = to_plain(self)
        return {key: value for key, value in plain.items() if value != [] and (key, value) != ("patch", 0)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> JudgeSpec:
        """Read a spec from JSON. Raises :class:`WeightsError` on an unknown or bad field."""
        return from_plain(cls, raw)


class JudgeNetwork(nn.Module):
    """Convolutions, pooling, and one linear layer over the features; beside them what sees broken tiles.

    For photographs the convolutions are those of a whitened classifier, of another shape than any in a model.
    """

    def __init__(self, spec: JudgeSpec, *, training: bool = False, dropout: float = 0.0) -> None:
        """Build the network; with batch normalisation, and dropout before the head, only for training.

        Trained normalisation is folded into the convolutions (:meth:`fold`), which computes the same
        in less time. The bank and the network for blemishes are made afterwards.
        """
        super().__init__()

        def convolution(inputs: int, outputs: int) -> nn.Module:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not training)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs)) if training else conv

        self.whitened: WhitenedClassifier | None = None
        if spec.patch:
            self.whitened = WhitenedClassifier(
                spec.channels, spec.widths, len(spec.classes), patch=spec.patch
            )
        else:
            self.convolutions = nn.ModuleList([convolution(spec.channels, spec.widths[0])])
            for inputs, outputs in pairwise(spec.widths):
                self.convolutions += [convolution(inputs, outputs), convolution(outputs, outputs)]
            self.head = nn.Linear(spec.widths[-1], len(spec.classes))
        self.dropout = dropout
        self.bank: FeatureBank | None = None
        self.blemishes: BlemishNetwork | None = None
        if spec.bank:
            second_sign = bool(spec.blemish_widths)
            self.bank = FeatureBank(spec.bank, spec.widths[-1], second_sign=second_sign)
            if second_sign:
                self.blemishes = BlemishNetwork(spec.channels, spec.blemish_widths)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, D) features."""
        if self.whitened is not None:
            return self.whitened.features(x)
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if number % 2 == 0 and number < len(self.convolutions) - 1:
                x = F.max_pool2d(x, 2)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K)."""
        return self.classify(F.dropout(self.features(x), self.dropout, self.training))

    def classify(self, features: Tensor) -> Tensor:
        """Logits, (B, K), of features (B, D)."""
        head = self.head if self.whitened is None else self.whitened.head
        logits: Tensor = head(features)
        return logits

    def take_layers(self, other: JudgeNetwork) -> None:
        """Use the layers of another judge of the same shape, apart from what sees broken tiles."""
        if self.whitened is not None:
            self.whitened = other.whitened
        else:
            self.convolutions, self.head = other.convolutions, other.head

    def fold(self, spec: JudgeSpec) -> JudgeNetwork:
        """The same function without batch normalisation; of plain convolutions."""
        self.eval()
        folded = JudgeNetwork(spec).eval()
        for number, pair in enumerate(self.convolutions):
            assert isinstance(pair, nn.Sequential)
            conv, norm = pair
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            folded.convolutions[number] = fuse_conv_bn_eval(conv, norm)
        folded.head = self.head
        return folded
