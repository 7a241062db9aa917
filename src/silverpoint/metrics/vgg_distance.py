"""The perceptual distance that DA-GAN reports (Liu et al. 2018, Eq. 4 and Table 2)."""

import torch
from torch import Tensor, nn

from silverpoint.metrics.images import check_pair, to_rgb
from silverpoint.nets.vgg import load_vgg19

TAP = "relu3_4"


class VGGDistance(nn.Module):
    """fake, real (B, 1 or 3, H, W) in [0, 255] -> mean squared difference of VGG-19's relu3_4, per image (B,).

    Eq. 4 prints a sum over the feature map; divided by its size (256 x h x w) the number does not depend on the
    image's. The network is the normalised VGG-19, whose activations are about 1 on average, so neither form can
    be held against the paper's 241.39.
    """

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net or load_vgg19([TAP])

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        features = self.net(to_rgb(torch.cat([fake, real])) / 255)[TAP]
        a, b = features.chunk(2)
        return (a - b).square().mean(dim=(1, 2, 3))
