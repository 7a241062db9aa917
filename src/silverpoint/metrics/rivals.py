"""The trivial rivals of every method, and the ceiling: what a metric says of them says what it sees.

None of them has learnt anything. A number that a rival wins says nothing about a method that it ranks below.
"""

import numpy as np

from silverpoint.image import to_grey
from silverpoint.metrics.reference import Pictures, Reference

BLUR = 1.5  # sigma in pixels


def rivals(reference: Reference) -> tuple[dict[str, Pictures], dict[str, str]]:
    """The rivals that the reference allows, by name, and why the others are absent.

    `input`: the input scored as the result. `nearest`: the result belonging to the training input that is least
    far from the input, pixel by pixel, in grey: another person. `mean`: the mean of all training results, one
    for all. `blurred`: the real image itself under a Gaussian.
    """
    real, found, absent = reference.real, {}, {}
    if reference.inputs is None:
        absent["input"] = "the inputs (--photos) are not given"
    else:
        found["input"] = reference.like_real(reference.inputs)
    if reference.training is None:
        absent["nearest"] = absent["mean"] = "the training images (--train) are not given"
    elif len({np.shape(image)[:2] for side in (real, reference.training) for image in side}) > 1:
        absent["nearest"] = absent["mean"] = "the images are not of one size"
    else:
        found["mean"] = reference.like_real([mean_picture(reference.training)] * len(real))
        if reference.inputs is None or reference.training_inputs is None:
            absent["nearest"] = "the training inputs (--train-photos) or the inputs (--photos) are not given"
        else:
            nearest = nearest_inputs(reference.inputs, reference.training_inputs)
            found["nearest"] = reference.like_real([reference.training[i] for i in nearest])
    found["blurred"] = [blurred(image) for image in real]
    order = ("input", "nearest", "mean", "blurred")
    return {name: found[name] for name in order if name in found}, absent


def nearest_inputs(inputs: Pictures, training_inputs: Pictures) -> np.ndarray:
    """(n,): for every input the position of the training input at the least squared distance, in grey."""
    ours, theirs = (
        np.stack([to_grey(image).ravel() for image in side]).astype(np.float32)
        for side in (inputs, training_inputs)
    )
    distance = (theirs.astype(np.float64) ** 2).sum(axis=1) - 2 * (ours @ theirs.T).astype(np.float64)
    return distance.argmin(axis=1)


def mean_picture(training: Pictures) -> np.ndarray:
    """The mean of images of one size."""
    return np.mean([np.asarray(image, np.float64) for image in training], axis=0).round().astype(np.uint8)


def blurred(image: np.ndarray, sigma: float = BLUR) -> np.ndarray:
    """An image under a Gaussian of `sigma` pixels, (H, W) or (H, W, 3) uint8."""
    from scipy.ndimage import gaussian_filter

    sigmas = (sigma, sigma) + (0,) * (image.ndim - 2)
    return gaussian_filter(image.astype(np.float64), sigmas).round().astype(np.uint8)
