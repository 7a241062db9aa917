"""ResNet-9, the generator of CycleGAN (Zhu et al. 2017, appendix 7.2).

c7s1-64, d128, d256, R256 x 9, u128, u64, c7s1-3.
"""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + f(x), f of two reflection-padded 3x3 convolutions with instance norm; (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResNet9(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1]; H and W multiples of 4."""

    size_multiple = 4

    def __init__(self, in_channels: int = 3, out_channels: int = 3, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            *_convolution(nn.Conv2d(in_channels, width, 7), width),
        ]
        for i in (1, 2):
            layers += _convolution(nn.Conv2d(width * i, width * 2 * i, 3, 2, 1), width * 2 * i)
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        for i in (2, 1):
            layers += _convolution(nn.ConvTranspose2d(width * 2 * i, width * i, 3, 2, 1, 1), width * i)
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layers(x))


def _convolution(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]
