"""Kernel Inception distance (Binkowski et al. 2018): unbiased at any number of images, with an error bar."""

from typing import NamedTuple

import torch
from torch import Tensor


class KID(NamedTuple):
    value: float  # the unbiased squared MMD; slightly negative for equal distributions. Often printed x 1000
    error: float  # its standard error, by the jackknife


def kid(fake_features: Tensor, real_features: Tensor) -> KID:
    """Squared MMD of features (m, D) and (n, D), m, n >= 3, under k(x, y) = (x . y / D + 1)^3 (section 4).

    The value is the U-statistic over all pairs, which needs no subsets: KID's usual mean over random subsets
    estimates the same number with more noise. The error is the jackknife's: the spread over leaving each
    image out in turn.
    """
    m, n = len(fake_features), len(real_features)
    if min(m, n) < 3 or fake_features.shape[1:] != real_features.shape[1:]:
        raise ValueError(f"KID needs two feature sets (n >= 3, D), got {m} and {n} images")
    x, y = fake_features.double(), real_features.double()
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    rows_x = xx.sum(dim=1) - xx.diagonal()  # sum over j != i of k(x_i, x_j)
    rows_y = yy.sum(dim=1) - yy.diagonal()
    total_x, total_y, total_xy = rows_x.sum(), rows_y.sum(), xy.sum()
    mean_x, mean_y = total_x / (m * (m - 1)), total_y / (n * (n - 1))
    value = mean_x + mean_y - 2 * total_xy / (m * n)
    # the same statistic without x_i, for every i, and without y_j, for every j
    without_x = (total_x - 2 * rows_x) / ((m - 1) * (m - 2)) - 2 * (total_xy - xy.sum(dim=1)) / ((m - 1) * n)
    without_y = (total_y - 2 * rows_y) / ((n - 1) * (n - 2)) - 2 * (total_xy - xy.sum(dim=0)) / (m * (n - 1))
    variance = _jackknife_variance(without_x + mean_y) + _jackknife_variance(without_y + mean_x)
    return KID(value.item(), variance.sqrt().item())


def _jackknife_variance(left_out: Tensor) -> Tensor:
    count = len(left_out)
    return (count - 1) / count * (left_out - left_out.mean()).square().sum()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (torch.einsum("id,jd->ij", x, y) / x.shape[1] + 1) ** 3
