"""The judge's network: a classifier of another architecture than any in a model."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvae_cli.judge.bank import FeatureBank
from cvae_cli.judge.blemishes import BlemishNetwork
from cvae_cli.judge.spec import JudgeSpec
from cvae_cli.model.whitened import WhitenedClassifier


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
