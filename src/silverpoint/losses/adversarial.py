"""Adversarial objectives on discriminator logits."""

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("lsgan", "vanilla")


def adversarial(logits: Tensor, real: bool, mode: str = "lsgan") -> Tensor:
    """Mean loss of `logits` (any shape) against the label `real`; a scalar.

    lsgan: (D - y)^2 with y = 1 for real, 0 for fake (Mao et al. 2017, Eq. 2 with a=0, b=c=1; no factor 1/2).
    vanilla: binary cross-entropy on logits; for a generator that wants "real" this is the non-saturating form
    (Goodfellow et al. 2014, section 3).
    """
    target = torch.ones_like(logits) if real else torch.zeros_like(logits)
    if mode == "lsgan":
        return F.mse_loss(logits.float(), target.float())
    if mode == "vanilla":
        return F.binary_cross_entropy_with_logits(logits.float(), target.float())
    raise ValueError(f"gan_mode must be one of {', '.join(MODES)}, not {mode!r}")
