"""The detector on a real face, as people photograph it: small, large, tilted, cut, two at once."""

import hashlib
import importlib.resources
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from silverpoint.errors import UsageError
from silverpoint.faces import detect as module
from silverpoint.faces.align import CUFS, align
from silverpoint.faces.detect import Face, detect
from silverpoint.image import read_image


@pytest.fixture(scope="module")
def photo(portrait):
    return read_image(portrait)


@pytest.fixture(scope="module")
def face(photo):
    (found,) = detect(photo)
    return found


def eye_error(found, expected):
    """Mean distance of the two eyes from where they should be, in eye distances."""
    return np.linalg.norm(found.points[:2] - expected, axis=1).mean() / np.linalg.norm(
        expected[0] - expected[1]
    )


def test_the_portrait(photo, face):
    assert isinstance(face, Face)
    assert face.score > 0.9
    x, y, width, height = face.box
    assert 0 < x < x + width < photo.shape[1]
    assert 0 < y < y + height < photo.shape[0]
    assert face.points.shape == (5, 2)
    assert face.points.dtype == np.float32
    left, right, nose, mouth_left, mouth_right = face.points
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < nose[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    inside = (face.points > (x, y)) & (face.points < (x + width, y + height))
    assert inside.all()


def test_mirrored(photo, face):
    (found,) = detect(photo[:, ::-1])
    expected = (photo.shape[1] - 1, 0) + face.points[[1, 0]] * (-1, 1)
    assert eye_error(found, expected) < 0.03


@pytest.mark.parametrize("width", [1600, 400, 250, 120, 60])
def test_sizes(photo, face, width):
    scaled = Image.fromarray(photo).resize((width, width), Image.Resampling.LANCZOS)
    (found,) = detect(np.asarray(scaled))
    expected = (face.points[:2] + 0.5) * width / photo.shape[1] - 0.5
    assert eye_error(found, expected) < (0.05 if width > 100 else 0.1)


@pytest.mark.parametrize("angle", [-90, -60, -30, -15, 15, 30, 45, 60, 90, 135, 180])
def test_tilted_and_lying(photo, face, angle):
    turned = Image.fromarray(photo).rotate(-angle, Image.Resampling.BICUBIC, fillcolor=(220, 220, 220))
    found = detect(np.asarray(turned))
    radians = np.radians(angle)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    middle = (np.array(photo.shape[1::-1]) - 1) / 2
    expected = (face.points[:2] - middle) @ turn.T + middle
    assert len(found) == 1
    assert eye_error(found[0], expected) < 0.06


@pytest.mark.parametrize("sides", [2.6, 2.0, 1.6])
def test_face_that_fills_the_frame(photo, face, sides):
    distance = np.linalg.norm(face.points[0] - face.points[1])
    centre = face.points.mean(0)
    left, top = (centre - sides * distance / 2).astype(int)
    right, bottom = (centre + sides * distance / 2).astype(int)
    (found,) = detect(photo[top:bottom, left:right])
    assert eye_error(found, face.points[:2] - (left, top)) < 0.12


def test_half_a_face(photo, face):
    found = detect(photo[:, : int(face.points[2, 0]) + 5])
    assert len(found) == 1


def test_two_faces_the_larger_first(photo, face):
    scene = np.full((700, 1100, 3), 180, np.uint8)
    small = np.asarray(Image.fromarray(photo).resize((300, 300), Image.Resampling.LANCZOS))
    scene[200:500, 30:330] = small
    scene[20:695, 400:1075] = photo
    first, second = detect(scene)
    assert eye_error(first, face.points[:2] + np.array((400, 20))) < 0.03
    assert eye_error(second, (face.points[:2] + 0.5) * 300 / 675 - 0.5 + (30, 200)) < 0.05
    assert first.box[2] * first.box[3] > second.box[2] * second.box[3]


def test_only_the_faces_asked_for_are_looked_at_again(photo, monkeypatch):
    tile = np.asarray(Image.fromarray(photo).resize((200, 200), Image.Resampling.LANCZOS))
    picture = np.tile(tile, (1, 2, 1))
    both, runs = detect(picture), []
    run = module._run
    monkeypatch.setattr(module, "_run", lambda *of: runs.append(1) or run(*of))
    counts = []
    for count in (None, 1, 0):
        runs.clear()
        found = detect(picture, second_looks=count)
        counts.append(len(runs))
        same = [np.array_equal(a.points, b.points) for a, b in zip(found, both, strict=True)]
        assert same == [True, True][:count] + [False] * (0 if count is None else 2 - count)
        assert [face.box for face in found] == [face.box for face in both]
    assert counts[0] > counts[1] > counts[2] == 1


def test_crowd(photo):
    tile = np.asarray(Image.fromarray(photo).resize((150, 150), Image.Resampling.LANCZOS))
    found = detect(np.tile(tile, (4, 5, 1)))
    assert len(found) == 20
    sizes = [face.box[2] * face.box[3] for face in found]
    assert sizes == sorted(sizes, reverse=True)


def test_small_face_in_a_large_picture(photo, face):
    scene = np.full((2400, 3200, 3), (90, 110, 130), np.uint8)
    scene[300:420, 2500:2620] = np.asarray(
        Image.fromarray(photo).resize((120, 120), Image.Resampling.LANCZOS)
    )
    (found,) = detect(scene)
    assert eye_error(found, (face.points[:2] + 0.5) * 120 / 675 - 0.5 + (2500, 300)) < 0.1


@pytest.mark.parametrize("change", ["grey", "dark", "bright", "noise"])
def test_poor_light(photo, face, change):
    changed = {
        "grey": np.repeat(photo.mean(2, keepdims=True), 3, 2),
        "dark": photo / 5,
        "bright": photo / 2 + 127,
        "noise": np.clip(photo + np.random.default_rng(0).normal(0, 15, photo.shape), 0, 255),
    }[change].astype(np.uint8)
    (found,) = detect(changed)
    assert eye_error(found, face.points[:2]) < 0.06


def nothing():
    rng = np.random.default_rng(0)
    return {
        "noise": rng.integers(0, 256, (300, 400, 3), np.uint8),
        "white": np.full((400, 300, 3), 255, np.uint8),
        "one pixel": np.zeros((1, 1, 3), np.uint8),
        "a line": np.zeros((1, 5000, 3), np.uint8),
        "a strip": rng.integers(0, 256, (17, 3000, 3), np.uint8),
        "large": np.zeros((2000, 3000, 3), np.uint8),
    }


@pytest.mark.parametrize("what", nothing())
def test_no_face(what):
    assert detect(nothing()[what]) == []


@pytest.mark.parametrize(
    "array", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))]
)
def test_not_an_image(array):
    with pytest.raises(UsageError):
        detect(array)


