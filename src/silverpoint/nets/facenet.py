"""FaceNet (Schroff, Kalenichenko and Philbin 2015) as Inception-ResNet-v1, with 128 numbers per face.

The layers are named as in the asset (`Block35_1_Branch_0_Conv2d_1x1`); every convolution without a bias is
followed by a batch norm without a scale.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, NUMBERS = 160, 128

Kernel = tuple[int, int]
# per branch: (layer, kernel, width), the last with the reduction's stride
Branches = tuple[tuple[tuple[str, Kernel, int], ...], ...]

ONE, THREE = (1, 1), (3, 3)
STEM = (  # layer, width, kernel, stride, padding
    ("Conv2d_1a_3x3", 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 80, 1, 1, 0),  # behind a pooling
    ("Conv2d_4a_3x3", 192, 3, 1, 0),
    ("Conv2d_4b_3x3", 256, 3, 2, 0),
)
BLOCK35: Branches = (
    (("Conv2d_1x1", ONE, 32),),
    (("Conv2d_0a_1x1", ONE, 32), ("Conv2d_0b_3x3", THREE, 32)),
    (("Conv2d_0a_1x1", ONE, 32), ("Conv2d_0b_3x3", THREE, 32), ("Conv2d_0c_3x3", THREE, 32)),
)
BLOCK17: Branches = (
    (("Conv2d_1x1", ONE, 128),),
    (("Conv2d_0a_1x1", ONE, 128), ("Conv2d_0b_1x7", (1, 7), 128), ("Conv2d_0c_7x1", (7, 1), 128)),
)
BLOCK8: Branches = (
    (("Conv2d_1x1", ONE, 192),),
    (("Conv2d_0a_1x1", ONE, 192), ("Conv2d_0b_1x3", (1, 3), 192), ("Conv2d_0c_3x1", (3, 1), 192)),
)
MIXED_6A: Branches = (
    (("Conv2d_1a_3x3", THREE, 384),),
    (("Conv2d_0a_1x1", ONE, 192), ("Conv2d_0b_3x3", THREE, 192), ("Conv2d_1a_3x3", THREE, 256)),
)
MIXED_7A: Branches = (
    (("Conv2d_0a_1x1", ONE, 256), ("Conv2d_1a_3x3", THREE, 384)),
    (("Conv2d_0a_1x1", ONE, 256), ("Conv2d_1a_3x3", THREE, 256)),
    (("Conv2d_0a_1x1", ONE, 256), ("Conv2d_0b_3x3", THREE, 256), ("Conv2d_1a_3x3", THREE, 256)),
)


class ConvBN(nn.Module):
    def __init__(self, channels: int, width: int, kernel: Kernel, stride: int, padding: Kernel) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class FaceNet(nn.Module):
    """RGB (B, 3, 160, 160), each image of mean 0 and deviation 1 -> embedding (B, 128). Frozen, in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        channels = 3
        for name, width, side, stride, padding in STEM:
            self.layers[name] = ConvBN(channels, width, (side, side), stride, (padding, padding))
            channels = width
        for number in range(1, 6):
            self._add_residual(f"Block35_{number}", 256, BLOCK35)
        self._add_branches("Mixed_6a", 256, MIXED_6A, stride=2)
        for number in range(1, 11):
            self._add_residual(f"Block17_{number}", 896, BLOCK17)
        self._add_branches("Mixed_7a", 896, MIXED_7A, stride=2)
        for number in range(1, 7):
            self._add_residual(f"Block8_{number}", 1792, BLOCK8)
        self.layers["Bottleneck"] = nn.Linear(1792, NUMBERS, bias=False)
        self.layers["Bottleneck_BatchNorm"] = nn.BatchNorm1d(NUMBERS, eps=0.001)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FaceNet":
        return super().train(False)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for name, *_ in STEM:
            if name == "Conv2d_3b_1x1":
                x = F.max_pool2d(x, 3, 2)
            x = self.layers[name](x)
        for number in range(1, 6):
            x = F.relu(x + 0.17 * self._residual(f"Block35_{number}", x, BLOCK35))
        x = torch.cat([*self._branches("Mixed_6a", x, MIXED_6A), F.max_pool2d(x, 3, 2)], dim=1)
        for number in range(1, 11):
            x = F.relu(x + 0.10 * self._residual(f"Block17_{number}", x, BLOCK17))
        x = torch.cat([*self._branches("Mixed_7a", x, MIXED_7A), F.max_pool2d(x, 3, 2)], dim=1)
        for number in range(1, 6):
            x = F.relu(x + 0.20 * self._residual(f"Block8_{number}", x, BLOCK8))
        x = x + self._residual("Block8_6", x, BLOCK8)
        return self.layers["Bottleneck_BatchNorm"](self.layers["Bottleneck"](x.mean(dim=(2, 3))))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes the asset's tensors: X.weight, and X_BatchNorm.bias, .running_mean, .running_var."""
        found = {}
        for name, layer in self.layers.items():
            if isinstance(layer, ConvBN):
                found[f"layers.{name}.conv.weight"] = state[f"{name}.weight"]
                for kind in ("bias", "running_mean", "running_var"):
                    found[f"layers.{name}.norm.{kind}"] = state[f"{name}_BatchNorm.{kind}"]
            else:
                found |= {
                    f"layers.{key}": value for key, value in state.items() if key.startswith(f"{name}.")
                }
        wanted = self.state_dict()
        kept = {key: wanted[key] for key in wanted if key.endswith(("norm.weight", "num_batches_tracked"))}
        kept["layers.Bottleneck_BatchNorm.weight"] = wanted["layers.Bottleneck_BatchNorm.weight"]
        self.load_state_dict(kept | found)

    def _add_branches(self, block: str, channels: int, branches: Branches, stride: int = 1) -> int:
        total = 0
        for index, branch in enumerate(branches):
            width = channels
            for position, (layer, kernel, after) in enumerate(branch):
                last = position == len(branch) - 1
                step = stride if last else 1
                padding = (0, 0) if step == 2 else (kernel[0] // 2, kernel[1] // 2)
                self.layers[f"{block}_Branch_{index}_{layer}"] = ConvBN(width, after, kernel, step, padding)
                width = after
            total += width
        return total

    def _add_residual(self, block: str, channels: int, branches: Branches) -> None:
        total = self._add_branches(block, channels, branches)
        self.layers[f"{block}_Conv2d_1x1"] = nn.Conv2d(total, channels, 1)

    def _branches(self, block: str, x: Tensor, branches: Branches) -> list[Tensor]:
        found = []
        for index, branch in enumerate(branches):
            y = x
            for layer, *_ in branch:
                y = self.layers[f"{block}_Branch_{index}_{layer}"](y)
            found.append(y)
        return found

    def _residual(self, block: str, x: Tensor, branches: Branches) -> Tensor:
        return self.layers[f"{block}_Conv2d_1x1"](torch.cat(self._branches(block, x, branches), dim=1))
