"""Sketches simulated from photographs, for training without drawn ones; pure functions of pixels and settings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Sobel:
    """Edges on white paper (DA-GAN, section 3.2: "Sobel edges and contrast enhancement"; the numbers are ours)."""

    tone: float = 0.5  # exponent of the grey values: below 1, dark skin has edges too
    blur: float = 1.0  # standard deviation in pixels, before the edges are taken
    low: float = 0.02  # gradients up to this, of a full-range step, leave the paper white
    high: float = 0.35  # gradients from this on are black
    gamma: float = 0.7  # below 1 darkens the faint lines


@dataclass(frozen=True)
class Pencil:
    """Colour dodge: the photo divided by its own blurred self, which leaves lines and soft shading."""

    blur: float = 7.0
    strength: float = 1.0  # exponent of the result
    shade: float = 0.15  # part of the photo's own tone that stays


@dataclass(frozen=True)
class XDoG:
    """Extended difference of Gaussians with a soft threshold (Winnemoller, Kyprianidis & Olsen 2012, section 2)."""

    sigma: float = 0.9  # of the narrow Gaussian, in pixels
    k: float = 1.6  # the wide one, in narrow ones
    tau: float = 0.98  # how much of the wide one is taken away; what is flat keeps 1 - tau of its tone
    epsilon: float = 0.0  # where ink begins
    phi: float = 30.0  # how sharply


def sobel(photo: np.ndarray, settings: Sobel = Sobel()) -> np.ndarray:
    """(..., H, W, 3) uint8 -> (..., H, W) uint8: dark edges on white; faces may be stacked in front."""
    grey = _blur(_grey(photo) ** settings.tone, settings.blur)
    edges = np.hypot(_slope(grey, -1), _slope(grey, -2)) / 4  # a step of full range has a slope of 4
    stretched = np.clip((edges - settings.low) / (settings.high - settings.low), 0, 1)
    return _byte(1 - stretched**settings.gamma)


def pencil(photo: np.ndarray, settings: Pencil = Pencil()) -> np.ndarray:
    """(..., H, W, 3) uint8 -> (..., H, W) uint8: pencil lines and shading."""
    grey = _grey(photo)
    dodged = np.minimum(grey / np.maximum(_blur(grey, settings.blur), 1 / 255), 1) ** settings.strength
    return _byte(dodged * (1 - settings.shade * (1 - grey)))


def xdog(photo: np.ndarray, settings: XDoG = XDoG()) -> np.ndarray:
    """(..., H, W, 3) uint8 -> (..., H, W) uint8: ink, black where the difference of Gaussians falls below epsilon."""
    grey = _grey(photo)
    narrow, wide = (_blur(grey, sigma) for sigma in (settings.sigma, settings.k * settings.sigma))
    difference = narrow - settings.tau * wide
    soft = 1 + np.tanh(settings.phi * (difference - settings.epsilon))
    return _byte(np.where(difference >= settings.epsilon, 1.0, soft))


SIMULATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sobel": sobel, "pencil": pencil, "xdog": xdog}
VERSION = 1  # to be raised when a simulation or its defaults change: prepared sketches are then made anew


def _grey(photo: np.ndarray) -> np.ndarray:
    """(..., H, W, 3) uint8 -> (..., H, W) in [0, 1] by the luma weights of ITU-R BT.601."""
    return photo @ np.array([0.299, 0.587, 0.114]) / 255


def _blur(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Each picture of a stack by itself: nothing is blurred across the axes in front."""
    return ndimage.gaussian_filter(grey, (0,) * (grey.ndim - 2) + (sigma, sigma), mode="nearest")


def _slope(grey: np.ndarray, axis: int) -> np.ndarray:
    """Sobel's kernel along one of the picture's two axes: a difference there, 1 2 1 across."""
    step = ndimage.correlate1d(grey, [-1, 0, 1], axis, mode="nearest")
    return ndimage.correlate1d(step, [1, 2, 1], -3 - axis, mode="nearest")


def _byte(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
