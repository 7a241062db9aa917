"""ResNet-9 without aliasing: the generator of CUT (Park et al. 2020), half of which is also its encoder.

c7s1-64, then twice (3x3 convolution, blurred halving), R256 x 9, twice (doubling, 3x3 convolution), c7s1. The blur is
that of Zhang 2019, "Making convolutional networks shift-invariant again": binomial filters of 3 taps down, 4 up.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.nets.resnet import ResidualBlock

ENCODER_DEPTH = 21  # layers of the encoder: everything before the first doubling


class Halve(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2): blurred by [1, 2, 1] / 4 both ways, edges reflected; every second pixel."""

    blur: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.channels = channels
        self.register_buffer("blur", (taps[:, None] * taps).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.blur, stride=2, groups=self.channels)


class Double(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): zeros between, blurred by [1, 3, 3, 1] / 4, edges repeated."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)  # has the same weights


class TappedLayers(nn.ModuleList):
    """The first `depth` layers, one after the other; also gives the outputs of those in `taps`, in their order."""

    def forward(self, x: Tensor, taps: Sequence[int], depth: int) -> tuple[Tensor, list[Tensor]]:
        features: dict[int, Tensor] = {}
        for number, layer in enumerate(islice(self, depth)):
            x = layer(x)
            if number in taps:
                features[number] = x
        return x, [features[t] for t in taps]


class AntialiasedResNet9(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1]; H and W multiples of 4.

    Layers are numbered as CUT numbers them, so that `nce_layers` means what it means there: 0 the reflect-padded
    input (H+6, W+6), 4 the second convolution (128 channels), 8 the third (256 channels, H/2), 12 and 16 the first
    and fifth residual blocks (256 channels, H/4).
    """

    size_multiple = 4

    def __init__(self, in_channels: int = 3, out_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.in_channels = in_channels
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *_convolution(in_channels, width, 7)]
        for i in (1, 2):
            layers += [*_convolution(width * i, width * 2 * i, 3), Halve(width * 2 * i)]
        layers += [ResidualBlock(4 * width) for _ in range(9)]
        for i in (2, 1):
            layers += [Double(), *_convolution(width * 2 * i, width * i, 3)]
        self.layers = TappedLayers([*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7)])

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_taps(x, ())[0]

    def forward_with_taps(self, x: Tensor, taps: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The image and, in the same pass, the outputs of the layers `taps`, in their order."""
        x, features = self.layers(x, taps, len(self.layers))
        return torch.tanh(x), features

    def encode(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """The outputs of the layers `taps`, in their order; runs only as deep as they need."""
        return self.layers(x, taps, max(taps) + 1)[1]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's; what all three ways in share is compiled, for training does not come through `forward`."""
        self.layers.compile(*args, **kwargs)

    def tap_channels(self, tap: int) -> int:
        """How many channels the output of a layer of the encoder has."""
        convolutions = [layer for layer in islice(self.layers, tap + 1) if isinstance(layer, nn.Conv2d)]
        return convolutions[-1].out_channels if convolutions else self.in_channels

    def tap_geometry(self, tap: int) -> tuple[int, int]:
        """(stride, offset): the pixel (y, x) lies in the cell (y // stride + offset, x // stride + offset)."""
        halvings = sum(isinstance(layer, Halve) for layer in islice(self.layers, tap + 1))
        return 2**halvings, 3 if tap == 0 else 0


def _convolution(inside: int, outside: int, kernel: int) -> list[nn.Module]:
    # not in place: a tap may lie between the norm and the ReLU
    return [
        nn.Conv2d(inside, outside, kernel, padding=0 if kernel == 7 else 1),
        nn.InstanceNorm2d(outside),
        nn.ReLU(),
    ]
