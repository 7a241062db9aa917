"""Squared distance between deep features of two images."""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_mse(fake: Mapping[str, Tensor], real: Mapping[str, Tensor], taps: Iterable[str]) -> Tensor:
    """sum over `taps` of the mean of (fake - real)^2, features (B, C, h, w) per tap (MOST-Net, Eqs. 12-13).

    Plain features, no Gram matrices. The squared norm is divided by the number of features, so that a weight means
    the same at every layer and size. No gradient reaches `real`. Returns a scalar in float32.
    """
    return torch.stack([F.mse_loss(fake[tap].float(), real[tap].detach().float()) for tap in taps]).sum()