def test_min_score(photo, face):
    assert detect(photo, min_score=0.99) == []
    assert len(detect(photo, min_score=0.5)) == 1


def test_the_image_is_left_alone(photo):
    frozen = photo.copy()
    frozen.flags.writeable = False
    detect(frozen)
    assert np.array_equal(frozen, photo)


def test_threads_find_the_same(photo):
    photos = [photo, photo[:, ::-1].copy(), photo[50:, 30:].copy(), photo[:600].copy()]
    alone = [detect(image, threads=1)[0].points for image in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: detect(image, threads=1)[0].points, photos * 3))
    for i, points in enumerate(together):
        assert np.array_equal(points, alone[i % 4])


def test_session_is_loaded_once(monkeypatch):
    monkeypatch.setattr(module, "_sessions", {})
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(module._session(1))) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len({id(session) for session in seen}) == 1


def test_the_network_is_the_one_described():
    folder = importlib.resources.files("silverpoint.faces")
    digest = hashlib.sha256(folder.joinpath("yunet.onnx").read_bytes()).hexdigest()
    assert digest in folder.joinpath("yunet.LICENSE.md").read_text()


def test_decode_against_the_formula():
    """One cell, by hand: column 3, row 2 of a level of stride 8 and 5 columns."""
    cells, columns, stride, at = 20, 5, 8, 13
    classes = np.zeros((cells, 1), np.float32)
    objects = np.ones((cells, 1), np.float32)
    boxes = np.zeros((cells, 4), np.float32)
    points = np.zeros((cells, 10), np.float32)
    classes[at] = 0.81
    boxes[at] = (0.5, -0.25, np.log(4), np.log(6))
    points[at] = np.arange(10) / 10
    (row,) = module._decode(classes, objects, boxes, points, stride, columns, 0.5)
    centre = np.array([(3 + 0.5) * 8, (2 - 0.25) * 8])
    np.testing.assert_allclose(row[:2], centre - (16, 24), rtol=1e-5)
    np.testing.assert_allclose(row[2:4], (32, 48), rtol=1e-5)
    expected = (np.arange(10).reshape(5, 2) / 10 + (3, 2)) * 8
    np.testing.assert_allclose(row[4:14].reshape(5, 2), expected, rtol=1e-5)
    assert row[14] == pytest.approx(0.9)


def test_suppression_keeps_the_best_of_those_that_overlap():
    rows = np.zeros((4, 15), np.float32)
    rows[:, :4] = [(0, 0, 10, 10), (1, 1, 10, 10), (50, 50, 10, 10), (5, 0, 10, 10)]
    rows[:, 14] = (0.7, 0.9, 0.8, 0.6)
    kept = module._suppress(rows)
    assert kept[:, 14].tolist() == pytest.approx([0.9, 0.8])  # the last overlaps the first kept by 0.37
    assert module._suppress(rows[:0]).shape == (0, 15)


def test_aligned_portrait_has_its_eyes_in_the_frame(photo, face):
    aligned, _ = align(photo, face)
    assert aligned.shape == (250, 200, 3)
    (again,) = detect(aligned)
    assert eye_error(again, CUFS.eyes()) < 0.03
