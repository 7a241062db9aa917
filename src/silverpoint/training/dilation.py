"""Dilated convolutions as plain ones over the phases of the image: the same sums, for runtimes slow at dilation.

Whether one is depends on processor and version: docs/training.md has figures. A convolution of dilation d reads, for
every output pixel, input pixels of one phase (row mod d, column mod d): the d x d phases laid out as a batch, each
convolved plainly, and laid back give its result (space-to-batch, as in the atrous convolutions of Chen et al. 2017,
section 3.1).
"""

from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor, nn


class PhasedConv2d(nn.Module):
    """The same function as a Conv2d of dilation (d, d), stride 1 and zero padding, whose weights it shares."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.groups = conv.weight, conv.bias, conv.groups
        self.dilation, self.padding = int(conv.dilation[0]), (int(conv.padding[0]), int(conv.padding[1]))
        self.reach = [self.dilation * (k - 1) for k in conv.kernel_size]  # here: a tracer cannot walk a shape

    def forward(self, x: Tensor) -> Tensor:
        d, (rows, columns) = self.dilation, self.padding
        b, c, h, w = x.shape
        out_h, out_w = h + 2 * rows - self.reach[0], w + 2 * columns - self.reach[1]
        below, right = -(h + 2 * rows) % d, -(w + 2 * columns) % d  # up to whole phases
        x = F.pad(x, (columns, columns + right, rows, rows + below))
        h, w = h + 2 * rows + below, w + 2 * columns + right
        x = x.view(b, c, h // d, d, w // d, d).permute(3, 5, 0, 1, 2, 4)
        x = F.conv2d(x.reshape(d * d * b, c, h // d, w // d), self.weight, self.bias, groups=self.groups)
        c, h, w = x.shape[1:]
        x = x.view(d, d, b, c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(b, c, h * d, w * d)
        return x[:, :, :out_h, :out_w]


def undilated(net: nn.Module) -> nn.Module | None:
    """A copy of `net` with a PhasedConv2d for every convolution that one can stand in for; None where there is none."""
    if not any(isinstance(module, nn.Conv2d) and _is_dilated(module) for module in net.modules()):
        return None
    copy = deepcopy(net)
    _undilate(copy)
    return copy


def _undilate(net: nn.Module) -> None:
    for name, child in net.named_children():
        if isinstance(child, nn.Conv2d) and _is_dilated(child):
            setattr(net, name, PhasedConv2d(child))
        else:
            _undilate(child)


def _is_dilated(conv: nn.Conv2d) -> bool:
    square = conv.dilation[0] == conv.dilation[1] > 1
    return (
        square
        and conv.stride == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.padding not in ("same", "valid")
    )
