"""Where patches are taken: uniformly (CUT), or in regions, by density (FSS, section "Dynamic sampling strategy").

Everything is drawn from torch's generator of the tensor's device, so a seed repeats it, and no shape depends on
what was drawn, so nothing waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """Places in an image: rows and columns (B, N) int64 of pixels, and how often each enters, counts (B, N) float.

    A count of 0 marks a place of no region: the region had fewer pixels than were asked for.
    """

    rows: Tensor
    columns: Tensor
    counts: Tensor

    def cells(self, stride: int, offset: int) -> tuple[Tensor, Tensor]:
        """Rows and columns in a feature map that is `stride` times smaller and begins `offset` cells earlier."""
        return self.rows // stride + offset, self.columns // stride + offset


def draw_uniform(batch: int, size: tuple[int, int], count: int, device: torch.device) -> Samples:
    """`count` different places per image (or all, where there are fewer), each as likely."""
    height, width = size
    keys = torch.rand(batch, height * width, device=device)
    places = keys.topk(min(count, height * width)).indices
    return Samples(places // width, places % width, torch.ones_like(keys[:, : places.shape[1]]))


def draw_by_density(densities: Tensor, numbers: Sequence[int], doubled_above: float | None) -> Samples:
    """`numbers[r]` different places of each region r, likelier where its density is high.

    densities (B, R, H, W) are zero outside a region. A place enters twice when its density exceeds the region's
    quantile `doubled_above` (None: never), as in Fig. 4.
    """
    width = densities.shape[3]
    places, counts = [], []
    for density, number in zip(densities.flatten(2).float().unbind(1), numbers, strict=True):
        # the first arrivals of independent exponential clocks are a weighted draw without replacement
        clocks = torch.empty_like(density).exponential_()
        keys, chosen = (density / clocks).topk(min(number, density.shape[1]))
        entered = (keys > 0).float()
        if doubled_above is not None:
            inside = density.masked_fill(density == 0, torch.nan)
            threshold = torch.nanquantile(inside, doubled_above, dim=1, keepdim=True)
            entered = entered + (density.gather(1, chosen) > threshold).float()
        places.append(chosen)
        counts.append(entered)
    flat = torch.cat(places, 1)
    return Samples(flat // width, flat % width, torch.cat(counts, 1))


def take(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """features (B, C, h, w) at rows and columns (B, N) -> (B, N, C)."""
    images = torch.arange(features.shape[0], device=features.device)[:, None]
    return features[images, :, rows, columns]
