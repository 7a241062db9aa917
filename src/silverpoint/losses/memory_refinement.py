"""The memory refinement loss of MOST-Net (Ji et al. 2022, Eqs. 14-15)."""

import torch
from torch import Tensor


def memory_refinement(keys: Tensor, values: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean L1 distance of two one-hot choices: of a key by each photo feature, of a value by each sketch feature.

    `keys` and `values` (N, K) are their cosines, row i of both from one place in a pair. Returns a scalar: twice the
    share of places that choose unlike slots. The choices have no gradient, so that of a softmax at `temperature`
    takes its place (straight-through, Bengio et al. 2013).
    """
    i, j = keys.argmax(-1), values.argmax(-1)  # Eq. 14
    differ = i != j
    if not (keys.requires_grad or values.requires_grad):
        return 2 * differ.to(keys.dtype).mean()  # Eq. 15
    if temperature != 1:
        keys, values = keys / temperature, values / temperature
    # Two one-hot rows differ at i, by 1, and at j, by -1: no other entry of the softmaxes has a slope.
    slope = _probability(keys, i) - _probability(keys, j) + _probability(values, j) - _probability(values, i)
    return (differ * (2 + (slope - slope.detach()))).mean()  # Eq. 15


def _probability(logits: Tensor, chosen: Tensor) -> Tensor:
    """softmax(logits)[n, chosen[n]] for each n, without keeping the softmax."""
    return torch.exp(logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1))
