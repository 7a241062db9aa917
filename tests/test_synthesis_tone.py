"""Where a large drawing has too much ink, the small one is taken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from silverpoint.synthesis import sketcher, tone
from silverpoint.synthesis.sketcher import load
from silverpoint.synthesis.tone import without_excess

EXAMPLES = Path(__file__).parents[1] / "examples"


def strokes(side: int = 180) -> np.ndarray:
    """Lines two pixels wide on paper, (side, side) uint8."""
    image = np.full((side, side), 250, np.uint8)
    image[::12], image[1::12] = 120, 120
    return image


def shrunk(image: np.ndarray, factor: float = 1.5) -> np.ndarray:
    size = [round(side / factor) for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def test_a_drawing_with_the_ink_of_the_small_one_keeps_its_strokes():
    large = strokes()
    assert np.abs(without_excess(large, shrunk(large)).astype(int) - large).max() <= 3


def test_a_beard_that_only_the_large_drawing_has_gives_way_to_the_stubble_of_the_small_one():
    large = strokes()
    small = shrunk(large)
    bearded = large.copy()
    bearded[60:120, 60:120] = 30
    mixed = without_excess(bearded, small)
    assert bearded[70:110, 70:110].mean() == 30
    assert mixed[70:110, 70:110].mean() == pytest.approx(large[70:110, 70:110].mean(), abs=8)
    assert np.array_equal(mixed[:40], without_excess(large, small)[:40])  # far from it nothing changes


def test_ink_that_only_the_small_drawing_has_is_not_added():
    large = strokes()
    small = shrunk(large).copy()
    small[40:80, 40:80] = 30
    assert np.abs(without_excess(large, small).astype(int) - large).max() <= 3


def test_bands_of_rows_leave_no_seam(monkeypatch):
    rng = np.random.default_rng(0)
    large, small = rng.integers(0, 256, (150, 90), np.uint8), rng.integers(0, 256, (101, 61), np.uint8)
    whole = without_excess(large, small)
    monkeypatch.setattr(tone, "ROWS", 37)
    assert np.abs(without_excess(large, small).astype(int) - whole).max() <= 4


@pytest.mark.parametrize(("size", "compared"), [(None, True), (200, False)])
def test_a_face_larger_than_in_training_is_compared_with_one_of_that_size(monkeypatch, size, compared):
    seen = []

    def watched(drawing, small):
        seen.append((drawing.shape, small.shape))
        return drawing

    monkeypatch.setattr(sketcher, "without_excess", watched)
    drawing = load(threads=1).sketch(EXAMPLES / "portrait.jpg", size=size)
    assert len(seen) == compared
    for large, small in seen:
        assert large == drawing.image.shape
        assert large[0] / small[0] == pytest.approx(sketcher.MAX_FACE_SCALE, rel=0.02)
