"""LightCNN-v4 (Wu, He, Sun and Tan 2018, "A Light CNN for Deep Face Representation with Noisy Labels").

Instead of ReLU, max feature maps: of two halves of the channels, the greater at each position. Parameter names
are those of the authors' release, so that its state dict loads as it is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, NUMBERS = 128, 256


class MaxFeatureMap(nn.Module):
    """3x3 convolution to 2 x width channels, then the maximum of the two halves (Eq. 3)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, 2 * width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.filter(x).chunk(2, dim=1)
        return torch.maximum(first, second)


class ResBlock(nn.Module):
    """Two max-feature-map convolutions, and the input added; no norm and no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MaxFeatureMap(channels, channels)
        self.conv2 = MaxFeatureMap(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class LightCNN(nn.Module):
    """RGB (B, 3, 128, 128) in [0, 1] -> embedding (B, 256). Frozen, always in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = MaxFeatureMap(3, 48)
        self.block1 = nn.Sequential(ResBlock(48))
        self.conv2 = MaxFeatureMap(48, 96)
        self.block2 = nn.Sequential(*(ResBlock(96) for _ in range(2)))
        self.conv3 = MaxFeatureMap(96, 192)
        self.block3 = nn.Sequential(*(ResBlock(192) for _ in range(3)))
        self.conv4 = MaxFeatureMap(192, 128)
        self.block4 = nn.Sequential(*(ResBlock(128) for _ in range(4)))
        self.conv5 = MaxFeatureMap(128, 128)
        self.fc = nn.Linear(8 * 8 * 128, NUMBERS)
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        x = self.block1(_halve(self.conv1(image)))
        x = self.block2(_halve(self.conv2(x)))
        x = self.block3(_halve(self.conv3(x)))
        x = _halve(self.conv5(self.block4(self.conv4(x))))
        return self.fc(x.flatten(1))


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)
