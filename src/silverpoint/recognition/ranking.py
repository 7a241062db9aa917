"""Identification: whether a probe's mate is among the first k of a gallery."""

import numpy as np
from numpy.typing import ArrayLike

TIE = 1e-6  # single precision knows a cosine no better


def similarities(probes: ArrayLike, gallery: ArrayLike) -> np.ndarray:
    """Cosines of embeddings (m, D) and (n, D), rows of any length: (m, n). A row of zeros is like nothing."""
    return _unit(probes) @ _unit(gallery).T


def ranks(scores: ArrayLike, mates: ArrayLike | None = None) -> np.ndarray:
    """The rank of every probe's mate, (m,) from 1: how many of the gallery score at least as high as it.

    scores (m, n) of probes against the gallery, higher is more alike; mates (m,) says which column is whose
    mate, by default the i-th column the i-th probe's. A tie counts against the method, so that a gallery of
    one picture repeated finds nobody.
    """
    scores = np.asarray(scores, np.float64)
    columns = np.arange(len(scores)) if mates is None else np.asarray(mates)
    if scores.ndim != 2 or columns.shape != scores.shape[:1] or scores.shape[1] <= columns.max(initial=-1):
        raise ValueError(f"scores {scores.shape} do not hold a mate for each of {columns.shape} probes")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    own = scores[np.arange(len(scores)), columns]
    return (scores >= own[:, None] - TIE).sum(axis=1)


def rank_rate(found: np.ndarray, k: int = 1) -> float:
    """Rank-k identification rate: the share of probes whose mate is among the first k."""
    return float((found <= k).mean())


def cmc(found: np.ndarray, length: int) -> np.ndarray:
    """The cumulative match characteristic: rank-k rates for k = 1 ... length."""
    return (found[:, None] <= np.arange(1, length + 1)).mean(axis=0)


def _unit(embeddings: ArrayLike) -> np.ndarray:
    rows = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
