"""The three ImageNet classifiers that LPIPS reads its features from, up to the last layer it reads.

Parameter names are torchvision's (`features.0.weight`, ...; SqueezeNet `features.3.squeeze.weight`, ...), so
that its state dicts load as they are. Each network takes a normalised RGB batch (B, 3, H, W) and returns its
taps, shallow to deep.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Taps(nn.Module):
    """Runs `features` in order and keeps the outputs of the layers in `taps`. Frozen, always in eval mode."""

    channels: tuple[int, ...]

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.taps = frozenset(taps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "_Taps":
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in self.taps:
                found.append(image)
        return found


class AlexNet(_Taps):
    """Krizhevsky 2014 ("one weird trick"): relu1..relu5."""

    channels = (64, 192, 384, 256, 256)

    def __init__(self) -> None:
        layers = [
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1),
            nn.ReLU(),
        ]
        super().__init__(layers, taps=(1, 4, 7, 9, 11))


class VGG16(_Taps):
    """Simonyan and Zisserman 2015: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""

    channels = (64, 128, 256, 512, 512)

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        taps, before = [], 3
        for depth, width in zip((2, 2, 3, 3, 3), self.channels, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += [nn.Conv2d(before, width, 3, 1, 1), nn.ReLU()]
                before = width
            taps.append(len(layers) - 1)
        super().__init__(layers, taps)


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(_Taps):
    """SqueezeNet 1.1 (Iandola et al. 2016): relu1 and the six fire modules before each change of width."""

    channels = (64, 128, 256, 384, 384, 512, 512)

    def __init__(self) -> None:
        layers = [
            nn.Conv2d(3, 64, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        ]
        super().__init__(layers, taps=(1, 4, 7, 9, 10, 11, 12))
