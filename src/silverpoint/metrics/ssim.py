"""Structural similarity (Wang et al. 2004) and its multi-scale form (Wang, Simoncelli and Bovik 2003)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.metrics.images import check_pair

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, section 3.2


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Mean SSIM index per image: fake, real (B, C, H, W) in [0, 255] -> (B,) in [-1, 1].

    11x11 Gaussian window, sigma 1.5, population covariance, K = (0.01, 0.03), L = 255, averaged over the
    positions where the window lies inside the image, and over channels. This is ssim.m, and scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)`.
    """
    check_pair(fake, real)
    luminance, contrast_structure = _ssim_maps(fake, real)
    return (luminance * contrast_structure).mean(dim=(1, 2, 3))


def ms_ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Multi-scale SSIM per image: fake, real (B, C, H, W) in [0, 255], both sides over 160 -> (B,) in [0, 1].

    Contrast-structure means of five scales and the luminance mean of the coarsest, raised to the published
    weights and multiplied (Eq. 7). Between scales: 2x2 mean, every second sample, an odd edge repeated, as
    msssim.m does. A negative contrast-structure mean, whose power is not real, counts as 0.
    """
    check_pair(fake, real)
    channels, height, width = fake.shape[1:]
    smallest = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(height, width) <= smallest:
        raise ValueError(f"MS-SSIM needs sides over {smallest} pixels for five scales, got {width}x{height}")
    product = torch.ones(fake.shape[0], channels, dtype=fake.dtype, device=fake.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, index = _ssim_maps(fake, real)
        if scale == len(SCALE_WEIGHTS) - 1:
            index = luminance * index
        product = product * _power_of_positive(index.mean(dim=(2, 3)), weight)
        fake, real = _halve(fake), _halve(real)
    return product.mean(dim=1)


def _ssim_maps(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps (B, C, H - 10, W - 10); SSIM is their product (2004, Eq. 13)."""
    # Moments about each image's mean: in float32, E[x^2] - E[x]^2 of white paper would lose the variance.
    shift_x, shift_y = (image.detach().mean(dim=(2, 3), keepdim=True) for image in (fake, real))
    x, y = fake - shift_x, real - shift_y
    batch = fake.shape[0]
    moments = _gaussian_filter(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.split(batch)
    variances = mean_xx - mean_x.square() + mean_yy - mean_y.square()
    covariance = mean_xy - mean_x * mean_y
    mu_x, mu_y = mean_x + shift_x, mean_y + shift_y
    luminance = (2 * mu_x * mu_y + C1) / (mu_x.square() + mu_y.square() + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _gaussian_filter(images: Tensor) -> Tensor:
    """11x11 Gaussian over the positions inside the image: (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    height, width = images.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels, got {width}x{height}")
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).to(images)
    # depthwise, every image a channel: 3 to 20 times as fast as a batch of one channel each
    flat = images.reshape(1, -1, height, width)
    count = flat.shape[1]
    column = kernel.view(1, 1, -1, 1).expand(count, 1, -1, 1)
    filtered = F.conv2d(F.conv2d(flat, column, groups=count), column.transpose(2, 3), groups=count)
    return filtered.view(*images.shape[:2], *filtered.shape[-2:])


def _halve(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return F.avg_pool2d(F.pad(images, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _power_of_positive(base: Tensor, exponent: float) -> Tensor:
    """base^exponent where base > 0, else 0, with a finite gradient at 0."""
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1.0) ** exponent, 0.0)
