"""Distances between deep features of two images."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def feature_l1(
    fake: Mapping[str, Tensor], real: Mapping[str, Tensor], weights: Mapping[str, float]
) -> Tensor:
    """sum over taps of weight x mean |fake - real|: the perceptual loss of Johnson et al. 2016 with the L1 norm.

    Features are (B, C, h, w) per tap; no gradient reaches `real`. Returns a scalar in float32.
    """
    terms = [w * F.l1_loss(fake[tap].float(), real[tap].detach().float()) for tap, w in weights.items()]
    return sum(terms[1:], start=terms[0])
