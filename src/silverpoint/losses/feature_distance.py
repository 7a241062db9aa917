"""Squared distance between deep features of two images."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_mse(
    fake: Mapping[str, Tensor], real: Mapping[str, Tensor], weights: Mapping[str, float]
) -> Tensor:
    """sum over taps of weight x mean (fake - real)^2, features (B, C, h, w) per tap (MOST-Net, Eqs. 12-13).

    Plain features, no Gram matrices. The squared norm is divided by the number of features, so that a weight means
    the same at every size. No gradient reaches `real`. Returns a scalar in float32.
    """
    terms = [w * F.mse_loss(fake[tap].float(), real[tap].detach().float()) for tap, w in weights.items()]
    return torch.stack(terms).sum()
