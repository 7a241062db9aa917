"""Find faces, with five points each: YuNet (Wu, Peng & Yu 2023) through ONNX Runtime.

Coordinates are of pixel centres: (0, 0) is the centre of the top left pixel, x to the right, y down.
"""

from __future__ import annotations

import importlib.resources
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from silverpoint.errors import UsageError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDES = (8, 16, 32)
NMS_IOU = 0.3
SMALLEST_SIDE = 16  # nothing narrower than this holds a face

# The second look: where the five points are read again. The network places points in steps of its grid; at
# 320 pixels of face a step is smallest, and shifted and mirrored looks average it out (docs/faces.md has the
# figures).
FACE_SIDE = 320
TILE_SIDE = 416
SHIFTS = ((0.0, 0.0), (0.04, 0.03))
MIRRORED = [1, 0, 2, 4, 3]


@dataclass(frozen=True, eq=False)
class Face:
    """One face: `box` is x, y, width, height (it may reach beyond the picture); `score` is in (0, 1].

    `points` (5, 2) float32: eye, eye, nose tip, mouth corner, mouth corner, of an upright face the one on the
    left of the image first (that is the person's right).
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float


def detect(
    image: np.ndarray, *, min_score: float = 0.6, search_side: int = 640, threads: int = 2
) -> list[Face]:
    """The faces in a (H, W, 3) uint8 RGB image, the largest first; an empty list if there are none.

    The image is searched with its longest side scaled to `search_side` (or to 320 if it is smaller), which
    finds faces from about 1/50 of that side up. Only if nothing is found is it searched again, with a margin
    for faces that fill or leave the frame, then at 1600 pixels for small faces in a large image: the cost is
    bounded whatever the size.

    Safe to call from several threads; `threads` is how many each call computes on.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"a (H, W, 3) uint8 image is needed to find faces, not {image.shape} {image.dtype}")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        return []
    picture = Image.fromarray(image)
    longest = max(picture.size)
    session = _session(threads)
    searches = [(float(np.clip(longest, 320, search_side)), 0.0), (320.0, 0.5)]
    if longest > 1.5 * search_side:
        searches.append((min(longest, 1600.0), 0.0))
    for side, margin in searches:
        found = _search(session, picture, side, margin, min_score)
        if len(found):
            faces = [_face(session, picture, row) for row in found]
            return sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)
    return []


_sessions: dict[int, InferenceSession] = {}
_lock = threading.Lock()


def _session(threads: int) -> InferenceSession:
    """The network, loaded on first use, once per number of threads."""
    with _lock:
        if threads not in _sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            # Waiting threads would otherwise spin and take the cores from whoever else computes.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_cpu_mem_arena = False  # shapes differ from call to call: the arena only grows
            model = importlib.resources.files("silverpoint.faces").joinpath("yunet.onnx").read_bytes()
            _sessions[threads] = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        return _sessions[threads]


def _search(
    session: InferenceSession, picture: Image.Image, side: float, margin: float, min_score: float
) -> np.ndarray:
    """Faces (N, 15) of the whole picture, searched at longest side `side` with a margin of its edge
    pixels."""
    width, height = picture.size
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    border = round(margin * side)
    if border:
        pixels = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    found = _run(session, pixels, min_score)
    factor = np.array([width / size[0], height / size[1]], np.float32)
    points = found[:, :14].reshape(-1, 7, 2)  # row 1 is the box's size, the others are places
    points[:, [0, 2, 3, 4, 5, 6]] = (points[:, [0, 2, 3, 4, 5, 6]] - border + 0.5) * factor - 0.5
    points[:, 1] *= factor
    return found


