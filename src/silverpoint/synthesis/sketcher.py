"""A photograph in, a drawing out: find the face, bring it to the scale the network draws at, draw."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
from PIL import Image, ImageOps

from silverpoint.errors import FaceError, ImageError, UsageError
from silverpoint.faces.align import align
from silverpoint.faces.detect import Face, detect
from silverpoint.image import MAX_PIXELS as MAX_READ
from silverpoint.image import read_image, write_image
from silverpoint.synthesis.model import Card, Model, open_model
from silverpoint.synthesis.tone import without_excess

VIEWS = ("portrait", "face", "whole")
MAX_FACE_SCALE = 1.5  # of the training frame's: beyond it strokes thin out
TONE_SCALE = 1.05  # a face drawn larger than this is compared with a drawing at the training frame's scale
MAX_PIXELS = 1_200_000  # of a drawing, unless a size is asked for
MOST_PIXELS = 2_500_000  # where a small face needs them to be drawn at the training frame's scale
READ_PIXELS = 4_000_000  # of a photo, for a drawing of at most MOST_PIXELS
SIZES = (16, 10_000)  # px of the long side that may be asked for

Source = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, np.ndarray]


@dataclass(frozen=True)
class Sketch:
    """A drawing. `image` is (H, W) uint8 grey, or (H, W, 3) uint8 RGB from a model that draws in colour."""

    image: np.ndarray
    style: str | None
    faces: tuple[
        Face, ...
    ]  # found in the photo, largest first, its points the surest; none for the view "whole"
    photo_size: tuple[int, int]  # (width, height) of the photo as it was read, which is what `faces` refer to

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing to `path`, whole or not at all; its suffix is the format. Raises ImageError."""
        write_image(self.image, path)
        return Path(path)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.image, dtype=dtype) if copy else np.asarray(self.image, dtype=dtype)

    def _repr_png_(self) -> bytes:  # shown by notebooks
        return png(self.image)


class Sketcher:
    """Draws photographs with one model. One sketcher serves any number of threads."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def card(self) -> Card:
        """The model's card: name, styles, licence, metrics."""
        return self.model.card

    def sketch(
        self, image: Source, *, style: str | None = None, view: str = "portrait", size: int | None = None
    ) -> Sketch:
        """Draw a photograph: a path, the bytes or stream of a file, a PIL image, or a uint8 array.

        `view` says what is drawn:
        - "portrait": the whole picture, at the scale that suits its largest face;
        - "face": the largest face alone, upright in the model's frame (200 x 250 px);
        - "whole": the whole picture at its own scale; no face is looked for.

        `size` is the long side of the drawing in px; without it a portrait has the size that shows strokes as
        strokes, at most about 1.2 megapixels, or 2.5 where its face is small. Nothing is stretched or cropped
        (but to the frame, in the view "face").

        Raises ImageError if the image cannot be read, FaceError if there is no face in it, UsageError for a
        style, view or size there is not.
        """
        if view not in VIEWS:
            raise UsageError(f"there is no view {view!r}; choose from {', '.join(VIEWS)}")
        self.check(style, size)
        # The face alone may need all of the photo's detail; the whole of it, drawn, has far fewer pixels.
        max_pixels = MAX_READ if view == "face" else min(MAX_READ, max(READ_PIXELS, (size or 0) ** 2))
        photo, name = _read(image, max_pixels)
        faces = [] if view == "whole" else self._faces(photo, name, second_looks=1)
        if view == "face":
            return self._draw_face(photo, faces[0], style, size)
        frame = self.card.frame
        face_scale = eye_distance(faces[0]) / math.dist(*frame.eyes()) if faces and frame else None
        most = MOST_PIXELS if self.card.local else MAX_PIXELS
        framed = _resized(photo, drawing_size(photo, face_scale, size, most))
        scale = face_scale * framed.shape[1] / photo.shape[1] if face_scale else 1.0
        return self._draw(framed, style, faces, photo, scale)

    def sketch_faces(
        self, image: Source, *, style: str | None = None, size: int | None = None
    ) -> list[Sketch]:
        """Draw every face of a photograph, the largest first, each as in the view "face" of `sketch`."""
        self.check(style, size)
        photo, name = _read(image, MAX_READ)
        faces = self._faces(photo, name)
        return [self._draw_face(photo, face, style, size) for face in faces]

    def check(self, style: str | None, size: int | None) -> None:
        self.card.style(style)
        low, high = SIZES
        if size is not None and not low <= size <= high:
            raise UsageError(f"size must be between {low} and {high} px, not {size}")

    def _faces(self, photo: np.ndarray, name: str, second_looks: int | None = None) -> list[Face]:
        faces = detect(photo, threads=self.model.threads, second_looks=second_looks)
        if not faces:
            raise FaceError(
                f'{name}: no face found; `--face none` (view="whole") draws the whole picture as it is'
            )
        return faces

    def _draw(
        self, framed: np.ndarray, style: str | None, faces: Sequence[Face], photo: np.ndarray, scale: float
    ) -> Sketch:
        """The sketch of what is `framed` (H, W, 3) uint8 of `photo`, its face `scale` times the training frame's."""
        drawing = np.ascontiguousarray(self.model.draw(framed[None], style)[0])
        if self.card.local and scale > TONE_SCALE and drawing.ndim == 2:
            height, width = (max(1, round(side / scale)) for side in drawing.shape)
            drawing = without_excess(
                drawing, self.model.draw(_resized(framed, (width, height))[None], style)[0]
            )
        return Sketch(drawing, self.card.style(style), tuple(faces), (photo.shape[1], photo.shape[0]))

    def _draw_face(self, photo: np.ndarray, face: Face, style: str | None, size: int | None) -> Sketch:
        """The face in the model's frame, enlarged to a long side of `size`."""
        frame = self.card.frame
        if frame is None:
            raise UsageError(
                f"model {self.card.name} was trained on pictures that were not aligned, and has no frame for a face; "
                '`--face none` (view="whole") draws the picture as it is'
            )
        scale = (size or max(frame.size())) / max(frame.size())
        aligned, _ = align(photo, face, frame, scale)
        return self._draw(aligned, style, [face], photo, scale)


