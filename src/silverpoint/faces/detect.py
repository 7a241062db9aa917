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
from silverpoint.faces.align import apply, invert, warp

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDES = (8, 16, 32)
NMS_IOU = 0.3
SMALLEST_SIDE = 16  # nothing narrower than this holds a face

# The second look, where the five points are read again (docs/faces.md has the figures). The network places
# points in steps of its grid: a step is smallest, measured in faces, on a face of about 320 pixels, and what
# is left of it averages out over mirrored and shifted looks. It also wants faces upright: of a turned one it
# finds the points as if it were not, and says so only by a lower score.
FACE_SIDE = 320
MOST_ZOOM = 8.0
SHIFTS = ((0, 0), (13, 10))
MIRRORED = [1, 0, 2, 4, 3]
SURE = 0.92  # most upright faces score more; faces turned by 50 degrees or more score less
TURNED_SCORE, TURNED_GAIN = 0.85, 0.02  # what a quarter turn must score, and gain, to be believed
LEVEL = np.array([[-0.2, -0.1], [0.2, -0.1], [0.0, 0.1], [-0.16, 0.3], [0.16, 0.3]]) @ (1, 1j)


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
    image: np.ndarray,
    *,
    min_score: float = 0.6,
    search_side: int = 640,
    threads: int = 2,
    second_looks: int | None = None,
) -> list[Face]:
    """The faces in a (H, W, 3) uint8 RGB image, the largest first; an empty list if there are none.

    The image is searched with its longest side scaled to `search_side` (or to 320 if it is smaller), which
    finds faces from about 1/50 of that side up. Only if nothing is found is it searched again, with a margin
    for faces that fill or leave the frame, then at 1600 pixels for small faces in a large image: the cost is
    bounded whatever the size.

    The points of the `second_looks` largest faces (None: of all) are read again from close by, which costs
    more than the search; the others' stay as the search found them.

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
            rows = sorted(found, key=lambda row: row[2] * row[3], reverse=True)
            count = len(rows) if second_looks is None else second_looks
            near = [_second_look(session, image, picture, row) for row in rows[:count]]
            return near + [_face(row) for row in rows[count:]]
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
    pixels, factor = _resize(picture, side / max(picture.size))
    border = round(margin * side)
    if border:
        pixels = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    found = _run(session, pixels, min_score)
    places = found[:, [0, 1, *range(4, 14)]].reshape(-1, 6, 2)
    places = (places - border + 0.5) / factor - 0.5
    return np.column_stack(
        [places[:, 0], found[:, 2:4] / factor, places[:, 1:].reshape(-1, 10), found[:, 14]]
    )


def _resize(picture: Image.Image, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture `scale` times as large, and by how much exactly it grew in x and y."""
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    return pixels, np.array(size, np.float64) / picture.size


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
    """The cells of one level that score at least `min_score` as rows of 15, as OpenCV's FaceDetectorYN."""
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


def _face(row: np.ndarray, points: np.ndarray | None = None, score: float | None = None) -> Face:
    """The face of one row, with other points and score than the row's where they are known."""
    x, y, width, height = (float(value) for value in row[:4])
    points = row[4:14].reshape(5, 2) if points is None else points
    return Face((x, y, width, height), points.astype(np.float32), min(float(score or row[14]), 1.0))


def _second_look(session: InferenceSession, image: np.ndarray, picture: Image.Image, row: np.ndarray) -> Face:
    """The face of one row, its points read again: levelled, large, in several looks."""
    factor = np.ones(2)
    if max(row[2:4]) > FACE_SIDE:
        image, factor = _resize(picture, FACE_SIDE / max(row[2:4]))
    box = np.concatenate([(row[:2] + 0.5) * factor - 0.5, row[2:4] * factor])
    points, score = (row[4:14].reshape(5, 2) + 0.5) * factor - 0.5, float(row[14])
    angle, turned = _roll(points), False
    for _ in range(4):
        seen, seen_score = _read(session, image, box, angle)
        if seen is None:
            break
        if seen_score < SURE and not turned:
            turned = True
            quarters = [angle + quarter * np.pi / 2 for quarter in range(4)]
            scores = [_read(session, image, box, turn, SHIFTS[:1])[1] for turn in quarters]
            if max(scores) > max(TURNED_SCORE, scores[0] + TURNED_GAIN):
                angle, score = quarters[int(np.argmax(scores))], max(scores)
                continue
        if seen_score < score - 0.1:  # the close look sees worse, in noise for one
            break
        points, score = seen, max(score, seen_score)
        previous, angle = angle, _roll(points)
        if abs(np.angle(np.exp(1j * (angle - previous)))) < np.radians(8):
            break
    return _face(row, (points + 0.5) / factor - 0.5, score)


def _roll(points: np.ndarray) -> float:
    """The angle by which a face with these points is turned clockwise from LEVEL, in radians."""
    z = points @ (1, 1j)
    return float(np.angle(np.vdot(LEVEL - LEVEL.mean(), z - z.mean())))


def _read(
    session: InferenceSession,
    image: np.ndarray,
    box: np.ndarray,
    angle: float,
    shifts: tuple[tuple[int, int], ...] = SHIFTS,
) -> tuple[np.ndarray | None, float]:
    """The points (5, 2) of the face in `box` seen turned back by `angle`, and their score, or (None, 0)."""
    side = float(max(box[2], box[3]))
    zoom = float(np.clip(FACE_SIDE / side, 1.0, MOST_ZOOM))
    tile = -(-int(1.3 * side * zoom) // 32) * 32
    turn = zoom * np.exp(-1j * angle)
    shift = (tile - 1) / 2 * (1 + 1j) - turn * complex(box[0] + box[2] / 2, box[1] + box[3] / 2)
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    pixels = warp(image, matrix, (tile + 16, tile + 16))
    looks, scores = [], []
    for right, down in shifts:
        window = pixels[down : down + tile, right : right + tile]
        for mirrored in (False, True):
            found = _run(session, window[:, ::-1] if mirrored else window, 0.3)
            if not len(found):
                continue
            # Neighbours may be in the tile too: ours is the one in the middle.
            off = np.linalg.norm(found[:, :2] + found[:, 2:4] / 2 - tile / 2, axis=1)
            nearest = int(off.argmin())
            if off[nearest] < 0.3 * tile:
                seen = found[nearest, 4:14].reshape(5, 2)
                if mirrored:
                    seen = seen[MIRRORED] * (-1, 1) + (tile - 1, 0)
                looks.append(seen + np.array([right, down]))
                scores.append(found[nearest, 14])
    if not looks:
        return None, 0.0
    return apply(invert(matrix), np.mean(looks, axis=0)), float(np.mean(scores))
