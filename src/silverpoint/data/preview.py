"""One picture that shows whether a dataset is what it should be: twenty pairs with their points."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from silverpoint.data.alignment import FRAMES
from silverpoint.data.pairs import frame_of, read_picture, read_rows, spread
from silverpoint.data.points import Points, detect_points
from silverpoint.errors import DataError, FaceError
from silverpoint.image import write_image

HEIGHT = 250
ACROSS = 5
POINT, FRAME = (220, 30, 30), (0, 120, 220)


def preview(dataset: Path, pairs: int = 20) -> Path:
    """Write dataset/preview.png: `pairs` pairs from all of it, eyes and mouth as red dots (those known from files or
    alignment, else detected ones), and the frame's eyes as blue crosses. Raises DataError for a folder without pairs.
    """
    rows = read_rows(dataset)
    if not rows:
        raise DataError(f"{dataset}: holds no pairs")
    chosen = spread(rows, pairs)
    known, frame = read_points(dataset), frame_of(dataset)
    tiles = []
    for row in chosen:
        halves = []
        for kind in ("photo", "sketch"):
            if not row[kind]:
                continue
            image = read_picture(dataset, row[kind])
            points = known.get((row["subset"], row["id"], kind)) or _detected(image)
            halves.append(_marked(image, points, frame))
        tile = np.full((HEIGHT + 14, sum(h.shape[1] + 2 for h in halves) + 2, 3), 255, np.uint8)
        left = 0
        for half in halves:
            tile[14:, left : left + half.shape[1]] = half
            left += half.shape[1] + 2
        drawn = Image.fromarray(tile)
        ImageDraw.Draw(drawn).text((2, 1), f"{row['subset']} {row['id']} {row['split']}", fill=(0, 0, 0))
        tiles.append(np.asarray(drawn))
    width = max(t.shape[1] for t in tiles)
    padded = [np.pad(t, ((0, 0), (0, width - t.shape[1]), (0, 0)), constant_values=255) for t in tiles]
    padded += [np.full_like(padded[0], 255)] * (-len(padded) % ACROSS)
    lines = [np.concatenate(padded[i : i + ACROSS], 1) for i in range(0, len(padded), ACROSS)]
    write_image(np.concatenate(lines), dataset / "preview.png")
    return dataset / "preview.png"


def read_points(dataset: Path) -> dict[tuple[str, str, str], Points]:
    """The points in the prepared pictures, by subset, id, and photo or sketch; empty where there are none."""
    path = dataset / "points.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (r["subset"], r["id"], r["of"]): tuple((float(x), float(y)) for x, y in json.loads(r["points"]))
        for r in rows
    }


def _detected(image: np.ndarray) -> Points:
    try:
        return detect_points(image)
    except FaceError:
        return ()


def _marked(image: np.ndarray, points: Points, frame: str | None) -> np.ndarray:
    """The picture at HEIGHT, with its points and its frame's."""
    scale = HEIGHT / image.shape[0]
    drawn = Image.fromarray(image).resize((round(image.shape[1] * scale), HEIGHT), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    if frame:
        for x, y in (FRAMES[frame].eyes() + 0.5) * scale:
            draw.line([x - 5, y, x + 5, y], fill=FRAME)
            draw.line([x, y - 5, x, y + 5], fill=FRAME)
    for x, y in points:
        x, y = (x + 0.5) * scale, (y + 0.5) * scale
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], outline=POINT, width=1)
    return np.asarray(drawn)
