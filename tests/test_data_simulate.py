"""Simulated sketches against the slow way of computing them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import draw_pair
from silverpoint.data.simulate import SIMULATIONS, Pencil, Sobel, XDoG, pencil, sobel, xdog

GREY = (0.299, 0.587, 0.114)


def slow_blur(grey, sigma):
    """A Gaussian to four standard deviations, edges continued, one pixel after the other."""
    if sigma == 0:
        return grey
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-(d * d) / (2 * sigma * sigma)) for d in range(-reach, reach + 1)]
    h, w = len(grey), len(grey[0])

    def row(values):
        n = len(values)
        return [
            sum(
                k * values[min(max(i + d, 0), n - 1)]
                for d, k in zip(range(-reach, reach + 1), weights, strict=True)
            )
            / sum(weights)
            for i in range(n)
        ]

    across = [row(r) for r in grey]
    columns = [row([across[y][x] for y in range(h)]) for x in range(w)]
    return [[columns[x][y] for x in range(w)] for y in range(h)]


def slow_grey(photo):
    return [
        [sum(k * int(v) for k, v in zip(GREY, pixel, strict=True)) / 255 for pixel in row] for row in photo
    ]


def slow_sobel(photo, s):
    grey = slow_blur([[v**s.tone for v in row] for row in slow_grey(photo)], s.blur)
    h, w = len(grey), len(grey[0])

    def at(y, x):
        return grey[min(max(y, 0), h - 1)][min(max(x, 0), w - 1)]

    out = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            gx = sum(k * (at(y + d, x + 1) - at(y + d, x - 1)) for d, k in ((-1, 1), (0, 2), (1, 1)))
            gy = sum(k * (at(y + 1, x + d) - at(y - 1, x + d)) for d, k in ((-1, 1), (0, 2), (1, 1)))
            stretched = min(max((math.hypot(gx, gy) / 4 - s.low) / (s.high - s.low), 0), 1)
            out[y, x] = 255 * (1 - stretched**s.gamma)
    return out


def slow_pencil(photo, s):
    grey = slow_grey(photo)
    blurred = slow_blur(grey, s.blur)
    pairs = [zip(g, b, strict=True) for g, b in zip(grey, blurred, strict=True)]
    return np.array(
        [
            [255 * min(g / max(b, 1 / 255), 1) ** s.strength * (1 - s.shade * (1 - g)) for g, b in row]
            for row in pairs
        ]
    )


def slow_xdog(photo, s):
    grey = slow_grey(photo)
    narrow, wide = slow_blur(grey, s.sigma), slow_blur(grey, s.k * s.sigma)
    out = np.zeros((len(grey), len(grey[0])))
    for y, (n_row, w_row) in enumerate(zip(narrow, wide, strict=True)):
        for x, (n, w) in enumerate(zip(n_row, w_row, strict=True)):
            u = n - s.tau * w
            out[y, x] = 255 * (1 if u >= s.epsilon else max(0, 1 + math.tanh(s.phi * (u - s.epsilon))))
    return out


@pytest.mark.parametrize(
    ("fast", "slow", "settings_of"),
    [(sobel, slow_sobel, Sobel), (pencil, slow_pencil, Pencil), (xdog, slow_xdog, XDoG)],
)
def test_a_simulation_is_what_its_definition_says_pixel_by_pixel(fast, slow, settings_of):
    photo = np.random.default_rng(0).integers(0, 256, (14, 11, 3), np.uint8)
    expected = slow(photo, settings_of())
    assert np.abs(fast(photo) - expected).max() <= 0.51


def test_a_step_of_full_range_is_black_and_plain_paper_is_white():
    step = np.zeros((20, 20, 3), np.uint8)
    step[:, 10:] = 255
    drawn = sobel(step, Sobel(blur=0, high=1.0, low=0.0, gamma=1.0))
    assert drawn[5].tolist() == [255] * 9 + [0, 0] + [255] * 9
    for simulate in SIMULATIONS.values():
        assert simulate(np.full((20, 20, 3), 255, np.uint8)).min() == 255


@pytest.mark.parametrize("simulate", SIMULATIONS.values(), ids=SIMULATIONS)
def test_lines_are_darker_than_what_is_around_them(simulate):
    photo, sketch = draw_pair(4)
    drawn = simulate(photo)
    assert drawn.shape == photo.shape[:2]
    assert drawn.dtype == np.uint8
    edges = sketch < 200
    assert drawn[edges].mean() < drawn[~edges].mean() - 10


@given(seed=st.integers(0, 1000), how=st.sampled_from(sorted(SIMULATIONS)))
@settings(max_examples=20, deadline=None)
def test_a_stack_of_faces_is_drawn_as_each_by_itself(seed, how):
    faces = np.random.default_rng(seed).integers(0, 256, (3, 16, 12, 3), np.uint8)
    together = SIMULATIONS[how](faces)
    assert np.array_equal(together, np.stack([SIMULATIONS[how](f) for f in faces]))


def test_settings_act():
    photo, _ = draw_pair(1)
    assert sobel(photo, Sobel(high=0.8)).mean() > sobel(photo, Sobel(high=0.2)).mean()
    assert pencil(photo, Pencil(shade=0.5)).mean() < pencil(photo, Pencil(shade=0.0)).mean()
    assert xdog(photo, XDoG(tau=0.999)).mean() < xdog(photo, XDoG(tau=0.9)).mean()
