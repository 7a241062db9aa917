"""Faces brought into a frame by their eyes, and by the mouth too where a turned head brings the eyes together."""

import numpy as np

from silverpoint.data.points import Points
from silverpoint.faces.align import CUFS, Frame, apply, eye_transform, similarity, warp

FACE96 = Frame(96, 96, (31.5, 38.0), (63.5, 38.0))
"""The face alone, from the brows to the chin, at DA-GAN's size."""

FACE192 = Frame(192, 192, (63.5, 76.5), (127.5, 76.5))
"""The same, twice as large."""

FRAMES = {"cufs": CUFS, "face96": FACE96, "face192": FACE192}
# Below the middle of the eyes, in eye distances, as detected: 1.04 to 1.10 on CUFS, 1.08 on London, deviation 0.04.
MOUTH = 1.07
TURNED = 0.8  # of the frontal proportion of eye distance to mouth distance


def frame_transform(points: Points, frame: Frame) -> np.ndarray:
    """The transform, (2, 3), from the picture to `frame`: the eyes meet the frame's exactly.

    Of a head turned so far that its eyes are closer than TURNED of what their distance to the mouth lets expect, eyes
    and mouth are met in least squares, lest the face come out too large.
    """
    given = np.asarray(points, np.float64)
    if len(given) > 2:
        eyes = np.linalg.norm(given[1] - given[0])
        mouth = np.linalg.norm(given[2] - given[:2].mean(0))
        if eyes < TURNED * mouth / MOUTH:
            left, right = frame.eyes()
            below = (left + right) / 2 + MOUTH * np.array([left[1] - right[1], right[0] - left[0]])
            return similarity(given[:3], np.stack([left, right, below]))
    return eye_transform(given, frame)


def align_to(image: np.ndarray, points: Points, frame: Frame) -> tuple[np.ndarray, Points]:
    """A (H, W) or (H, W, 3) uint8 image in `frame`, its edge continued where it ends, and where the points are then.

    Raises FaceError when the frame would lie far outside the picture.
    """
    matrix = frame_transform(points, frame)
    moved = apply(matrix, points)
    return warp(image, matrix, frame.size()), tuple((float(x), float(y)) for x, y in moved)
