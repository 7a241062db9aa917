"""Where the eyes and the mouth of a face are: read from files, or detected."""

from pathlib import Path

import numpy as np

from silverpoint.errors import DataError, FaceError

Points = tuple[
    tuple[float, float], ...
]  # the eye on the left, the other eye and, where known, the mouth's centre


def read_points(path: Path) -> Points:
    """A point file (CUFSF's .3pts): x and y on a line, both eyes first, then the mouth. DataError for anything else."""
    try:
        rows = [tuple(map(float, line.split())) for line in path.read_text().splitlines() if line.strip()]
        return ordered([(x, y) for x, y in rows])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a point file of two numbers a line ({error})") from error


def read_points_table(path: Path) -> dict[str, Points]:
    """A table of the columns file, left_x, left_y, right_x, right_y and, where known, mouth_x, mouth_y: points by file.

    Left is the eye on the left of the picture. DataError for another table.
    """
    from silverpoint.data.protocols.listing import read_table

    found = {}
    for row in read_table(path, ("file", "left_x", "left_y", "right_x", "right_y")):
        names = ("left", "right", "mouth") if row.get("mouth_x") else ("left", "right")
        try:
            found[row["file"]] = ordered([(float(row[f"{n}_x"]), float(row[f"{n}_y"])) for n in names])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: the points of {row['file']} are no numbers ({error})") from None
    return found


def ordered(points: list[tuple[float, float]]) -> Points:
    """Two eyes, the left one first, and the mouth where there is one; ValueError when they are none."""
    if len(points) < 2 or not np.isfinite(points).all():
        raise ValueError("two eyes are needed")
    first, second = sorted(points[:2])
    if np.hypot(second[0] - first[0], second[1] - first[1]) < 2:
        raise ValueError("the eyes fall together")
    return (first, second, *points[2:3])


def detect_points(image: np.ndarray) -> Points:
    """Eyes and mouth of the largest face in a (H, W, 3) uint8 image; FaceError when there is none."""
    from silverpoint.faces.detect import detect

    faces = detect(image, threads=1)
    if not faces:
        raise FaceError("no face found; give its points with --points, or leave it out with --skip-bad")
    found = faces[0].points.astype(float)
    mouth = found[3:5].mean(0)
    return tuple((float(x), float(y)) for x, y in (found[0], found[1], mouth))
