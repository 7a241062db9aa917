"""The patchwise contrastive loss of CUT (Park et al. 2020, Eq. 3-4) and FSS (Du et al. 2025, Eq. 9-10)."""

import torch
from torch import Tensor


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
        logits = torch.bmm(q, k.transpose(1, 2)).add_(weights)
        losses = torch.logsumexp(logits, 2) - positive  # Eq. 9
        entered = counts.float()
        return ((losses * entered).sum(1) / entered.sum(1).clamp(min=1)).mean()  # Eq. 10, as a mean
