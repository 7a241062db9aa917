"""The patchwise contrastive loss of CUT (Park et al. 2020, Eq. 3-4) and FSS (Du et al. 2025, Eq. 9-10)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from silverpoint.losses.patches import take

Heads = Callable[[Sequence[Tensor]], list[Tensor]]  # features (B, N, C) per layer -> unit vectors (B, N, D)


def multilayer_nce(
    heads: Heads,
    drawn: Sequence[Tensor],
    source: Sequence[Tensor],
    cells: Sequence[tuple[Tensor, Tensor]],
    counts: Sequence[Tensor],
    temperature: float,
) -> Tensor:
    """Mean over layers of `patch_nce` between the features of a drawing and of what it was drawn from; a scalar.

    Per layer: features (B, C, h, w), rows and columns (B, N) of the cells, counts (B, N). As in CUT, the keys are
    constants: neither the encoder nor the heads learn from them.
    """
    queries = heads([take(f, *c) for f, c in zip(drawn, cells, strict=True)])  # FSS, Eq. 8
    with torch.no_grad():
        keys = heads([take(f.detach(), *c) for f, c in zip(source, cells, strict=True)])  # FSS, Eq. 7
    losses = [
        patch_nce(q, k, rows * f.shape[3] + columns, count, temperature)
        for q, k, f, (rows, columns), count in zip(queries, keys, source, cells, counts, strict=True)
    ]
    return torch.stack(losses).mean()  # Eq. 10: a sum as printed, a mean over layers and places in CUT's code


def patch_nce(queries: Tensor, keys: Tensor, cells: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """How well each query picks the key of its own place among the keys of its image; a scalar in float32.

    queries (B, N, D) and keys (B, N, D) are unit vectors; cells (B, N) says which cell of the feature map a sample
    lies in, for samples of one cell are the same patch and never each other's negatives; counts (B, N) says how
    often a sample enters, as a query and as a negative: 0 is absent, 2 is doubled. The mean over an image's samples,
    then over the images; an image without samples counts as zero. One N x N matrix per image is kept for the
    backward pass. No gradient reaches the keys.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = queries.float() / temperature, keys.detach().float()
        positive = (q * k).sum(2)  # v . v+ / tau
        # exp(x + log m) = m exp(x): a doubled sample is two negatives, and an absent one none
        weights = counts.float().log()[:, None, :].expand(-1, cells.shape[1], -1)
        weights = weights.masked_fill(cells[:, :, None] == cells[:, None, :], -torch.inf)
        weights.diagonal(dim1=1, dim2=2).zero_()  # v+ itself, once
        logits = weights.baddbmm_(q, k.transpose(1, 2))  # in place: one matrix, not two
        losses = torch.logsumexp(logits, 2) - positive  # Eq. 9
        entered = counts.float()
        return ((losses * entered).sum(1) / entered.sum(1).clamp(min=1)).mean()  # Eq. 10, as a mean
