"""Lay an aligned drawing back into the picture its face came from."""

from __future__ import annotations

import numpy as np

from silverpoint.errors import UsageError
from silverpoint.faces.align import apply, invert, warp


def paste(picture: np.ndarray, drawing: np.ndarray, matrix: np.ndarray, feather: float = 16.0) -> np.ndarray:
    """`picture` (H, W, 3) uint8 with `drawing`, (h, w) or (h, w, 3) uint8, laid where its frame came from.

    `matrix` takes the picture to the drawing's frame, as `align` returns it. The drawing fades out over its
    last `feather` pixels (of the frame; 0: a hard edge). Returns a new array.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"a (H, W, 3) uint8 picture is needed, not {picture.shape} {picture.dtype}")
    height, width = drawing.shape[:2]
    back = invert(matrix)
    corners = apply(
        back, [(-0.5, -0.5), (width - 0.5, -0.5), (-0.5, height - 0.5), (width - 0.5, height - 0.5)]
    )
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, picture.shape[1::-1]).astype(int)
    result = picture.copy()
    if (high <= low).any():
        return result
    here = back - np.column_stack([np.zeros((2, 2)), low])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    opacity = warp(_fade(height, width, feather), here, size, (0, 0, 0))[:, :, None] / np.float32(255)
    moved = warp(drawing, here, size, "edge")
    moved = moved[:, :, None] if moved.ndim == 2 else moved
    region = result[low[1] : high[1], low[0] : high[0]]
    region[...] = np.rint(region + opacity * (moved - region.astype(np.float32))).astype(np.uint8)
    return result


def _fade(height: int, width: int, feather: float) -> np.ndarray:
    """(height, width) uint8: 255 inside, falling smoothly to 0 over the last `feather` pixels."""

    def ramp(length: int) -> np.ndarray:
        distance = np.minimum(np.arange(length) + 0.5, length - 0.5 - np.arange(length))
        t = np.clip(distance / max(feather, 1e-6), 0, 1)
        return t * t * (3 - 2 * t)

    return np.rint(255 * np.outer(ramp(height), ramp(width))).astype(np.uint8)
