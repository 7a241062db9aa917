"""The Inception-v3 that FID is defined on: the 2015-12-05 TensorFlow graph, not torchvision's classifier.

It differs from torchvision's in its weights, in average pooling that does not count the padding, and in the
max pooling of the last block. Parameter names are torchvision's and pytorch-fid's. Input RGB (B, 3, 299, 299)
in [-1, 1], output the pool3 features (B, 2048).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, ReLU; keeps the image's size, or `valid`: only whole windows."""

    def __init__(
        self, channels: int, width: int, kernel: int | tuple[int, int], stride: int = 1, valid: bool = False
    ) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid else (size[0] // 2, size[1] // 2)
        self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


class BlockA(nn.Module):
    """35x35: 1x1, 5x5, double 3x3 and pooling, side by side."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(channels, 64, 1)
        self.branch5x5_1 = ConvBN(channels, 48, 1)
        self.branch5x5_2 = ConvBN(48, 64, 5)
        self.branch3x3dbl_1 = ConvBN(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3)
        self.branch_pool = ConvBN(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], dim=1)


class BlockB(nn.Module):
    """35x35 -> 17x17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBN(channels, 384, 3, stride=2, valid=True)
        self.branch3x3dbl_1 = ConvBN(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], dim=1)


class BlockC(nn.Module):
    """17x17, with 7x7 convolutions as pairs of 1x7 and 7x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvBN(768, 192, 1)
        self.branch7x7_1 = ConvBN(768, width, 1)
        self.branch7x7_2 = ConvBN(width, width, row)
        self.branch7x7_3 = ConvBN(width, 192, column)
        self.branch7x7dbl_1 = ConvBN(768, width, 1)
        self.branch7x7dbl_2 = ConvBN(width, width, column)
        self.branch7x7dbl_3 = ConvBN(width, width, row)
        self.branch7x7dbl_4 = ConvBN(width, width, column)
        self.branch7x7dbl_5 = ConvBN(width, 192, row)
        self.branch_pool = ConvBN(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class BlockD(nn.Module):
    """17x17 -> 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBN(768, 192, 1)
        self.branch3x3_2 = ConvBN(192, 320, 3, stride=2, valid=True)
        self.branch7x7x3_1 = ConvBN(768, 192, 1)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvBN(192, 192, 3, stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], dim=1)


class BlockE(nn.Module):
    """8x8, with the 3x3 convolutions split into 1x3 and 3x1 whose outputs are stacked."""

    def __init__(self, channels: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.pool = pool
        self.branch1x1 = ConvBN(channels, 320, 1)
        self.branch3x3_1 = ConvBN(channels, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, row)
        self.branch3x3_2b = ConvBN(384, 384, column)
        self.branch3x3dbl_1 = ConvBN(channels, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3)
        self.branch3x3dbl_3a = ConvBN(384, 384, row)
        self.branch3x3dbl_3b = ConvBN(384, 384, column)
        self.branch_pool = ConvBN(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(parts, dim=1)


class Inception(nn.Module):
    """RGB (B, 3, 299, 299) in [-1, 1] -> pool3 features (B, 2048). Frozen, always in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2, valid=True)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, valid=True)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, _average)
        self.Mixed_7c = BlockE(2048, _maximum)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Inception":
        return super().train(False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        x = self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2))
        x = F.max_pool2d(self.Conv2d_4a_3x3(x), 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6a(x)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))
