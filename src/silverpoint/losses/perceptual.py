"""Distances between deep features of two images."""

from collections.abc import Mapping

import torch
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


def gram_l1(fake: Mapping[str, Tensor], real: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over taps of weight x mean |G(fake) - G(real)|: the style loss of Gatys et al. 2016 with the L1 norm.

    G is the (B, C, C) matrix of products of channels, averaged over the h x w places of a tap's (B, C, h, w): which
    textures there are and how strongly, wherever they lie. No gradient reaches `real`. Returns a scalar in float32.
    """
    terms = [w * F.l1_loss(_gram(fake[tap]), _gram(real[tap].detach())) for tap, w in weights.items()]
    return sum(terms[1:], start=terms[0])


def _gram(features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.mT / flat.shape[2]
