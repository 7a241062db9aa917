"""Where the eyes and the mouth of a face are: read from files, or detected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from silverpoint.errors import DataError, FaceError

if TYPE_CHECKING:
    from silverpoint.data.protocols.listing import Pair

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


Marks = dict[
    tuple[str, str], dict[Path, Points]
]  # by photo or sketch and file name without suffix; then by folder


def read_marks(where: Path) -> Marks:
    """The points of a table, or of the point files below a folder; a sketch's lie in a folder whose name says so.

    Raises DataError when there are none, or a file is damaged.
    """
    found: Marks = defaultdict(dict)
    if where.is_file():
        named = {Path(name): points for name, points in read_points_table(where).items()}
    else:
        named = {
            path.relative_to(where): read_points(path)
            for path in sorted(where.rglob("*pts"))
            if path.is_file()
        }
    if not named:
        raise DataError(f"{where}: neither a table of points nor a folder of point files")
    for path, points in named.items():
        kind = "sketch" if "sketch" in str(path.parent).lower() else "photo"
        found[kind, path.stem][path.parent] = points
    return found


def points_of(marks: Marks, kind: str, image: Path) -> Points | None:
    """The points of a photo or sketch; of several of its name those in a folder of its folder's name.

    Raises DataError where the names leave open which are meant.
    """
    found = marks.get((kind, image.stem), {})
    if len(found) < 2:
        return next(iter(found.values()), None)
    own = image.parent.parts
    near = [folder for folder in found if own[len(own) - len(folder.parts) :] == folder.parts]
    if not near:
        raise DataError(
            f"{image}: {len(found)} point files have its name; give theirs the names of the pictures' folders"
        )
    return found[max(near, key=lambda folder: len(folder.parts))]


def with_points(pairs: Iterable[Pair], where: Path) -> list[Pair]:
    """The pairs with the points that a table or a folder of point files has for them, and else their own.

    Raises DataError when it has none for any of them.
    """
    marks, found, known = read_marks(where), [], 0
    for pair in pairs:
        photo = points_of(marks, "photo", pair.photo) if pair.photo else None
        sketch = points_of(marks, "sketch", pair.sketch) if pair.sketch else None
        if pair.photo is None and pair.sketch:  # whatever their folder is called
            sketch = sketch or points_of(marks, "photo", pair.sketch)
        known += bool(photo or sketch)
        photo, sketch = photo or pair.photo_points, sketch or pair.sketch_points
        found.append(replace(pair, photo_points=photo, sketch_points=sketch))
    if not known:
        raise DataError(f"{where}: has points of none of the pictures; they are found by the pictures' names")
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
