"""Sketches scanned from paper: tinted sheets, uneven light, smudges and scanner corners, made clean."""

import numpy as np
from PIL import Image, ImageFilter

WHITE = 253  # the level of clean paper, that of the CUHK scans


def flatten_paper(sketch: np.ndarray) -> np.ndarray:
    """Divide a grey sketch (H, W) uint8 by the brightness of its sheet, so that bare paper becomes WHITE.

    The sheet is a quadratic surface fitted to the bright pixels: it follows the light across a scan, and no shading.
    """
    coarse = sketch[::3, ::3].astype(np.float64).ravel()  # a surface this smooth needs no more
    terms = _quadratic(sketch.shape)
    coarse_terms = terms[::3, ::3].reshape(-1, 6)
    bright = coarse >= np.percentile(coarse, 50)
    for _ in range(4):
        coefficients = np.linalg.lstsq(coarse_terms[bright], coarse[bright], rcond=None)[0]
        # Pencil only darkens: keep what lies near or above the sheet fitted so far.
        bright = coarse >= coarse_terms @ coefficients - 6
    sheet = np.clip(terms @ coefficients, 96, 255)
    return np.clip(sketch / sheet * WHITE + 0.5, 0, 255).astype(np.uint8)


def press(sketch: np.ndarray, power: float) -> np.ndarray:
    """A sketch (H, W) uint8 in a firmer hand, with a power below 1, or in a lighter one, above.

    Its ink, 1 - grey / WHITE, is raised to `power`; bare paper and black stay as they are.
    """
    ink = np.clip(1 - np.arange(256) / WHITE, 0, 1)
    pressed = np.where(ink > 0, WHITE * (1 - ink**power), np.arange(256))
    return (pressed + 0.5).astype(np.uint8)[sketch]


def _quadratic(shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, 6): the terms 1, x, y, xy, x^2, y^2 over a picture, x and y in [-1, 1]."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


def clear_background(sketch: np.ndarray, person: np.ndarray, margin: int = 15) -> np.ndarray:
    """Bare paper wherever the photo shows no person, `margin` pixels around them apart; both (H, W) uint8."""
    near = Image.fromarray(person).point(lambda v: 255 if v > 40 else 0)
    # a box blur above zero is a dilation by the box, at a cost that does not grow with it
    near = near.filter(ImageFilter.BoxBlur(margin)).point(lambda v: 255 if v > 0 else 0)
    near = near.filter(ImageFilter.GaussianBlur(margin / 3))
    keep = np.asarray(near, dtype=np.float32) / 255
    return (sketch * keep + WHITE * (1 - keep) + 0.5).astype(np.uint8)
