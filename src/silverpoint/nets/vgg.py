"""VGG-19 (Simonyan & Zisserman 2015) up to any convolution, frozen: the feature extractor of the perceptual losses.

The weights are the Caffe network rescaled per channel so that the mean activation of every channel is about one
(Gatys et al. 2016). It is not torchvision's vgg19: features, and so loss weights, are on another scale.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# convolutions per block, and their channels
BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
LAYERS = tuple(f"{b}_{i}" for b, (n, _) in enumerate(BLOCKS, 1) for i in range(1, n + 1))


class VGG19(nn.Module):
    """image (B, 3 or 1, H, W) RGB or grey in [0, 1] -> {tap: features}; taps are names such as relu3_1 or pool4.

    Frozen and always in eval mode; gradients pass through it to the image.
    """

    def __init__(self, taps: Iterable[str]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        unknown = [t for t in self.taps if t not in known_taps()]
        if unknown or not self.taps:
            raise ValueError(f"unknown VGG-19 taps {unknown}; choose from {', '.join(known_taps())}")
        self.preprocess = nn.Conv2d(3, 3, 1)  # RGB in [0, 1] -> BGR in [0, 255] minus the mean
        self.convs = nn.ModuleDict()
        channels = 3
        for layer in LAYERS[: max(_depth(t) for t in self.taps)]:
            width = BLOCKS[int(layer[0]) - 1][1]
            self.convs[layer] = nn.Conv2d(channels, width, 3, 1, 1)
            channels = width
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "VGG19":
        return super().train(False)

    def forward(self, image: Tensor, taps: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Runs only as deep as `taps` (default: those of the constructor) need."""
        taps = self.taps if taps is None else tuple(taps)
        depth = max(_depth(t) for t in taps)
        x = self.preprocess(image.expand(-1, 3, -1, -1))
        features: dict[str, Tensor] = {}
        for layer, conv in list(self.convs.items())[:depth]:
            if layer.endswith("_1") and layer != "1_1":
                x = F.max_pool2d(x, 2)
                features[f"pool{int(layer[0]) - 1}"] = x
            x = F.relu(conv(x))
            features[f"relu{layer}"] = x
        return {t: features[t] if t in features else F.max_pool2d(x, 2) for t in taps}


def known_taps() -> tuple[str, ...]:
    return tuple(f"relu{layer}" for layer in LAYERS) + tuple(f"pool{b}" for b in range(1, 6))


def _depth(tap: str) -> int:
    """How many convolutions the tap needs."""
    if tap.startswith("pool"):
        return sum(n for n, _ in BLOCKS[: int(tap[4:])])
    return LAYERS.index(tap.removeprefix("relu")) + 1


def load_vgg19(taps: Iterable[str]) -> VGG19:
    """A VGG19 with its pre-trained weights (asset `vgg19`, fetched on first use)."""
    from safetensors import safe_open

    from silverpoint.assets import fetch

    with torch.device("meta"):  # no weights are drawn, for nothing, from the generator that samples come from
        net = VGG19(taps)
    net.to_empty(device="cpu")
    with safe_open(fetch("vgg19"), framework="pt") as file, torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(file.get_tensor(_asset_key(name)))
    return net


def _asset_key(parameter: str) -> str:
    """convs.3_1.weight -> conv3_1.weight; preprocess.bias -> preprocess.bias."""
    return "conv" + parameter.removeprefix("convs.") if parameter.startswith("convs.") else parameter
