"""A ResNet of nine dilated squeeze-and-excitation blocks between two halvings and two doublings.

The students of KT (Zhu et al., IJCAI 2019, section 3.2): IC-k7s1n64, DC1-k3s2n128, DC2-k3s2n256, nine blocks,
UC1-k3s½n128, UC2-k3s½n64, OC-k7s1n3.
"""

import torch
from torch import Tensor, nn

NORMS = ("instance", "batch")


class SqueezeExcitation(nn.Module):
    """Every channel times a weight in (0, 1) that depends on the means of all (Hu et al. 2018, Eqs. 2-4)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.excite = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(x.mean((2, 3)))[:, :, None, None]


class DilatedSEBlock(nn.Module):
    """relu(x + SE(f(x))), f of two 3x3 convolutions with dilation 2; (B, C, H, W) -> the same, not negative."""

    def __init__(self, channels: int, norm: str = "instance", dilation: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(dilation),
            nn.Conv2d(channels, channels, 3, dilation=dilation),
            _norm(norm, channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(dilation),
            nn.Conv2d(channels, channels, 3, dilation=dilation),
            _norm(norm, channels),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class DilatedSEResNet(nn.Module):
    """image (B, 3, H, W) in [-1, 1] -> (image (B, 3, H, W) in [-1, 1], {tap: map}); H and W multiples of 4.

    The maps, after their ReLU: IC (B, width, H, W), DC1 (B, 2 width, H/2, W/2), DC2 and Block
    (B, 4 width, H/4, W/4), UC1 as DC1 and UC2 as IC. H and W are at least 12: the blocks reflect two pixels.
    """

    size_multiple = 4

    def __init__(self, width: int = 64, blocks: int = 9, norm: str = "instance") -> None:
        super().__init__()
        middle = [DilatedSEBlock(4 * width, norm) for _ in range(blocks)]
        self.layers = nn.ModuleDict(
            {
                "IC": _activated(norm, width, nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)),
                "DC1": _activated(norm, 2 * width, nn.Conv2d(width, 2 * width, 3, 2, 1)),
                "DC2": _activated(norm, 4 * width, nn.Conv2d(2 * width, 4 * width, 3, 2, 1)),
                "Block": nn.Sequential(*middle),
                "UC1": _activated(norm, 2 * width, nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1)),
                "UC2": _activated(norm, width, nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1)),
            }
        )
        self.OC = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        maps: dict[str, Tensor] = {}
        x = image
        for tap, layer in self.layers.items():
            x = maps[tap] = layer(x)
        return self.OC(x), maps


def _activated(norm: str, channels: int, *convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(*convolution, _norm(norm, channels), nn.ReLU(inplace=True))


def _norm(norm: str, channels: int) -> nn.Module:
    """Affine, both: a map that is to equal another network's needs its own scale and offset per channel."""
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.BatchNorm2d(channels)
