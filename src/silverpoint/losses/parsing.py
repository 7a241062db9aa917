"""How far two images are from being parsed alike."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_odds(logits: Tensor, groups: Tensor) -> Tensor:
    """logits (B, N, h, w) of N classes, groups (K, N) bool -> (B, K, h, w): log p / (1 - p) of each group of them."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()[:, None]
        member = groups[None, :, :, None, None]
        inside = logits.masked_fill(~member, -torch.inf).logsumexp(2)
        return inside - logits.masked_fill(member, -torch.inf).logsumexp(2)


def parsing_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Binary cross-entropy of the classes' probabilities (SDGAN, Eq. 9), a scalar; from `log_odds` of the two images.

    No gradient reaches `real`.
    """
    return F.binary_cross_entropy_with_logits(fake, real.detach().sigmoid())
