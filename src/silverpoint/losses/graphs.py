"""Representational graphs of a face's parts, and the distances between two of them.

Source: the biphasic SDGAN, section III-C (Eqs. 1-5) and section III-E (Eqs. 10-11). Features are those of an image,
or the image itself; masks say which pixel belongs to which of K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Graphs:
    """What two images are compared by. `intra` (B, 2, K, P): the cosines of each of P pixels to the mean and the
    variance of each class; `inter` (B, 2, K, K): the distances between the means, and between the variances, of the
    classes; `present` (B, K): 1 for the classes that are in the image, else 0."""

    intra: Tensor
    inter: Tensor
    present: Tensor


def graphs(features: Tensor, masks: Tensor, outside: float = 0.0) -> Graphs:
    """features (B, C, H, W), masks (B, K, H, W) one-hot (or zero, for pixels of no class) -> the graphs, in float32.

    Eq. 5's Euclidean distance is divided by sqrt(C), so that it does not grow with the number of channels. `outside`
    is that of `class_nodes`.
    """
    with torch.autocast(features.device.type, enabled=False):
        pixels, masks = _wide(features).flatten(2), _wide(masks).flatten(2)
        nodes = class_nodes(pixels, masks, outside)  # (B, 2, K, C)
        # a class of one tone has no variance but rounding, which must not be given a direction
        directions = F.normalize(nodes, dim=3, eps=1e-5).flatten(1, 2)
        # nor has a black pixel one: the gradient of its direction grows with 1 / eps
        intra = directions @ F.normalize(pixels, dim=1, eps=1e-4)  # Eq. 3: (B, 2K, P)
        inter = torch.cdist(nodes, nodes) / features.shape[1] ** 0.5  # Eqs. 4-5
        present = (masks.sum(2) > 0).to(pixels.dtype)
        return Graphs(intra.unflatten(1, (2, -1)), inter, present)


def class_nodes(pixels: Tensor, masks: Tensor, outside: float = 0.0) -> Tensor:
    """pixels (B, C, P), masks (B, K, P) -> (B, 2, K, C): the mean and the variance of each class, zero if absent.

    The variance is over the class's own pixels. Eq. 2 as printed adds the mean's square for each pixel `outside`: 1.
    """
    sizes = masks.sum(2, keepdim=True).clamp_min(1)
    weights = masks / sizes
    mean = weights @ pixels.transpose(1, 2)  # Eq. 1
    deviation = pixels - mean.transpose(1, 2) @ masks  # of each pixel from the mean of its own class
    variance = weights @ deviation.square().transpose(1, 2)  # Eq. 2
    variance = variance + outside * (masks.shape[2] / sizes - 1) * mean.square()
    return torch.stack([mean, variance], 1)


def intra_class_loss(fake: Graphs, real: Graphs) -> Tensor:
    """Eq. 10, its squared norm taken as a mean over pixels: IAG, a scalar. Both graphs are of the same masks."""
    squares = (real.intra - fake.intra).square().mean(3)  # (B, 2, K)
    return (squares * fake.present[:, None]).sum((1, 2)).mean()


def inter_class_loss(fake: Graphs, real: Graphs) -> Tensor:
    """Eq. 11 over the classes that are present: ITG, a scalar. Both graphs are of the same masks."""
    pairs = fake.present[:, None, :, None] * fake.present[:, None, None, :]
    return ((real.inter - fake.inter).square() * pairs).sum((1, 2, 3)).mean()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
