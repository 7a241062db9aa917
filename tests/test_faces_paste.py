"""A drawing laid back where its face came from."""

import numpy as np
import pytest

from silverpoint.errors import UsageError
from silverpoint.faces.align import align, apply, invert
from silverpoint.faces.paste import paste


def scene():
    y, x = np.mgrid[:300, :400]
    return np.stack([x * 255 // 400, y * 255 // 300, 128 + 60 * np.sin(x / 15)], -1).astype(np.uint8)


EYES = np.array([(170.0, 140.0), (230.0, 155.0)])


def test_what_was_cut_out_fits_back_in():
    aligned, matrix = align(scene(), EYES)
    again = paste(scene(), aligned, matrix)
    assert np.abs(again.astype(int) - scene()).max() <= 6


@pytest.mark.parametrize("grey", [False, True])
def test_the_drawing_is_inside_the_picture_outside_and_nothing_hard_between(grey):
    photo = np.full((300, 400, 3), 200, np.uint8)
    _, matrix = align(photo, EYES)
    black = np.zeros((250, 200) if grey else (250, 200, 3), np.uint8)
    pasted = paste(photo, black, matrix, feather=20)
    middle = apply(invert(matrix), (100, 125)).round().astype(int)
    assert (pasted[middle[1], middle[0]] == 0).all()
    assert (pasted[0, 0] == 200).all()
    assert np.abs(np.diff(pasted[:, :, 0].astype(int), axis=1)).max() < 25
    assert (photo == 200).all()


def test_frame_outside_the_picture_changes_nothing():
    photo = scene()
    matrix = np.array([[1.0, 0, 5000], [0, 1, 0]])
    assert np.array_equal(paste(photo, np.zeros((250, 200), np.uint8), matrix), photo)


def test_frame_that_leaves_the_picture():
    photo = scene()
    aligned, matrix = align(photo, np.array([(10.0, 20.0), (60.0, 20.0)]))
    assert np.abs(paste(photo, aligned, matrix, feather=0).astype(int) - photo).max() <= 6


def test_not_a_picture():
    with pytest.raises(UsageError):
        paste(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.eye(3)[:2])
