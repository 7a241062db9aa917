"""The exponential moving average of a network, which is what draws when a method asks for one."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Average:
    """`module` holds the average of `net`'s parameters and buffers."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay = net, decay
        self.module = deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the network after `count` earlier updates.

        The average is over a shorter past at first: the initial weights are soon forgotten.
        """
        weight = 1 - min(self.decay, (1 + count) / (10 + count))
        means, values = [], []
        for mean, value in zip(_state(self.module), _state(self.net), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(means, values, weight)


def _state(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
