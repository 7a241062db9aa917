"""Peak signal-to-noise ratio."""

import math

from torch import Tensor

from silverpoint.metrics.images import check_pair


def psnr(fake: Tensor, real: Tensor) -> Tensor:
    """10 log10(255^2 / MSE) in dB, per image; infinite for equal images.

    fake, real: (B, C, H, W) in [0, 255]. Returns (B,). The error is averaged over all pixels and channels of
    an image; a set's PSNR is the mean of its images' decibels.
    """
    check_pair(fake, real)
    error = (fake - real).square().mean(dim=(1, 2, 3))
    return 20 * math.log10(255) - 10 * error.log10()
