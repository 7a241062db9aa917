"""Projection heads: where patches are compared (CUT, Park et al. 2020, section 3; SimCLR, Chen et al. 2020)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProjectionHeads(nn.Module):
    """One two-layer perceptron per encoder layer: features (B, N, C_l) -> unit vectors (B, N, dim), in float32.

    Autocast is kept out: the first steps' features are small enough to vanish in half precision.
    """

    def __init__(self, channels: Sequence[int], dim: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(c, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim)) for c in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        with torch.autocast(features[0].device.type, enabled=False):
            return [
                F.normalize(head(f.float()), dim=-1) for head, f in zip(self.heads, features, strict=True)
            ]
