"""Tiles cover the drawing exactly once, stay on the stride grid and within the budget."""

from __future__ import annotations

import numpy as np
import pytest

from silverpoint.synthesis.tiles import grid, spans


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("margin", [0, 5, 96])
def test_spans_keep_every_pixel_once_and_read_the_margin(count: int, margin: int) -> None:
    length, multiple = 31 * 16, 16
    kept = np.zeros(length, int)
    for span in spans(length, count, multiple, margin):
        kept[span.keep] += 1
        assert span.start % multiple == span.stop % multiple == 0
        assert span.start <= max(0, span.keep_start - margin)
        assert span.stop >= min(length, span.keep_stop + margin)
    assert (kept == 1).all()


@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (1104, 1104), (160, 4000), (4000, 160), (2400, 3200)]
)
@pytest.mark.parametrize("budget", [150_000, 400_000, 1_400_000])
def test_grid_covers_the_drawing_within_the_budget(height: int, width: int, budget: int) -> None:
    kept = np.zeros((height, width), np.uint8)
    read = 0
    for rows, columns in grid(height, width, 16, 96, budget):
        kept[rows.keep, columns.keep] += 1
        pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
        assert pixels <= budget
        read += pixels
    assert (kept == 1).all()
    if height * width <= budget:
        assert read == height * width  # no tiles where none are needed


def test_a_budget_below_the_smallest_tile_still_draws() -> None:
    kept = np.zeros((320, 320), int)
    for rows, columns in grid(320, 320, 16, 96, budget=100):
        kept[rows.keep, columns.keep] += 1
    assert (kept == 1).all()
