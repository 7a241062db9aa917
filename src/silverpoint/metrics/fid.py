"""Frechet Inception distance (Heusel et al. 2017), in a form that is exact for fewer images than features."""

from typing import NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """A set's mean mu (D,), a factor A (r, D) of its covariance Sigma = A^T A, and its size n; float64."""

    mean: Tensor
    factor: Tensor
    n: int


def features_to_statistics(features: Tensor) -> Statistics:
    """features (n, D), n >= 2 -> Statistics, with the sample covariance (n - 1), as numpy.cov.

    With n <= D the factor is the centred features themselves; with more, the R of their QR decomposition, so
    that it never has more than D rows.
    """
    if features.ndim != 2 or features.shape[0] < 2:
        raise ValueError(f"FID needs the features of at least 2 images, (n, D), got {tuple(features.shape)}")
    n, dimensions = features.shape
    features = features.double()
    mean = features.mean(dim=0)
    factor = (features - mean) / (n - 1) ** 0.5
    if n > dimensions:
        factor = torch.linalg.qr(factor, mode="r").R
    return Statistics(mean, factor, n)


def statistics_to_fid(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr Sigma_a + tr Sigma_b - 2 tr (Sigma_a Sigma_b)^(1/2) (Heusel 2017, Eq. 6).

    With Sigma = A^T A the last trace is the nuclear norm of A B^T, an n_a x n_b matrix. The usual square root
    of the 2048 x 2048 product is of deficient rank below 2049 images: it needs a fudge on the diagonal and
    gives complex numbers.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of different networks: {a.mean.numel()} and {b.mean.numel()} dimensions")
    mean_term = (a.mean - b.mean).square().sum()
    root_trace = torch.linalg.svdvals(a.factor @ b.factor.T).sum()
    distance = mean_term + a.factor.square().sum() + b.factor.square().sum() - 2 * root_trace
    return max(distance.item(), 0.0)  # equal sets come out within rounding of 0, on either side


def fid(fake_features: Tensor, real_features: Tensor) -> float:
    """FID of two feature sets (n, D) and (m, D). Biased upward when n is small: quote it with n."""
    return statistics_to_fid(features_to_statistics(fake_features), features_to_statistics(real_features))
