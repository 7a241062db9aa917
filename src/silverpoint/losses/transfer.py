"""Knowledge transfer between networks by their intermediate maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def map_distance(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """sum over maps of ||map - target||^2 / (C H W): KT (Zhu et al., IJCAI 2019), either sum of Eq. 1, and Eq. 2.

    Maps and targets are (B, C, h, w) in the same order; no gradient reaches the targets. Returns the mean over the
    batch, a scalar in float32. Raises ValueError for a map of another shape than its target.
    """
    for m, t in zip(maps, targets, strict=True):
        if m.shape != t.shape:
            raise ValueError(f"a map of shape {tuple(m.shape)} cannot learn from one of {tuple(t.shape)}")
    terms = [F.mse_loss(m.float(), t.detach().float()) for m, t in zip(maps, targets, strict=True)]
    return torch.stack(terms).sum()
