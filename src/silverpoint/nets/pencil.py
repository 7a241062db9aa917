"""The generator of the light student: a small multi-scale residual network whose strokes follow a style.

Built for a CPU: it works at half resolution and below (pixel-unshuffle), batch normalisation folds into the
convolutions on export, and nothing in it looks at the whole image, so any size can be drawn and a large picture
can be drawn in tiles.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm_relu(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class StyledBlock(nn.Module):
    """A residual block whose residual is scaled and shifted per channel by the style (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.first = conv_norm_relu(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.modulation = nn.Linear(styles, 2 * channels)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.modulation(style)[:, :, None, None].chunk(2, dim=1)
        return F.relu(x + self.norm(self.second(self.first(x))) * (1 + scale) + shift)


class PencilNet(nn.Module):
    """photo (B, 3, H, W) in [-1, 1] and style (B, S) one-hot -> sketch (B, 1, H, W) in [-1, 1].

    H and W must be multiples of 16. With the default widths: 2.1 M parameters, 1.4 GMAC at 256x256.
    """

    size_multiple = 16
    receptive_margin = (
        144  # pixels beyond which nothing changes a pixel: the overlap of tiles, a multiple of 16
    )

    def __init__(self, styles: int, widths: tuple[int, int, int, int] = (32, 48, 96, 192)) -> None:
        super().__init__()
        w2, w4, w8, w16 = widths  # channels at 1/2, 1/4, 1/8 and 1/16 of the resolution
        self.stem = conv_norm_relu(12, w2)
        self.down4 = conv_norm_relu(w2, w4, stride=2)
        self.down8 = conv_norm_relu(w4, w8, stride=2)
        self.encode8 = StyledBlock(w8, styles)
        self.down16 = conv_norm_relu(w8, w16, stride=2)
        self.middle = nn.ModuleList([StyledBlock(w16, styles) for _ in range(2)])
        self.up8, self.fuse8 = nn.Conv2d(w16, w8, 1), conv_norm_relu(w8, w8)
        self.decode8 = StyledBlock(w8, styles)
        self.up4, self.fuse4 = nn.Conv2d(w8, w4, 1), conv_norm_relu(w4, w4)
        self.decode4 = StyledBlock(w4, styles)
        self.up2, self.fuse2 = nn.Conv2d(w4, w2, 1), conv_norm_relu(w2, w2)
        self.to_pixels = nn.Conv2d(w2, 32, 1)
        self.out = nn.Conv2d(9, 1, 3, 1, 1)

    def forward(self, photo: Tensor, style: Tensor) -> Tensor:
        x2 = self.stem(F.pixel_unshuffle(photo, 2))
        x4 = self.down4(x2)
        x8 = self.encode8(self.down8(x4), style)
        x = self.down16(x8)
        for block in self.middle:
            x = block(x, style)
        x = self.decode8(self.fuse8(_double(self.up8(x)) + x8), style)
        x = self.decode4(self.fuse4(_double(self.up4(x)) + x4), style)
        x = self.fuse2(_double(self.up2(x)) + x2)
        # The last convolution sees neighbouring pixels of different sub-pixel channels, which is what keeps the
        # pixel-shuffle from leaving a grid; the grey photo beside them gives it edges at full resolution.
        pixels = F.relu(F.pixel_shuffle(self.to_pixels(x), 2))
        return torch.tanh(self.out(torch.cat([pixels, photo.mean(1, keepdim=True)], 1)))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
