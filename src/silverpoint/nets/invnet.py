"""The inversion network (Inv-Net) and domain adversarial network (DA-Net) of DA-GAN (Liu et al. 2018, Table 1)."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 512  # of the residual blocks; the encoder's 512 channels are the mean and log-variance of the latent's 256
SLOPE = 0.2  # of every leaky ReLU (section 3.1)
NORMS: dict[str, Callable[[int], nn.Module]] = {
    # sketches pass several times a step: with the usual momentum the statistics would be those of the last few batches
    "batch": lambda channels: nn.BatchNorm2d(channels, momentum=0.02),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}


def convolution(
    in_channels: int, out_channels: int, kernel: int, norm: str, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=norm != "batch"),
        NORMS[norm](out_channels),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class Residual(nn.Module):
    """Res. 512: x + f(x), f of two 3x3 convolutions, `width` channels between them; (B, C, H, W) -> (B, C', H, W).

    Activated before its convolutions (He et al. 2016b), so that what leaves a stack is linear: a mean and a
    log-variance have to be free to be negative.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            NORMS[norm](in_channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(in_channels, width, 3, stride, 1, bias=norm != "batch"),
            NORMS[norm](width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(width, out_channels, 3, 1, 1),
        )
        changes = stride > 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.layers(x)


class Upsample(nn.Module):
    """Twice the size by repeating pixels; a convolution follows, which leaves no checkerboard (Odena et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class InvNet(nn.Module):
    """sketch (B, 1, H, W) in [-1, 1] -> photo (B, 3, H, W) in [-1, 1]; H and W multiples of 16, 96 in the paper.

    A variational autoencoder: `encode` gives the mean and log-variance of the latent, each (B, 256, H/16, W/16),
    `decode` a photo from a latent. Called as a whole it decodes the mean.
    """

    size_multiple = 16

    def __init__(self, norm: str = "batch", width: int = WIDTH) -> None:
        super().__init__()
        latent = width // 2
        self.encoder = nn.Sequential(
            convolution(1, 16, 9, norm),
            convolution(16, 32, 5, norm, stride=2),
            convolution(32, 64, 3, norm, stride=2),
            convolution(64, 128, 3, norm, stride=2),
            Residual(128, width, width, norm, stride=2),
            Residual(width, width, width, norm),
            Residual(width, 2 * latent, width, norm),
        )
        self.decoder = nn.Sequential(
            Residual(latent, latent, width, norm),
            Residual(latent, latent, width, norm),
            *[
                nn.Sequential(Upsample(), convolution(before, after, 3, norm))
                for before, after in ((latent, 128), (128, 64), (64, 32), (32, 16))
            ],
            nn.Conv2d(16, 3, 3, 1, 1),
        )

    def encode(self, sketch: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(sketch).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        return torch.tanh(self.decoder(latent))

    def forward(self, sketch: Tensor) -> Tensor:
        return self.decode(self.encode(sketch)[0])


class DomainNet(nn.Module):
    """latent (B, 256, h, w) -> logit (B, 1) that it comes from a hand-drawn sketch, the target domain.

    Six convolutions at the latent's size, then 1000 and 1. Latents of larger sketches are averaged to the 6x6 of the
    paper before the fully connected layers (ours). No normalisation: a batch's statistics would give its domain away.
    """

    def __init__(self, latent: int = WIDTH // 2) -> None:
        super().__init__()
        widths = (latent, 256, 16, 16, 32, 64, 64)
        self.convolutions = nn.Sequential(*[convolution(a, b, 3, "none") for a, b in pairwise(widths)])
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 6 * 6, 1000), nn.LeakyReLU(SLOPE, inplace=True), nn.Linear(1000, 1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.classifier(self.pool(self.convolutions(latent)))
