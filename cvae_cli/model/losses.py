"""The terms of the training objective, by name.

As in pythae, likelihoods and divergences are in nats, summed over pixels or latent
dimensions and averaged over the batch, so that ``elbo = -(recon_loss + kl)`` holds as is.
"""

from __future__ import annotations

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


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator (Lim & Ye 2017; Miyato & Koyama 2018, eq. 17).

    Args:
        real: (B,) scores of real images.
        fake: (B',) scores of drawn images.
    """
    return F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()
