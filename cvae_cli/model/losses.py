"""Likelihoods, divergences and the adversarial loss: the named terms of the training objective.

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

    Where black and white are equally likely the likelihood settles for grey; this term does not, so
    edges stay sharp.

    Args:
        logits: (B, C, H, W), the decoder's output before the sigmoid.
        x: (B, C, H, W), values in [0, 1].

    Returns:
        A scalar per image.
    """
    return (torch.sigmoid(logits.float()) - x.float()).abs().sum() / x.shape[0]


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator (Lim & Ye 2017; Miyato & Koyama 2018, eq. 17).

    Args:
        real: (B,) scores of real images.
        fake: (B',) scores of drawn images.
    """
    return F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()
