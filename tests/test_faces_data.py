"""The detector on the real sets, where they are at hand: the figures of docs/faces.md hold."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from silverpoint.faces.align import CUFS, CUFS_RELEASED, align
from silverpoint.faces.detect import detect
from silverpoint.image import read_image

DATA = Path(os.environ.get("SILVERPOINT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def rows(*path):
    file = DATA.joinpath(*path)
    if not file.is_file():
        pytest.skip(f"no {'/'.join(path)} (set SILVERPOINT_DATA to the folder that holds it)")
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def error(points, eyes):
    """Mean distance of the two eyes from where they should be, in percent of the eye distance."""
    eyes = np.asarray(eyes, float)
    return 100 * np.linalg.norm(points[:2] - eyes, axis=1).mean() / np.linalg.norm(eyes[0] - eyes[1])


def test_london_pupils():
    errors = []
    for row in rows("london", "pupils.csv")[::8]:
        eyes = [[float(row[f"{side}_{axis}"]) for axis in "xy"] for side in ("left", "right")]
        (face,) = detect(read_image(DATA / "london" / row["file"]))
        errors.append(error(face.points, eyes))
    assert np.mean(errors) < 4.5
    assert max(errors) < 12


@pytest.mark.parametrize(("kind", "most"), [("photo", 5.0), ("sketch", 5.5)])
def test_cufs_crops(kind, most):
    errors = []
    for row in rows("cufs", "pairs.csv")[::30]:
        image = read_image(DATA / "cufs" / row[kind])
        (face,) = detect(image)
        errors.append(error(face.points, CUFS_RELEASED.eyes()))
        aligned, matrix = align(image, face)
        assert aligned.shape == (CUFS.height, CUFS.width, 3)
        assert abs(np.sqrt(np.linalg.det(matrix[:, :2])) - 1) < 0.2  # these crops are aligned already
    assert np.mean(errors) < most


def test_every_fs2k_photo_has_a_face():
    photos = sorted((DATA / "fs2k" / "photos").glob("*/*"))
    if not photos:
        pytest.skip("no fs2k/photos (set SILVERPOINT_DATA to the folder that holds it)")
    missed = [photo.name for photo in photos[::40] if not detect(read_image(photo))]
    assert missed == []
