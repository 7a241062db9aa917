"""NLDA accuracy: the recognition protocol of this field's papers, null-space linear discriminant analysis.

Chen, Liao, Ko, Lin and Yu 2000, as the field's script (Nannan Wang, 2016) and KT (section 4.1) use it: a random
part of the identities, each with its real and its synthesised sketch, trains the projection; of the rest, real
sketches are looked up among the synthesised ones by the nearest neighbour.

Everything is a function of inner products of images, so one matrix of them serves all repeats, and pixels are
touched once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class NLDA(NamedTuple):
    accuracy: float  # the greatest value of `curve`
    dimensions: int  # where it is
    deviation: float  # over the repeats, there
    curve: np.ndarray  # (train - 1,): mean accuracy over the repeats, by reduced dimension
    mean_of_best: float  # each repeat's own best dimension, averaged: larger, and reported by some


def nlda(
    fake: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    *,
    train: int | None = None,
    repeats: int = 50,
    seed: int = 0,
) -> NLDA:
    """NLDA accuracy of n fakes (the gallery) and their n real counterparts (the probes), images of one size.

    `train` identities train the projection (default: half); the field takes 150 of CUFS's 338 and 300 of CUFSF's
    944. `repeats` random parts: 50 in KT, 20 in the field's script.
    """
    return nlda_of_gram(pixel_gram(fake, real), train=train, repeats=repeats, seed=seed)


def pixel_gram(fake: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> np.ndarray:
    """Inner products of all images, (2n, 2n) float64: the reals first, then the fakes."""
    rows = np.stack([np.asarray(image).ravel() for side in (real, fake) for image in side])
    gram = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], 8192):  # sums of products of 8-bit integers: exact
        part = rows[:, start : start + 8192].astype(np.float64)
        gram += part @ part.T
    return gram


def nlda_of_gram(gram: np.ndarray, *, train: int | None = None, repeats: int = 50, seed: int = 0) -> NLDA:
    """`nlda` from the inner products (2n, 2n) of the reals, then the fakes."""
    n = len(gram) // 2
    train = n // 2 if train is None else train
    if gram.shape != (2 * n, 2 * n) or not 2 <= train <= n - 2 or repeats < 1:
        raise ValueError(f"NLDA needs 2 identities to train and 2 to test on at least, got {train} of {n}")
    rng = np.random.default_rng(seed)
    curves = np.empty((repeats, train - 1))
    for repeat in range(repeats):
        order = rng.permutation(n)
        curves[repeat] = _accuracies(gram, order[:train], order[train:])
    curve = curves.mean(axis=0)
    best = int(curve.argmax())
    return NLDA(
        float(curve[best]), best + 1, float(curves[:, best].std()), curve, float(curves.max(axis=1).mean())
    )


def _accuracies(gram: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Rank-1 accuracy with the first 1 ... len(train) - 1 discriminant directions."""
    n, count = len(gram) // 2, len(train)
    rows = np.concatenate([train, train + n])
    own = gram[np.ix_(rows, rows)]
    eye = np.eye(count)
    within = np.hstack([eye, -eye])  # a class is two images: its scatter is along their difference
    means = np.hstack([eye - 1 / count, eye - 1 / count]) / 2
    # the class means, less what lies along any within-class difference: the null space of S_w
    onto = means @ own @ within.T @ np.linalg.pinv(within @ own @ within.T, rcond=1e-10, hermitian=True)
    null_means = means - onto @ within
    between = null_means @ own @ null_means.T
    values, vectors = np.linalg.eigh(between)
    values, vectors = values[::-1][: count - 1], vectors[:, ::-1][:, : count - 1]
    kept = values > 1e-10 * max(values[0], 1e-300)
    axes = (vectors[:, kept] / np.sqrt(values[kept])).T @ null_means  # in terms of the training images
    probes, gallery = (axes @ gram[np.ix_(rows, side)] for side in (test, test + n))
    distance = np.zeros((len(test), len(test)))
    found = np.zeros(count - 1)
    for dimension, (probe, other) in enumerate(zip(probes, gallery, strict=True)):
        distance += (probe[:, None] - other) ** 2
        mate = distance.diagonal().copy()
        np.fill_diagonal(distance, np.inf)
        found[dimension] = (mate < distance.min(axis=1)).mean()
        np.fill_diagonal(distance, mate)
    found[len(probes) :] = found[len(probes) - 1] if len(probes) else 0.0
    return found
