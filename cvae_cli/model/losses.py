"""The terms of the training objective, by name.

As in pythae, likelihoods and divergences are in nats, summed over pixels or latent
dimensions and averaged over the batch, so that ``elbo = -(recon_loss + kl)`` holds as is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Negative log-likelihood of ``x`` under independent Bernoulli pixels.

    Args:
        logits: (B, C, H, W), the decoder's output before the sigmoid.
        x: (B, C, H, W), values in [0, 1]; grey values count as probabilities, as usual for
            MNIST.

    Returns:
        A scalar in nats per image.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="sum")
    return total / x.shape[0]


def laplace_nll(logits: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of ``x`` under independent Laplace pixels of one scale.

    The scale is learned with the rest, which is what weighs the error against the KL divergence
    (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", there for
    the Gaussian). A density over [0, 1], so it may be negative.

    Args:
        logits: (B, C, H, W), the decoder's output before the sigmoid, which is the median.
        x: (B, C, H, W), values in [0, 1].
        log_scale: (), natural logarithm of the scale.

    Returns:
        A scalar in nats per image.
    """
    log_scale = log_scale.float()
    pixels = x[0].numel()
    return absolute_error(logits, x) * (-log_scale).exp() + pixels * (log_scale + math.log(2.0))


def gaussian_nll(logits: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of ``x`` under independent Gaussian pixels of one learned scale.

    Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders". A density, so it
    may be negative.

    Args:
        logits: (B, C, H, W), the decoder's output before the sigmoid, which is the mean.
        x: (B, C, H, W), values in [0, 1].
        log_scale: (), natural logarithm of the standard deviation.

    Returns:
        A scalar in nats per image.
    """
    log_scale = log_scale.float()
    pixels = x[0].numel()
    square = (torch.sigmoid(logits.float()) - x.float()).square().sum() / x.shape[0]
    return 0.5 * square * (-2.0 * log_scale).exp() + pixels * (log_scale + 0.5 * math.log(2.0 * math.pi))


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, I): Kingma & Welling 2014, appendix B.

    Args:
        mu: (B, Z).
        logvar: (B, Z), natural logarithm of the variance.

    Returns:
        A scalar in nats per image.
    """
    mu, logvar = mu.float(), logvar.float()
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(dim=1).mean()


def absolute_error(logits: Tensor, x: Tensor) -> Tensor:
    """Absolute difference between mean image and image, summed over pixels.

    The likelihood is content with grey where it is in doubt between black and white; this is
    not, so that edges stay sharp.

    Args:
        logits: (B, C, H, W), the decoder's output before the sigmoid.
        x: (B, C, H, W), values in [0, 1].

    Returns:
        A scalar per image.
    """
    return (torch.sigmoid(logits.float()) - x.float()).abs().sum() / x.shape[0]


def stroke_style(x: Tensor) -> Tensor:
    """Thickness, slant and width of bright strokes, differentiably.

    Stand-ins for the measures of Morpho-MNIST (Castro et al. 2019), which need a skeleton and
    quantiles: ink over length of outline; the shear u11 / u02 of the ink's moments; and how far
    the ink reaches, by its eighth moment, on either side of the slanted axis.

    Args:
        x: (B, 1, H, W), values in [0, 1].

    Returns:
        (B, 3), float32: half a thickness in pixels, a shear, a width in eighths of a pixel.
    """
    ink = x[:, 0].float()
    rows = torch.arange(ink.shape[1], dtype=torch.float32, device=ink.device)
    columns = torch.arange(ink.shape[2], dtype=torch.float32, device=ink.device)
    mass = ink.sum(dim=(1, 2)) + 1e-3
    from_y = rows - ((ink.sum(dim=2) * rows).sum(dim=1) / mass)[:, None]  # (B, H)
    from_x = columns - ((ink.sum(dim=1) * columns).sum(dim=1) / mass)[:, None]  # (B, W)
    # Not as a matrix product, which mixed precision would do in 16 bits.
    u11 = (ink * from_y[:, :, None] * from_x[:, None, :]).sum(dim=(1, 2)) / mass
    u02 = (ink.sum(dim=2) * from_y.square()).sum(dim=1) / mass
    shear = u11 / (u02 + 0.5)  # not a dot, which has no slant
    across = from_x[:, None, :] - shear[:, None, None] * from_y[:, :, None]
    reach = [
        ((ink * F.relu(side * across / 8).pow(8)).sum(dim=(1, 2)) / mass + 1e-8).pow(1 / 8)
        for side in (1, -1)
    ]
    right = ink[:, :-1, 1:] - ink[:, :-1, :-1]
    down = ink[:, 1:, :-1] - ink[:, :-1, :-1]
    outline = ((right.square() + down.square() + 1e-4).sqrt() - 1e-2).sum(dim=(1, 2)) + 0.1
    return torch.stack([mass / outline, shear, reach[0] + reach[1]], dim=1)


def silhouette_style(x: Tensor) -> Tensor:
    """Brightness and area of bright things on black, differentiably.

    Args:
        x: (B, 1, H, W), values in [0, 1].

    Returns:
        (B, 2), float32, in [0, 1]: the mean, and the share of pixels from about a tenth up.
    """
    x = x.float()
    area = torch.sigmoid((x - 0.1) * 40)  # from 0.02 at black to 0.98 at a fifth
    return torch.cat([x.mean(dim=(2, 3)), area.mean(dim=(2, 3))], dim=1)


def colour_layout(x: Tensor) -> Tensor:
    """Mean colours of a grid of 4x4 fields.

    Args:
        x: (B, C, H, W), values in [0, 1].

    Returns:
        (B, 16 * C) float32.
    """
    return F.adaptive_avg_pool2d(x.float(), 4).flatten(1)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator (Lim & Ye 2017; Miyato & Koyama 2018, eq. 17).

    Args:
        real: (B,) scores of real images.
        fake: (B',) scores of drawn images.
    """
    return F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()
