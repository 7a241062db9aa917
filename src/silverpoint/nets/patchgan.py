"""PatchGAN: a discriminator that judges overlapping patches (Isola et al. 2017, section 3.2.2)."""

from torch import Tensor, nn

NORMS = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}


class PatchGAN(nn.Module):
    """image (B, C, H, W) -> logits (B, 1, h, w), one per patch; 70x70 patches with the default three layers.

    Conditional use: concatenate the condition to the image along the channels. `norm` follows the middle convolutions:
    instance, batch or, where a patch's contrast is to be judged too, none.
    """

    least = 24  # pixels a side from which three layers leave a patch

    def __init__(self, in_channels: int, width: int = 64, layers: int = 3, norm: str = "instance") -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for i in range(1, layers + 1):
            wider = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            blocks += [
                nn.Conv2d(channels, wider, 4, stride, 1, bias=norm != "batch"),
                *([NORMS[norm](wider)] if norm != "none" else []),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        self.layers = nn.Sequential(*blocks, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)
