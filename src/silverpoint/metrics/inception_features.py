"""Images to the Inception features of FID and KID."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.metrics.images import to_rgb
from silverpoint.nets.inception import FEATURES, Inception

INPUT = 299


def load_inception() -> Inception:
    """The FID network with its published weights (asset `inception-fid`, fetched on first use)."""
    from safetensors.torch import load_file

    from silverpoint.assets import fetch

    net = Inception()
    net.load_state_dict(load_file(fetch("inception-fid")))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a sixth less time on a CPU


@torch.inference_mode()
def inception_features(batches: Iterable[Tensor], net: Inception | None = None) -> Tensor:
    """Batches (B, 1 or 3, H, W) in [0, 255] -> features (N, 2048) on the CPU.

    As pytorch-fid: grey repeated to RGB, bilinear resize to 299x299 without anti-aliasing (align_corners
    False), [0, 1] to [-1, 1].
    """
    net = net or load_inception()
    device = next(net.parameters()).device
    found = [torch.zeros(0, FEATURES)]
    for batch in batches:
        images = to_rgb(batch.to(device)) / 255
        images = F.interpolate(images, size=(INPUT, INPUT), mode="bilinear", align_corners=False)
        found.append(net(2 * images - 1).float().cpu())
    return torch.cat(found)
