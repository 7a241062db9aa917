"""Bring a face into a standard frame and find the way back.

A transform is a (2, 3) float64 matrix that takes a point (x, y) of one image to its place in the other.
Coordinates are of pixel centres: (0, 0) is the centre of the top left pixel, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from silverpoint.errors import FaceError, UsageError

if TYPE_CHECKING:  # detect itself levels faces with warp
    from silverpoint.faces.detect import Face

Fill = Literal["edge", "white"] | tuple[int, int, int]


@dataclass(frozen=True)
class Frame:
    """An image size and where the eye centres are in it, the one on the left first."""

    width: int
    height: int
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]

    def eyes(self, scale: float = 1.0) -> np.ndarray:
        """(2, 2) float64: the eye centres in this frame drawn `scale` times as large."""
        return (np.array([self.left_eye, self.right_eye]) + 0.5) * scale - 0.5

    def size(self, scale: float = 1.0) -> tuple[int, int]:
        """Width and height of this frame drawn `scale` times as large."""
        return round(self.width * scale), round(self.height * scale)


CUFS = Frame(200, 250, (75.0, 125.0), (125.0, 125.0))
"""The CUHK face sketch database as it is described, and what we align to."""

CUFS_RELEASED = Frame(200, 250, (74.0, 125.0), (125.0, 125.0))
"""Where the eyes of the released crops are when measured."""


def similarity(source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """The rotation, scale and shift, (2, 3), that takes `source` (N, 2) closest to `target` in least squares.

    N >= 2; two points are met exactly. With points as complex numbers a similarity without reflection is z ->
    m z + t, and the least-squares m is <z, w> / <z, z> of the centred points (Umeyama 1991 in the plane).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise UsageError(f"two or more pairs of points are needed, not {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise FaceError("the points of a face are not finite numbers")
    z, w = source @ (1, 1j), target @ (1, 1j)
    z0, w0 = z.mean(), w.mean()
    spread = np.vdot(z - z0, z - z0).real
    if spread < 1e-12:
        raise FaceError("the points of a face fall together: no scale can be told from them")
    m = np.vdot(z - z0, w - w0) / spread
    if abs(m) < 1e-12:
        raise FaceError("the points of the frame fall together")
    t = w0 - m * z0
    return np.array([[m.real, -m.imag, t.real], [m.imag, m.real, t.imag]])


def eye_transform(face: Face | ArrayLike, frame: Frame = CUFS, scale: float = 1.0) -> np.ndarray:
    """The transform, (2, 3), from the image to `frame` drawn `scale` times as large, from the two eyes alone.

    `face` is a Face, or points (2 or more, 2) that begin with the eye centres, the one on the left first.
    """
    points: np.ndarray = np.asarray(getattr(face, "points", face))
    return similarity(points[:2], frame.eyes(scale))


def apply(matrix: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Points (..., 2) moved by a transform; float64."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """The transform back, (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def align(
    image: np.ndarray,
    face: Face | ArrayLike,
    frame: Frame = CUFS,
    scale: float = 1.0,
    fill: Fill = "edge",
) -> tuple[np.ndarray, np.ndarray]:
    """The face in the frame, (250, 200, 3) uint8 for CUFS at scale 1, and the transform from `image` to
    it."""
    matrix = eye_transform(face, frame, scale)
    return warp(image, matrix, frame.size(scale), fill), matrix


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], fill: Fill = "edge") -> np.ndarray:
    """`image` (H, W) or (H, W, 3) uint8 moved by `matrix` into a new image of `size` (width, height).

    Bicubic, and free of aliasing when it shrinks. What lies outside `image` takes its nearest edge pixel, or
    white, or a colour.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or min(image.shape[:2]) < 1:
        raise UsageError(f"a (H, W) or (H, W, 3) uint8 image is needed, not {image.shape} {image.dtype}")
    back = invert(matrix)
    step = float(np.sqrt(abs(np.linalg.det(back[:, :2]))))  # source pixels per pixel of the result
    # When it shrinks, the result is drawn twice as large from a source shrunk to match, then halved: Pillow's
    # resize is free of aliasing but cannot rotate, its transform is the other way round.
    over = 2 if step > 1.0 else 1
    width, height = size[0] * over, size[1] * over
    shrink = max(1.0, step / over)

    # From here on coordinates are of pixel corners, as Pillow counts: (0.5, 0.5) is the first pixel's centre.
    linear = back[:, :2] / over
    shift = back[:, 2] + 0.5 - back[:, :2] @ (0.5, 0.5)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ linear.T + shift
    low, high = corners.min(axis=0), corners.max(axis=0)
    limit = np.array([image.shape[1], image.shape[0]])
    reach = 4 * shrink + 2  # what the resampling filters look at beyond the border
    start = np.clip(np.floor(low - reach), 0, limit - 1).astype(int)
    stop = np.clip(np.ceil(high + reach), start + 1, limit).astype(int)
    part = image[start[1] : stop[1], start[0] : stop[0]]
    extent = stop - start

    if shrink > 1:
        reduced = np.maximum(1, np.ceil(extent / shrink)).astype(int)
        resized = Image.fromarray(np.ascontiguousarray(part)).resize(
            (int(reduced[0]), int(reduced[1])), Image.Resampling.LANCZOS, reducing_gap=3.0
        )
        part = np.asarray(resized)
    else:
        reduced = extent
    factor = reduced / extent
    linear, shift = linear * factor[:, None], (shift - start) * factor
    low, high = (low - start) * factor, (high - start) * factor

    before = np.ceil(np.maximum(0, 3 - low)).astype(int)
    after = np.ceil(np.maximum(0, high + 3 - reduced)).astype(int)
    if max(before.max(), after.max()) > 8 * (width + height) + 64:
        raise FaceError("the face's frame lies far outside the picture")
    border: list[tuple[int, int]] = [(before[1], after[1]), (before[0], after[0])]
    part = _pad(part, border, fill)
    shift = shift + before
    coefficients = (*linear[0], shift[0], *linear[1], shift[1])
    drawn = Image.fromarray(part).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    if over > 1:
        drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    return np.array(drawn)


def _pad(image: np.ndarray, border: list[tuple[int, int]], fill: Fill) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 with `border` more rows and columns before and after."""
    if fill == "edge":
        return np.pad(image, border + [(0, 0)] * (image.ndim - 2), mode="edge")
    colour = np.array((255, 255, 255) if fill == "white" else fill, np.uint8)
    height, width = (image.shape[axis] + sum(border[axis]) for axis in (0, 1))
    padded = np.empty((height, width, *image.shape[2:]), np.uint8)
    padded[...] = colour if image.ndim == 3 else colour.mean().round()
    padded[border[0][0] : height - border[0][1], border[1][0] : width - border[1][1]] = image
    return padded
