"""Geometry: transforms against their definitions, warps against where things end up."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from silverpoint.errors import FaceError, UsageError
from silverpoint.faces.align import (
    CUFS,
    CUFS_RELEASED,
    Frame,
    align,
    apply,
    eye_transform,
    invert,
    similarity,
    warp,
)

coordinate = st.floats(-2000, 2000, allow_nan=False)
point = st.tuples(coordinate, coordinate)
angle = st.floats(-np.pi, np.pi)
scale = st.floats(0.05, 20)


def matrix_of(scale, angle, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


def spot(width, height, at, radius=6.0):
    """A soft dark spot on white, its centre at `at`, exact to a fraction of a pixel."""
    y, x = np.mgrid[:height, :width]
    dark = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius**2))
    return np.repeat(np.rint(255 - 255 * dark).astype(np.uint8)[:, :, None], 3, 2)


def centre_of(image):
    dark = 255.0 - image[:, :, 0]
    dark[dark < 5] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * dark).sum(), (y * dark).sum()]) / dark.sum()


# ---------------------------------------------------------------- transforms


@given(scale, angle, coordinate, coordinate, st.lists(point, min_size=2, max_size=8))
def test_similarity_finds_the_transform_that_was_applied(scale, angle, x, y, points):
    points = np.array(points)
    assume(np.ptp(points, axis=0).max() > 1)
    matrix = matrix_of(scale, angle, x, y)
    found = similarity(points, apply(matrix, points))
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(apply(found, points), apply(matrix, points), atol=1e-6 * max(1, scale))
    np.testing.assert_allclose(found[:, :2], matrix[:, :2], atol=1e-6 * max(1, scale))


@given(st.lists(st.tuples(point, point), min_size=3, max_size=6), angle, st.floats(0.99, 1.01), point)
def test_similarity_is_the_least_squares_one(pairs, turn, stretch, shift):
    source, target = (np.array(points) for points in zip(*pairs, strict=True))
    assume(np.ptp(source, axis=0).max() > 1)
    try:
        found = similarity(source, target)
    except FaceError:  # the best scale is nought
        return

    def cost(matrix):
        return ((apply(matrix, source) - target) ** 2).sum()

    other = matrix_of(stretch, turn / 100, *np.array(shift) / 100)
    nearby = np.column_stack([other[:, :2] @ found[:, :2], other[:, :2] @ found[:, 2] + other[:, 2]])
    assert cost(found) <= cost(nearby) * (1 + 1e-9) + 1e-6


@given(st.lists(st.tuples(point, point), min_size=2, max_size=6))
def test_similarity_never_reflects(pairs):
    source, target = (np.array(points) for points in zip(*pairs, strict=True))
    try:
        found = similarity(source, target)
    except FaceError:
        return
    (a, b, _), (c, d, _) = found
    assert a == d
    assert b == -c
    assert a * d - b * c > 0


@given(scale, angle, coordinate, coordinate, point)
def test_invert_is_the_way_back(scale, angle, x, y, at):
    matrix = matrix_of(scale, angle, x, y)
    np.testing.assert_allclose(apply(invert(matrix), apply(matrix, at)), at, atol=1e-6)
    np.testing.assert_allclose(invert(invert(matrix)), matrix, atol=1e-6 * max(1, scale))


def test_apply_takes_any_number_of_points():
    matrix = matrix_of(2, 0, 1, -1)
    assert apply(matrix, (3, 4)).tolist() == [7, 7]
    assert apply(matrix, np.ones((5, 2, 2))).shape == (5, 2, 2)


@given(point, point, st.floats(0.25, 8), st.sampled_from([CUFS, CUFS_RELEASED]))
def test_eye_transform_puts_the_eyes_where_the_frame_has_them(left, right, scale, frame):
    assume(np.hypot(left[0] - right[0], left[1] - right[1]) > 1)
    matrix = eye_transform(np.array([left, right, (0, 0)]), frame, scale)
    np.testing.assert_allclose(apply(matrix, [left, right]), frame.eyes(scale), atol=1e-6 * scale)


def test_frame_grows_about_its_corner_not_its_first_pixel():
    assert CUFS.size() == (200, 250)
    assert CUFS.size(2) == (400, 500)
    assert CUFS.eyes().tolist() == [[75, 125], [125, 125]]
    assert CUFS.eyes(2).tolist() == [[150.5, 250.5], [250.5, 250.5]]
    assert CUFS_RELEASED.eyes().tolist() == [[74, 125], [125, 125]]


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ([[1, 1], [1, 1]], [[0, 0], [1, 0]], FaceError),
        ([[0, 0], [1, 0]], [[1, 1], [1, 1]], FaceError),
        ([[0, np.nan], [1, 0]], [[1, 1], [2, 1]], FaceError),
        ([[0, 0]], [[1, 1]], UsageError),
        ([[0, 0], [1, 1]], [[1, 1]], UsageError),
    ],
)
def test_similarity_of_hopeless_points(source, target, error):
    with pytest.raises(error):
        similarity(np.array(source, float), np.array(target, float))


# ---------------------------------------------------------------- warps


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.15, 5),
    angle,
    st.tuples(st.floats(30, 170), st.floats(30, 120)),
    st.tuples(st.floats(40, 110), st.floats(40, 90)),
)
@example(1.0, 0.0, (80.0, 70.0), (80.0, 70.0))
@example(0.5, 0.0, (80.25, 70.75), (60.0, 50.0))
@example(1 / 3, np.pi, (80.0, 70.0), (60.0, 50.0))
def test_things_end_up_where_the_matrix_says(scale, angle, source, target):
    matrix = matrix_of(scale, angle, 0, 0)
    matrix[:, 2] = np.array(target) - apply(matrix, source)
    radius = 4 / min(scale, 1)
    assume(3.5 * radius < min(source[0], 200 - source[0], source[1], 150 - source[1]) or scale > 1)
    assume(3.5 * radius * scale < min(target[0], 150 - target[0], target[1], 130 - target[1]))
    moved = warp(spot(200, 150, source, radius), matrix, (150, 130), "white")
    assert moved.shape == (130, 150, 3)
    assert np.abs(centre_of(moved) - target).max() < 0.15


@settings(max_examples=25, deadline=None)
@given(st.floats(0.6, 3), angle)
def test_there_and_back_again(scale, angle):
    y, x = np.mgrid[:120, :160]
    image = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7 + x / 31)).astype(np.uint8)
    matrix = matrix_of(scale, angle, 0, 0)
    matrix[:, 2] = np.array((400, 400)) - apply(matrix, (80, 60))
    back = warp(warp(image, matrix, (800, 800)), invert(matrix), (160, 120))
    assert np.abs(back.astype(int) - image)[8:-8, 8:-8].mean() < 3


def test_identity_and_whole_pixel_shifts_are_exact():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert np.array_equal(warp(image, identity, (50, 40)), image)
    shift = np.array([[1.0, 0, 7], [0, 1, -4]])
    moved = warp(image, shift, (50, 40), (1, 2, 3))
    assert np.array_equal(moved[:36, 7:], image[4:, :43])
    assert (moved[36:] == (1, 2, 3)).all()
    assert (moved[:, :7] == (1, 2, 3)).all()


def test_what_lies_outside():
    image = np.full((20, 30, 3), 100, np.uint8)
    image[:, :5] = (200, 0, 0)
    shift = np.array([[1.0, 0, 40], [0, 1, 40]])
    assert (warp(image, shift, (100, 100), "white")[0, 0] == 255).all()
    assert (warp(image, shift, (100, 100), (9, 8, 7))[99, 99] == (9, 8, 7)).all()
    edge = warp(image, shift, (100, 100))
    assert (edge[:, :40] == (200, 0, 0)).all()
    assert (edge[:, 72:] == 100).all()
    grey = warp(image[:, :, 1], shift, (100, 100), "white")
    assert grey.shape == (100, 100)
    assert grey[0, 0] == 255
    half = warp(image, np.array([[0.25, 0, 10], [0, 0.25, 10]]), (30, 30), "edge")
    assert np.abs(half[0, 0].astype(int) - (200, 0, 0)).max() < 5
    assert (half[-1, -1] == 100).all()


@pytest.mark.parametrize("angle", [0, 0.3, np.pi / 4])
@pytest.mark.parametrize("shrink", [2.0, 3.3, 8.0])
def test_shrinking_does_not_alias(shrink, angle):
    """One-pixel stripes become even grey, not a moire."""
    stripes = np.zeros((600, 600), np.uint8)
    stripes[:, ::2] = 255
    matrix = matrix_of(1 / shrink, angle, 0, 0)
    matrix[:, 2] = np.array((30, 30)) - apply(matrix, (300, 300))
    result = warp(stripes, matrix, (60, 60))[20:40, 20:40].astype(int)
    assert np.abs(result - 127).max() <= 12


def test_shrinking_keeps_edges_sharp():
    """A step turned by half a degree and halved stays within two and a half pixels wide."""
    step = np.zeros((400, 400), np.uint8)
    step[:, 200:] = 255
    matrix = matrix_of(0.5, 0.01, 0, 0)
    matrix[:, 2] = np.array((50, 50)) - apply(matrix, (200, 200))
    row = warp(step, matrix, (100, 100))[50].astype(int)
    assert ((row > 12) & (row < 243)).sum() <= 2


def test_far_outside():
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(FaceError):
        warp(image, np.array([[1.0, 0, 1e7], [0, 1, 0]]), (50, 50))


def test_warp_of_no_image():
    with pytest.raises(UsageError):
        warp(np.zeros((4, 4)), matrix_of(1, 0, 0, 0), (4, 4))


@settings(max_examples=30, deadline=None)
@given(
    st.floats(24, 160),
    angle,
    st.sampled_from([CUFS, Frame(96, 96, (30, 40), (66, 40))]),
    st.sampled_from([1, 2]),
)
def test_align_brings_drawn_eyes_to_the_frame(distance, angle, frame, scale):
    centre, half = np.array((400.0, 380.0)), distance / 2 * np.array((np.cos(angle), np.sin(angle)))
    eyes = np.array([centre - half, centre + half])
    radius = distance / 14
    image = np.minimum(spot(800, 760, eyes[0], radius), spot(800, 760, eyes[1], radius))
    aligned, matrix = align(image, eyes, frame, scale, "white")
    width, height = frame.size(scale)
    assert aligned.shape == (height, width, 3)
    np.testing.assert_allclose(apply(matrix, eyes), frame.eyes(scale), atol=1e-9)
    middle = round(frame.eyes(scale)[:, 0].mean())
    left = aligned.copy()
    left[:, middle:] = 255
    right = aligned.copy()
    right[:, :middle] = 255
    assert np.abs(centre_of(left) - frame.eyes(scale)[0]).max() < 0.2
    assert np.abs(centre_of(right) - frame.eyes(scale)[1]).max() < 0.2


def test_align_agrees_with_a_plain_resize():
    """Eyes placed so that the frame is the image at half size: warp and Pillow's resize must agree."""
    y, x = np.mgrid[:500, :400]
    image = np.stack([127 + 100 * np.sin(x / 20), 127 + 100 * np.cos(y / 17), (x + y) / 4], -1).astype(
        np.uint8
    )
    aligned, matrix = align(image, CUFS.eyes(2))
    np.testing.assert_allclose(matrix[:, :2], np.eye(2) / 2, atol=1e-12)
    expected = np.asarray(Image.fromarray(image).resize((200, 250), Image.Resampling.LANCZOS))
    assert np.abs(aligned.astype(int) - expected).mean() < 0.7
