"""Feature similarity, FSIM and FSIMc (Zhang, Zhang, Mou and Zhang 2011), after the authors' FeatureSIM.m."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.metrics.images import check_pair, to_luma
from silverpoint.metrics.phase_congruency import phase_congruency

T1, T2, T3, T4 = 0.85, 160.0, 200.0, 200.0  # section V.B
CHROMA_POWER = 0.03  # lambda of Eq. 11
YIQ_I, YIQ_Q = (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)  # as printed in Eq. 8
WEIGHT_FLOOR = 1e-8  # where neither image has a feature, every pixel counts alike instead of 0 / 0


class FeatureMaps(NamedTuple):
    """What FSIM needs of one side, so that a set scored many times is analysed once: (B, h, w) each."""

    phase: Tensor
    gradient: Tensor


def fsim(fake: Tensor, real: Tensor) -> Tensor:
    """FSIM of the luma, per image: fake, real (B, 1 or 3, H, W) in [0, 255] -> (B,) in (0, 1] (Eq. 5)."""
    return _fsim(fake, real, chroma=False)


def fsimc(fake: Tensor, real: Tensor) -> Tensor:
    """FSIMc, per image: `fsim` with the similarity of the chroma (Eq. 10). Equals FSIM for grey images."""
    return _fsim(fake, real, chroma=True)


def feature_maps(images: Tensor) -> FeatureMaps:
    """Phase congruency and gradient magnitude of (B, 1 or 3, H, W) in [0, 255], at FSIM's working size."""
    grey = _shrink(to_luma(images))
    # Scharr (Eq. 4); beyond the border is black, as conv2(..., 'same') has it. Slices are thrice as fast as conv2d.
    p = F.pad(grey[:, 0], (1, 1, 1, 1)) / 16
    rows = 3 * (p[:, :-2] + p[:, 2:]) + 10 * p[:, 1:-1]
    columns = 3 * (p[:, :, :-2] + p[:, :, 2:]) + 10 * p[:, :, 1:-1]
    gx, gy = rows[:, :, :-2] - rows[:, :, 2:], columns[:, :-2] - columns[:, 2:]
    return FeatureMaps(phase_congruency(grey[:, 0]), (gx * gx + gy * gy + 1e-20).sqrt())


def similarity(fake: FeatureMaps, real: FeatureMaps, chroma: Tensor | None = None) -> Tensor:
    """FSIM from both sides' maps, per image (B,); chroma (B, h, w) multiplies the local similarity."""
    local = _ratio(fake.phase, real.phase, T1) * _ratio(fake.gradient, real.gradient, T2)
    if chroma is not None:
        local = local * chroma
    weight = torch.maximum(fake.phase, real.phase) + WEIGHT_FLOOR
    return (local * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _fsim(fake: Tensor, real: Tensor, chroma: bool) -> Tensor:
    check_pair(fake, real)
    batch, channels = fake.shape[:2]
    phase, gradient = feature_maps(torch.cat([fake, real]))
    fake_maps = FeatureMaps(phase[:batch], gradient[:batch])
    real_maps = FeatureMaps(phase[batch:], gradient[batch:])
    colours = _chroma_similarity(fake, real) if chroma and channels == 3 else None
    return similarity(fake_maps, real_maps, colours)


def _chroma_similarity(fake: Tensor, real: Tensor) -> Tensor:
    """Re((S_I S_Q)^lambda), (B, h, w): opposite hues make the base negative, and its power complex."""
    weights = torch.tensor([YIQ_I, YIQ_Q]).to(fake)
    fake_i, fake_q = _shrink(torch.einsum("bchw,kc->bkhw", fake, weights)).unbind(dim=1)
    real_i, real_q = _shrink(torch.einsum("bchw,kc->bkhw", real, weights)).unbind(dim=1)
    base = _ratio(fake_i, real_i, T3) * _ratio(fake_q, real_q, T4)
    magnitude = base.abs().clamp(min=1e-12) ** CHROMA_POWER
    turn = torch.cos(torch.tensor(torch.pi * CHROMA_POWER)).item()
    return torch.where(base < 0, magnitude * turn, magnitude)


def _ratio(a: Tensor, b: Tensor, constant: float) -> Tensor:
    return (2 * a * b + constant) / (a * a + b * b + constant)


def _shrink(images: Tensor) -> Tensor:
    """Mean over FxF and every F-th pixel, F = max(1, round(min(H, W) / 256)): 1 at 200x250 and at 256x256."""
    factor = max(1, int(min(images.shape[-2:]) / 256 + 0.5))
    if factor == 1:
        return images
    after = factor // 2
    before = factor - 1 - after
    # zeros beyond the border, as conv2 has them; the far side is padded so that the last, partial step counts
    # too
    bottom, right = (after + (-size) % factor for size in images.shape[-2:])
    padded = F.pad(images, (before, right, before, bottom))
    height, width = (-(-size // factor) for size in images.shape[-2:])
    return F.avg_pool2d(padded, factor)[..., :height, :width]
