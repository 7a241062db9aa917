"""Verification: how many true pairs pass a threshold that lets hardly any false pair through."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Verification(NamedTuple):
    rate: float  # share of genuine pairs above the threshold
    threshold: float
    false_accepts: float  # share of impostor pairs above it: at most what was asked for
    impostors: int


def verification_rate(
    genuine: ArrayLike, impostors: ArrayLike, false_accept_rate: float = 1e-3
) -> Verification:
    """The verification rate at a false accept rate: scores of genuine (n,) and impostor (m,) pairs.

    The threshold is the lowest impostor score that no more than m x false_accept_rate impostors exceed; a pair
    is accepted above it. Raises ValueError when m x false_accept_rate is below 1: of so few impostors no such
    rate can be told.
    """
    true, false = np.asarray(genuine, np.float64).ravel(), np.asarray(impostors, np.float64).ravel()
    if not 0 < false_accept_rate < 1:
        raise ValueError(f"a false accept rate lies between 0 and 1, not {false_accept_rate}")
    allowed = int(len(false) * false_accept_rate * (1 + 1e-12))  # 1000 x 0.001 is a little below 1
    if allowed < 1 or not len(true):
        raise ValueError(
            f"a false accept rate of {false_accept_rate:g} needs at least {round(1 / false_accept_rate)} "
            f"impostor pairs, there are {len(false)}"
        )
    threshold = float(np.sort(false)[-1 - allowed])
    return Verification(
        float((true > threshold).mean()), threshold, float((false > threshold).mean()), len(false)
    )
