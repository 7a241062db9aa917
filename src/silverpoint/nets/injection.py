"""A U-Net whose decoder is told by a semantic layout what each pixel belongs to: the biphasic SDGAN's generator.

Seven stride-2 convolutions, seven residual blocks with statistics injection and upsampling, pix2pix's skips by
concatenation (SDGAN, section III-B and Fig. 2). The injection is SPADE's (Park et al. 2019, section 3.1).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Modulation = tuple[Tensor, Tensor]  # gamma and beta, each (B, C, h, w) or (1, C, 1, 1)
DEPTH = 7
# before the injection, and without an affine part, which the injection is
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": nn.InstanceNorm2d,
    "batch": partial(nn.BatchNorm2d, affine=False),
}


class StatisticsInjection(nn.Module):
    """layout (B, parts, h, w) -> gamma and beta (B, channels, h, w), Fig. 2c."""

    def __init__(self, parts: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(parts, hidden, 3, 1, 1)
        self.modulation = nn.Conv2d(hidden, 2 * channels, 3, 1, 1)

    def forward(self, layout: Tensor) -> Modulation:
        gamma, beta = self.modulation(F.relu(self.shared(layout))).chunk(2, 1)
        return gamma, beta


class ConstantInjection(nn.Module):
    """What is left of the injection without a layout: one gamma and beta per channel, as affine norms have."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def forward(self, layout: None) -> Modulation:
        return self.gamma, self.beta


class InjectionBlock(nn.Module):
    """(B, in_channels, h, w) -> (B, out_channels, h, w): two times injection, ReLU, 3x3 convolution; Fig. 2b."""

    def __init__(
        self, in_channels: int, out_channels: int, parts: int, hidden: int, norm: str = "instance"
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(NORMS[norm](c) for c in (in_channels, out_channels))
        self.injections = nn.ModuleList(
            StatisticsInjection(parts, c, hidden) if parts else ConstantInjection(c)
            for c in (in_channels, out_channels)
        )
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, modulations: Sequence[Modulation]) -> Tensor:
        first, second = modulations
        y = self.conv1(F.relu(inject(self.norms[0](x), first)))
        y = self.conv2(F.relu(inject(self.norms[1](y), second)))
        return self.shortcut(x) + y


def inject(x: Tensor, modulation: Modulation) -> Tensor:
    """x, which is normalised, times (1 + gamma) plus beta."""
    gamma, beta = modulation
    return torch.addcmul(x + beta, x, gamma)  # 1 + gamma would lose gamma's last bits in bfloat16


class InjectionUNet(nn.Module):
    """(B, in_channels, H, W) and layout (B, parts, H, W) -> (B, out_channels, H, W) in [-1, 1]; H, W: see below.

    Height and width are multiples of 256: at 128 the innermost map would be one pixel, which no norm survives.
    With no parts the layout is None, and gamma and beta are learned constants. `norm` is one of NORMS.
    """

    size_multiple = 256

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        parts: int = 12,
        width: int = 64,
        hidden: int = 128,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        widths = [width * m for m in (1, 2, 4, 8, 8, 8, 8)]
        self.down = nn.ModuleList([nn.Conv2d(in_channels, widths[0], 4, 2, 1)])
        for i in range(1, DEPTH):
            layers: list[nn.Module] = [
                nn.LeakyReLU(0.2),
                nn.Conv2d(widths[i - 1], widths[i], 4, 2, 1, bias=i == DEPTH - 1),
            ]
            if i < DEPTH - 1:  # the innermost map is left as it is, as in pix2pix
                layers.append(nn.InstanceNorm2d(widths[i]))
            self.down.append(nn.Sequential(*layers))
        outside = [*reversed(widths[:-1]), widths[0]]
        inside = [widths[-1], *(2 * w for w in outside[:-1])]
        self.up = nn.ModuleList(
            InjectionBlock(i, o, parts, hidden, norm) for i, o in zip(inside, outside, strict=True)
        )
        self.out = nn.Conv2d(widths[0], out_channels, 3, 1, 1)

    def forward(self, x: Tensor, layout: Tensor | None = None) -> Tensor:
        return self.levels(x, self.modulations(layout))[-1]

    def modulations(self, layout: Tensor | None) -> list[list[Modulation]]:
        """Gamma and beta of every block; two thirds of the work, and the same for every image of one layout."""
        found = []
        for i, block in enumerate(self.up):
            step = 2 ** (DEPTH - i)  # the layout resized by nearest neighbour
            small = None if layout is None else layout[:, :, ::step, ::step]
            found.append([injection(small) for injection in block.injections])  # type: ignore[union-attr]
        return found

    def levels(self, x: Tensor, modulations: Sequence[Sequence[Modulation]]) -> list[Tensor]:
        """The seven decoder levels, coarse to fine, and the image."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x, levels = skips.pop(), []
        for up, modulation in zip(self.up, modulations, strict=True):
            x = up(x, modulation)
            levels.append(x)
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            if skips:
                x = torch.cat([x, skips.pop()], 1)
        return [*levels, torch.tanh(self.out(F.leaky_relu(x, 0.2)))]
