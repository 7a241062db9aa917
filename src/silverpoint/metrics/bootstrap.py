"""Intervals of a mean over images, and of the difference of two means over the same images."""

from typing import NamedTuple

import numpy as np

DRAWS, LEVEL = 4000, 0.95


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0) -> Interval:
    """The mean of values (n,) and its percentile bootstrap interval: images drawn again with replacement.

    The same seed and n draw the same images, so that two methods' intervals are paired; the difference's is
    `mean_interval(ours - theirs)`.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"an interval needs a value per image, not {values.shape}")
    n = len(values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.quantile(counts @ values / n, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))
