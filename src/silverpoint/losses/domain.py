"""The two sides of DA-GAN's game about the domain of a latent (Liu et al. 2018, Eq. 8).

D's logits say how likely a latent comes from the target, hand-drawn sketches. Both functions take logits of any shape
and return a scalar to be minimised.
"""

import torch.nn.functional as F
from torch import Tensor

from silverpoint.losses.adversarial import MODES as ADVERSARIAL_MODES
from silverpoint.losses.adversarial import adversarial

MODES = (*ADVERSARIAL_MODES, "minimax")


def tell_domains_apart(source: Tensor, target: Tensor, mode: str = "vanilla") -> Tensor:
    """What D minimises.

    vanilla, lsgan: the error of D against the labels target 1, source 0. minimax: Eq. 8 as printed,
    E[log(1 - D(target))] + E[log D(source)], which has no lower bound.
    """
    if mode == "minimax":
        return F.logsigmoid(-target.float()).mean() + F.logsigmoid(source.float()).mean()
    return adversarial(target, real=True, mode=mode) + adversarial(source, real=False, mode=mode)


def confuse_domains(source: Tensor, target: Tensor, mode: str = "vanilla") -> Tensor:
    """What the encoder minimises: D's error with the labels exchanged; in the log form, -1 times Eq. 8."""
    mode = "vanilla" if mode == "minimax" else mode
    return adversarial(target, real=False, mode=mode) + adversarial(source, real=True, mode=mode)
