"""The Gaussian posterior of a variational autoencoder (Kingma & Welling 2014)."""

import torch
from torch import Tensor


def sample_gaussian(mean: Tensor, log_variance: Tensor) -> Tensor:
    """z = mean + sigma * noise, noise ~ N(0, I): the reparameterisation (section 2.4); any shape."""
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) per element of the latent, averaged over all; a scalar in float32.

    The closed form of appendix B, -1/2 (1 + log sigma^2 - mean^2 - sigma^2), there summed over the latent.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
