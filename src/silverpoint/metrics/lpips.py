"""LPIPS, the learned perceptual distance of Zhang et al. (CVPR 2018), version 0.1."""

import hashlib
import os
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from silverpoint.errors import AssetError
from silverpoint.metrics.images import check_pair, to_rgb
from silverpoint.nets.lpips_backbones import VGG16, AlexNet, SqueezeNet

Backbone = Literal["alex", "vgg", "squeeze"]
NETWORKS: dict[Backbone, type[AlexNet] | type[VGG16] | type[SqueezeNet]] = {
    "alex": AlexNet,
    "vgg": VGG16,
    "squeeze": SqueezeNet,
}
BACKBONE_ASSETS = {"alex": "lpips-alexnet", "vgg": "lpips-vgg16"}
SQUEEZE_VARIABLE = "SILVERPOINT_SQUEEZENET"  # where a SqueezeNet 1.1 state dict lies; it is no asset

SHIFT, SCALE = (
    (-0.030, -0.088, -0.188),
    (0.458, 0.448, 0.450),
)  # v0.1's input normalisation, of RGB in [-1, 1]
LEAST_SIDE = {"alex": 35, "vgg": 16, "squeeze": 17}  # every tap has a pixel


class LPIPS(nn.Module):
    """fake, real (B, 1 or 3, H, W) in [0, 255] -> distance per image (B,), 0 for equal images.

    Both images go to [-1, 1], grey repeated to RGB, at their own size. In every layer the features are scaled
    to unit length across channels (Eq. 1); their squared differences, weighted per channel by the learned
    head, are averaged over the layer's positions and summed over layers.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.name = backbone
        self.backbone = NETWORKS[backbone]()
        self.heads = nn.ParameterList(torch.zeros(c) for c in self.backbone.channels)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        if min(fake.shape[-2:]) < LEAST_SIDE[self.name]:
            least = LEAST_SIDE[self.name]
            raise ValueError(
                f"LPIPS-{self.name} needs sides of at least {least} pixels, got {fake.shape[-2:]}"
            )
        both = to_rgb(torch.cat([fake, real])) / 127.5 - 1
        distance = torch.zeros(fake.shape[0], dtype=fake.dtype, device=fake.device)
        for features, head in zip(self.backbone((both - self.shift) / self.scale), self.heads, strict=True):
            unit = features / (_length(features) + 1e-10)
            a, b = unit.chunk(2)
            distance = distance + torch.einsum("bchw,c->b", (a - b).square(), head) / a[0, 0].numel()
        return distance


def _length(features: Tensor) -> Tensor:
    """Norm across channels, with the gradient 0, not NaN, where every channel is 0 (as behind a ReLU)."""
    squares = features.square().sum(dim=1, keepdim=True)
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def load_lpips(backbone: Backbone = "alex", backbone_path: str | Path | None = None) -> LPIPS:
    """LPIPS with its published weights, fetched on first use.

    backbone_path is a state dict with torchvision's names (.safetensors or .pth) to use instead of the asset.
    SqueezeNet 1.1 has no asset and needs one, here or in the environment variable SILVERPOINT_SQUEEZENET.
    """
    from safetensors import safe_open

    from silverpoint.assets import fetch

    net = LPIPS(backbone)
    if backbone_path is None and backbone == "squeeze":
        backbone_path = _squeezenet_path()
    path = Path(backbone_path) if backbone_path is not None else fetch(BACKBONE_ASSETS[backbone])
    _load_backbone(net.backbone, path)
    with safe_open(fetch("lpips-heads"), framework="pt") as file:
        for index, head in enumerate(net.heads):
            head.copy_(file.get_tensor(f"{backbone}.lin{index}").flatten())
    return net


def squeezenet_checksum() -> str:
    """The sha256 of the file that SILVERPOINT_SQUEEZENET names. Raises AssetError where there is none."""
    try:
        return hashlib.sha256(Path(_squeezenet_path()).read_bytes()).hexdigest()
    except OSError as error:
        raise AssetError(f"{error.filename}: {error.strerror}") from error


def _squeezenet_path() -> str:
    path = os.environ.get(SQUEEZE_VARIABLE)
    if not path:
        raise AssetError(
            f"LPIPS-squeeze needs torchvision's SqueezeNet 1.1 weights (squeezenet1_1-b8a52dc0.pth from "
            f"download.pytorch.org/models): name the file in {SQUEEZE_VARIABLE}"
        )
    return path


def lpips(fake: Tensor, real: Tensor, net: LPIPS | None = None) -> Tensor:
    """Distance per image (B,) with LPIPS-alex, or with the `net` that load_lpips gave."""
    return (net or load_lpips())(fake, real)


def _load_backbone(net: nn.Module, path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise AssetError(f"{path}: no such file") from error
    wanted = net.state_dict()
    missing = [key for key in wanted if key not in state]
    if missing:
        raise AssetError(f"{path}: not the weights of a {type(net).__name__}; {missing[0]} is missing")
    net.load_state_dict({key: state[key] for key in wanted})
