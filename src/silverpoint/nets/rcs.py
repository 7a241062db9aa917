"""The region-constrained sampling module of FSS (Du et al. 2025): two branches of attention, two maps of a face.

Eq. 1-2  what each channel weighs              RegionConstrainedSampling.excite
Eq. 3    channel attention -> the hair         forward, `channel`
Eq. 4-5  spatial attention                     forward, `spatial`
Eq. 6    both together -> the face             forward, `fused`
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stem(nn.Module):
    """photo (B, 3, H, W) in [-1, 1] -> features (B, 64, H/4, W/4), sides rounded up.

    Down to 1/16, where the context of a whole face fits into a few 3x3 convolutions, and back to 1/4.
    """

    channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(*_step(3, 16), *_step(16, 32))
        self.coarse = nn.Sequential(
            *_step(32, 64), *_step(64, 96), *_step(96, 96, 1, dilation=2), *_step(96, 96, 1, dilation=4)
        )
        self.lateral = nn.Conv2d(32, self.channels, 1)
        self.top = nn.Conv2d(96, self.channels, 1)
        self.merge = nn.Sequential(nn.ReLU(), *_step(self.channels, self.channels, 1))

    def forward(self, photo: Tensor) -> Tensor:
        fine = self.fine(photo)
        coarse = F.interpolate(self.top(self.coarse(fine)), fine.shape[2:], mode="bilinear")
        return self.merge(self.lateral(fine) + coarse)


class RegionConstrainedSampling(nn.Module):
    """photo (B, 3, H, W) in [-1, 1] -> logits (B, 2, H, W) of the maps of hair and face, in float32.

    `features` says what p_i of Eqs. 1-6 is: "stem", features of the photo, or "pixels", the photo itself, as printed.
    """

    def __init__(self, features: str = "stem") -> None:
        super().__init__()
        self.stem: nn.Module = Stem() if features == "stem" else nn.Identity()
        c = Stem.channels if features == "stem" else 3
        self.excite = nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c), nn.Sigmoid())
        self.channel = nn.Conv2d(c, c, 1)
        self.squeeze = nn.Conv2d(c, 1, 1)
        self.fused = nn.Conv2d(c, c, 1)
        self.hair = nn.Conv2d(c, 1, 1)
        self.face = nn.Conv2d(c, 1, 1)

    def forward(self, photo: Tensor) -> Tensor:
        with torch.autocast(photo.device.type, enabled=False):  # densities of 8 bits would be full of ties
            p = self.stem(photo.float())
            z_c = p.mean((2, 3))  # Eq. 1
            s = self.excite(z_c)[:, :, None, None]  # Eq. 2
            p_c = self.channel(s * p)  # Eq. 3
            z_s = self.squeeze(p)  # Eq. 4
            p_s = torch.sigmoid(z_s) * p  # Eq. 5
            f_f = self.fused(p_s + p_c)  # Eq. 6
            maps = torch.cat([self.hair(p_c), self.face(f_f)], 1)
            return F.interpolate(maps, photo.shape[2:], mode="bilinear")


def _step(inside: int, outside: int, stride: int = 2, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, stride, dilation, dilation),
        nn.GroupNorm(8, outside),
        nn.ReLU(),
    ]