def load(model: str | os.PathLike[str] = "pencil", *, threads: int | None = None) -> Sketcher:
    """A sketcher with a built-in model (see `available`) or a model file, on `threads` CPU threads.

    Raises ModelError if there is no such model, or the file is damaged or not a silverpoint model.
    """
    return Sketcher(open_model(model, threads=threads))


def eye_distance(face: Face) -> float:
    """The distance between the eyes in px, as it would be were the head not turned.

    A turned head brings the eyes together but not the mouth to the eyes; in the training frame the mouth is
    55 px below the eyes, the eyes 50 px apart.
    """
    left, right, _, *mouth = np.asarray(face.points, float)
    below = math.dist((left + right) / 2, (mouth[0] + mouth[1]) / 2)
    return max(math.dist(left, right), below * 50 / 55)


def drawing_size(
    photo: np.ndarray, face_scale: float | None, size: int | None, most: int = MOST_PIXELS
) -> tuple[int, int]:
    """(width, height) to draw `photo` (H, W, 3) at, in its proportions.

    `face_scale` is the size of its face over that of the training frame's. With a `size` that is the long
    side. Without, the face is drawn at up to MAX_FACE_SCALE if the photo has the detail (it is enlarged only
    to bring the face to 1), and the whole at no more than MAX_PIXELS, or `most` where the face would come
    out smaller than 1. Without a face the photo keeps its size, up to MAX_PIXELS.
    """
    height, width = photo.shape[:2]
    if size is not None:
        scale = size / max(width, height)
    else:
        wanted = 1.0 if face_scale is None else min(max(face_scale, 1.0), MAX_FACE_SCALE) / face_scale
        if 0.95 < wanted < 1.05:
            wanted = 1.0  # pixel for pixel, where that is as good
        limit, highest = (math.sqrt(pixels / (width * height)) for pixels in (MAX_PIXELS, most))
        if face_scale is not None:
            limit = max(limit, min(1 / face_scale, highest))
        scale = min(wanted, limit)
    return max(1, round(width * scale)), max(1, round(height * scale))


def png(image: np.ndarray) -> bytes:
    """The bytes of a PNG file of the (H, W) or (H, W, 3) uint8 image."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _read(image: Source, max_pixels: int) -> tuple[np.ndarray, str]:
    """The image as (H, W, 3) uint8 RGB, of at most `max_pixels` if it is a file, and its name in messages."""
    if isinstance(image, Image.Image):
        return read_image(_tiff(image), max_pixels=max_pixels), "the image"
    if not isinstance(image, np.ndarray):
        photo = read_image(image, max_pixels=max_pixels)
        return photo, os.fspath(image) if isinstance(image, (str, os.PathLike)) else "the image"
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or image.shape[2:] not in ((), (3,))
        or 0 in image.shape
    ):
        raise ImageError(f"expected a (H, W, 3) or (H, W) uint8 array, got {image.shape} {image.dtype}")
    return (image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)), "the image"


def _tiff(image: Image.Image) -> bytes:
    """A PIL image as a file: the reader knows what to do with every mode, depth and profile."""
    try:
        image.load()
    except Exception as error:  # as read_image meets them
        raise ImageError(f"the image: is damaged or incomplete ({error}); open it again") from error
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    stream = io.BytesIO()
    try:
        image.save(stream, "TIFF")
    except OSError as error:
        raise ImageError(
            f"the image: cannot be used in mode {image.mode} ({error}); convert it to RGB"
        ) from None
    return stream.getvalue()


def _resized(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`photo` (H, W, 3) uint8 at (width, height) `size`."""
    height, width = photo.shape[:2]
    if size == (width, height):
        return photo
    smaller = size[0] < width
    method = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(photo).resize(size, method, reducing_gap=3.0 if smaller else None))
