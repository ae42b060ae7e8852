"""The prior work's networks: the ResNet-18 pair of lightning-bolts, which is the extra ``[bolts]``.

The label is an extra row of pixels of the encoder's image, as it was there. The one change: the decoder
gets it too, beside the code, unless the spec says that it must not.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.errors import UserError
from cvae_cli.model.autoencoder import Encoded
from cvae_cli.model.latent_maps import Residuals
from cvae_cli.model.spec import ModelSpec

_FEATURES = 512


class ResNetEncoder(nn.Module):
    """Image and label to the mean and log-variance of the posterior."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the encoder of a spec. Raises :class:`UserError` without lightning-bolts."""
        super().__init__()
        self.classes = spec.num_classes
        # Neither a first convolution of stride 2 nor pooling, which are for photographs of 224 pixels.
        self.backbone = _component("resnet18_encoder", first_conv=False, maxpool1=False)
        self.mu = nn.Linear(_FEATURES, spec.latent_dim)
        self.logvar = nn.Linear(_FEATURES, spec.latent_dim)

    def forward(self, x: Tensor, y: Tensor) -> Encoded:
        """Encode images (B, C, H, W) of labels (B,)."""
        h = self.backbone(with_label(x.expand(-1, 3, -1, -1), y, self.classes))
        return Encoded(self.mu(h), self.logvar(h).clamp(-10.0, 10.0))


class ResNetDecoder(nn.Module):
    """Latent code, and label unless it is kept from it, to an image."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the decoder of a spec. Raises :class:`UserError` without lightning-bolts."""
        super().__init__()
        self.classes = spec.num_classes if spec.label_in_decoder else 0
        self.grey = spec.channels == 1
        self.backbone = _component(
            "resnet18_decoder",
            latent_dim=spec.latent_dim + self.classes,
            input_height=spec.canvas_size,
            first_conv=False,
            maxpool1=False,
        )

    def forward(self, z: Tensor, y: Tensor, residuals: Residuals | None = None) -> Tensor:
        """Return logits of the pixels, (B, C, H, W); there are no latent maps that could have residuals."""
        if self.classes:
            z = torch.cat([z, F.one_hot(y, self.classes).to(z.dtype)], dim=1)
        logits: Tensor = self.backbone(z)
        return logits.mean(dim=1, keepdim=True) if self.grey else logits


def with_label(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Images, (B, C, H, W), with their labels, (B,) int64, as white pixels of added black rows.

    A row holds as many classes as it has pixels: one row for up to W of them.
    """
    width = x.shape[3]
    rows = -(-classes // width)
    label = F.one_hot(y, rows * width).to(x.dtype).view(-1, 1, rows, width)
    return torch.cat([x, label.expand(-1, x.shape[1], -1, -1)], dim=2)


def _component(name: str, **arguments: Any) -> nn.Module:
    """A network of lightning-bolts, whose warnings are for its own developers."""
    # Recorded, which nobody reads: a filter that ignores them is overruled by one of its own.
    with warnings.catch_warnings(record=True):
        try:
            from pl_bolts.models.autoencoders import components
        # With packages newer than its own it fails to import in several ways.
        except (ImportError, AttributeError, TypeError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                "--arch resnet18, and models of it, need lightning-bolts: pip install '.[bolts]' in a clone "
                f"of cvae and an environment of its own, since it needs pytorch-lightning 1.9 ({reason})."
            ) from error
        return getattr(components, name)(**arguments)
