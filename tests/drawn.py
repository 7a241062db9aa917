"""Faces drawn by the tests: a photograph of a sort, and the pencil sketch that belongs to it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw_pair(seed: int, size: tuple[int, int] = (200, 250)) -> tuple[np.ndarray, np.ndarray]:
    """photo (H, W, 3) and sketch (H, W), uint8, of the same made-up face."""
    rng = np.random.default_rng(seed)
    w, h = size
    skin, hair, cloth = (tuple(int(v) for v in rng.integers(40, 230, 3)) for _ in range(3))
    photo, sketch = Image.new("RGB", size, (255, 255, 255)), Image.new("L", size, 250)
    on_photo, on_sketch = ImageDraw.Draw(photo), ImageDraw.Draw(sketch)
    cx, cy = w / 2 + rng.uniform(-4, 4), h / 2 + rng.uniform(-4, 4)
    rx, ry = w * rng.uniform(0.24, 0.3), h * rng.uniform(0.26, 0.3)
    on_photo.ellipse([cx - 1.3 * rx, cy - 1.4 * ry, cx + 1.3 * rx, cy + 0.6 * ry], fill=hair)
    on_photo.rectangle([cx - 1.5 * rx, cy + 1.3 * ry, cx + 1.5 * rx, h], fill=cloth)
    on_photo.ellipse([cx - rx, cy - ry, cx + rx, cy + ry], fill=skin)
    for side in (-1, 1):
        eye = [cx + side * 0.4 * rx - 7, cy - 10, cx + side * 0.4 * rx + 7, cy]
        on_photo.ellipse(eye, fill=(30, 20, 20))
        on_sketch.ellipse(eye, outline=40, width=2)
    on_photo.line([cx - 12, cy + 0.5 * ry, cx + 12, cy + 0.5 * ry], fill=(150, 40, 40), width=4)
    on_sketch.line([cx - 12, cy + 0.5 * ry, cx + 12, cy + 0.5 * ry], fill=60, width=3)
    on_sketch.ellipse([cx - rx, cy - ry, cx + rx, cy + ry], outline=80, width=2)
    for x in np.linspace(-1.2, 1.2, 14):
        on_sketch.line([cx + x * rx, cy - 0.6 * ry, cx + 0.8 * x * rx, cy - 1.3 * ry], fill=70, width=2)
    return np.array(photo), np.array(sketch)


def write_pair_folders(root: Path, count: int, size: tuple[int, int] = (200, 250)) -> Path:
    """root/photos and root/sketches, the layout of the protocol `pairs`."""
    for folder in ("photos", "sketches"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        photo, sketch = draw_pair(i, size)
        Image.fromarray(photo).save(root / "photos" / f"p{i:03d}.png")
        Image.fromarray(sketch).save(root / "sketches" / f"p{i:03d}.png")
    return root
