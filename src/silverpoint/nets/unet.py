"""U-Net-256, the generator of pix2pix (Isola et al. 2017, section 6.1.1: C64-C128-C256-C512x5 and its mirror)."""

import torch
from torch import Tensor, nn


class UNet256(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1]; H and W multiples of 256.

    Eight halvings down to one pixel per 256, skip connections by concatenation. Dropout (0.5 in the three layers
    after the innermost, the paper's source of noise) acts in training mode only.
    """

    size_multiple = 256

    def __init__(
        self, in_channels: int = 3, out_channels: int = 1, width: int = 64, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = [width * m for m in (1, 2, 4, 8, 8, 8, 8, 8)]
        down: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 4, 2, 1)]
        for i in range(1, 8):
            layers: list[nn.Module] = [
                nn.LeakyReLU(0.2),
                nn.Conv2d(widths[i - 1], widths[i], 4, 2, 1, bias=i == 7),
            ]
            if i < 7:  # the innermost map is one pixel at 256x256: normalising it would erase it
                layers.append(nn.BatchNorm2d(widths[i]))
            down.append(nn.Sequential(*layers))
        self.down = nn.ModuleList(down)
        up: list[nn.Module] = []
        for i in range(7, 0, -1):
            inside = widths[i] if i == 7 else 2 * widths[i]
            block = [
                nn.ReLU(),
                nn.ConvTranspose2d(inside, widths[i - 1], 4, 2, 1, bias=False),
                nn.BatchNorm2d(widths[i - 1]),
            ]
            if 4 <= i <= 6:
                block.append(nn.Dropout(dropout))
            up.append(nn.Sequential(*block))
        self.up = nn.ModuleList(up)
        self.out = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], out_channels, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = torch.cat([up(x), skips.pop()], dim=1)
        return torch.tanh(self.out(x))