def _run(session: InferenceSession, pixels: np.ndarray, min_score: float) -> np.ndarray:
    """One pass over (H, W, 3) uint8 RGB; (N, 15) float32, best first: x, y, width, height, 5 x (x, y),
    score."""
    height, width = pixels.shape[:2]
    rows, columns = -(-height // 32), -(-width // 32)
    blob = np.zeros((1, 3, rows * 32, columns * 32), np.float32)
    blob[0, :, :height, :width] = pixels[:, :, ::-1].transpose(2, 0, 1)  # BGR, 0 to 255
    outputs = session.run(None, {"input": blob})
    found = []
    for level, stride in enumerate(STRIDES):
        classes, objects, boxes, points = (outputs[level + kind][0] for kind in (0, 3, 6, 9))
        found.append(_decode(classes, objects, boxes, points, stride, columns * 32 // stride, min_score))
    return _suppress(np.concatenate(found))


def _decode(
    classes: np.ndarray,
    objects: np.ndarray,
    boxes: np.ndarray,
    points: np.ndarray,
    stride: int,
    columns: int,
    min_score: float,
) -> np.ndarray:
    """One level of the network's grid as rows of 15, those of at least `min_score`: as OpenCV's
    FaceDetectorYN."""
    scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
    kept = np.flatnonzero(scores >= min_score)
    cells = np.stack([kept % columns, kept // columns], axis=1).astype(np.float32)
    size = np.exp(boxes[kept, 2:]) * stride
    corner = (cells + boxes[kept, :2]) * stride - size / 2
    places = (cells[:, None] + points[kept].reshape(-1, 5, 2)) * stride
    return np.concatenate([corner, size, places.reshape(-1, 10), scores[kept, None]], axis=1)


def _suppress(found: np.ndarray) -> np.ndarray:
    """Greedy non-maximum suppression by score."""
    found = found[np.argsort(-found[:, 14], kind="stable")]
    low, high = found[:, :2], found[:, :2] + found[:, 2:4]
    area = found[:, 2] * found[:, 3]
    kept = []
    left = np.arange(len(found))
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        overlap = np.prod(np.maximum(sides, 0), axis=1)
        left = left[overlap <= NMS_IOU * (area[best] + area[left] - overlap)]
    return found[kept]


def _face(session: InferenceSession, picture: Image.Image, row: np.ndarray) -> Face:
    """The face of one row, its points read again at a scale and in looks where the network places them
    best."""
    points = row[4:14].reshape(5, 2)
    side = float(row[2:4].max())
    centre = row[:2] + row[2:4] / 2
    zoom = min(FACE_SIDE / side, 4.0)
    tile = TILE_SIDE if zoom < 4 else -(-int(TILE_SIDE * side * zoom / FACE_SIDE) // 32) * 32
    looks = []
    for shift in SHIFTS:
        pixels, corner = _crop(picture, centre + np.array(shift) * side, tile / zoom, tile)
        for mirrored in (False, True):
            found = _run(session, pixels[:, ::-1] if mirrored else pixels, 0.3)
            if not len(found):
                continue
            seen = found[:, 4:14].reshape(-1, 5, 2)
            if mirrored:
                seen = seen[:, MIRRORED] * [-1, 1] + [tile - 1, 0]
            seen = (seen + 0.5) / zoom - 0.5 + corner
            # Neighbours may be in the tile too: ours is the one nearest to where it was.
            distance = np.linalg.norm(seen - points, axis=2).mean(axis=1)
            nearest = int(distance.argmin())
            if distance[nearest] < 0.15 * side:
                looks.append(seen[nearest])
    if looks:
        points = np.mean(looks, axis=0)
    x, y, width, height = (float(value) for value in row[:4])
    return Face((x, y, width, height), points.astype(np.float32), float(min(row[14], 1.0)))


def _crop(picture: Image.Image, centre: np.ndarray, side: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of the picture as (size, size, 3), edge pixels where it leaves the picture; and its corner
    there."""
    corner = np.floor(centre - side / 2)
    left, top = (int(value) for value in corner)
    extent = int(np.ceil(side)) + 1
    box = (max(left, 0), max(top, 0), min(left + extent, picture.width), min(top + extent, picture.height))
    pixels = np.asarray(picture.crop(box))
    border = ((box[1] - top, top + extent - box[3]), (box[0] - left, left + extent - box[2]), (0, 0))
    tile = Image.fromarray(np.pad(pixels, border, mode="edge"))
    tile = tile.resize((size, size), Image.Resampling.BICUBIC, box=(0, 0, side, side))
    return np.asarray(tile), corner
