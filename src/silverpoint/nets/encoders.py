"""Convolutional encoder and decoder between an image and feature maps at a quarter of its resolution."""

import torch
from torch import Tensor, nn

from silverpoint.nets.resnet import ResidualBlock


class FeatureEncoder(nn.Sequential):
    """image (B, in_channels, H, W) -> features (B, 4 width, H/4, W/4): c7s1-w, d2w, d4w, R4w x blocks.

    The notation is CycleGAN's (appendix 7.2); H and W are multiples of 4.
    """

    def __init__(self, in_channels: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__(
            nn.ReflectionPad2d(3),
            *_normalised(nn.Conv2d(in_channels, width, 7, bias=False), width),
            *_normalised(nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), 2 * width),
            *_normalised(nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False), 4 * width),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
        )


class FeatureDecoder(nn.Sequential):
    """features (B, 4 width, h, w) -> image (B, out_channels, 4h, 4w) in [-1, 1]: the encoder's mirror.

    It enlarges by 4x4 transposed convolutions, as pix2pix does: their taps cover all pixels alike.
    """

    def __init__(self, out_channels: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__(
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            *_normalised(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), 2 * width),
            *_normalised(nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, out_channels, 7),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(super().forward(features))


def _normalised(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]
