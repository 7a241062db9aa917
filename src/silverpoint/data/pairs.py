"""Reading a dataset folder: pairs.csv and the pictures it names, as files or as members of tar shards."""

import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from silverpoint.data.alignment import FRAMES
from silverpoint.data.shards import is_member, read_member
from silverpoint.errors import DataError
from silverpoint.image import MAX_PIXELS, read_image, to_grey

T = TypeVar("T")
PRIORS = ("saliency", "layout", "sketch_saliency", "sketch_layout")
COLUMNS = ("id", "subset", "split", "photo", "sketch", "style", *PRIORS)
MOST_HELD_OUT = 500  # for validation: more say no more about a model, and take their time after every epoch


@dataclass(frozen=True)
class Example:
    """photo (H, W, 3), sketch (H, W) and, where prepared, the priors of each (H, W): uint8 of one size."""

    id: str
    subset: str
    style: str
    photo: np.ndarray
    sketch: np.ndarray
    saliency: np.ndarray | None = None
    layout: np.ndarray | None = None  # numbers of silverpoint.data.layout.PARTS
    sketch_saliency: np.ndarray | None = None
    sketch_layout: np.ndarray | None = None

    @cached_property
    def person(self) -> np.ndarray | None:
        """The person in the photo, of saliency and layout together: (H, W) uint8, 255 on them; None without either.

        A saliency network leaves out hair that fills the picture, a face parser what is beside the head.
        """
        if self.layout is None:
            return self.saliency
        parts = np.where(self.layout > 0, np.uint8(255), np.uint8(0))
        return parts if self.saliency is None else np.maximum(parts, self.saliency)

    def load(self) -> "Example":
        return self

    def load_sketch(self) -> np.ndarray:
        return self.sketch


@dataclass(frozen=True)
class StoredExample:
    """An Example that lies on disk: id, subset and style are at hand, the pictures are read by `load`."""

    dataset: Path
    row: dict[str, str]

    @property
    def id(self) -> str:
        return self.row["id"]

    @property
    def subset(self) -> str:
        return self.row["subset"]

    @property
    def style(self) -> str:
        return self.row.get("style") or self.row["subset"]

    def load(self) -> Example:
        """The pictures in memory. A sketch of another size than its photo is scaled to it.

        Raises ImageError for one that is missing or damaged, DataError for a prior of another size.
        """
        photo = read_picture(self.dataset, self.row["photo"])
        sketch = _sized(read_picture(self.dataset, self.row["sketch"], grey=True), photo)
        priors = {name: self._prior(self.row.get(name), photo) for name in PRIORS}
        return Example(self.id, self.subset, self.style, photo, sketch, **priors)

    def load_sketch(self) -> np.ndarray:
        """The sketch alone, (H, W) uint8, of the size of its file. Raises ImageError when it is missing or damaged."""
        return read_picture(self.dataset, self.row["sketch"], grey=True)

    def _prior(self, name: str | None, photo: np.ndarray) -> np.ndarray | None:
        """A prior is made from its picture, so it has its size."""
        if not name:
            return None
        prior = read_picture(self.dataset, name, grey=True)
        if prior.shape != photo.shape[:2]:
            raise DataError(f"{self.dataset / name}: not the size of its photo; prepare the dataset again")
        return prior


def read_rows(dataset: Path) -> list[dict[str, str]]:
    """The rows of pairs.csv; the photo of a sketch alone is empty.

    Raises DataError when the folder is no dataset, a row is incomplete, or its id or subset, which name files, would
    lead to another folder.
    """
    table = dataset / "pairs.csv"
    if not table.is_file():
        raise DataError(f"{dataset}: no pairs.csv; make a dataset folder with `silverpoint prepare`")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: is damaged ({error}); prepare the dataset again") from error
    needed = ("id", "subset", "split", "sketch")
    for number, row in enumerate(rows, 2):
        if not all(row.get(name) for name in needed) or row.get("photo") is None:
            raise DataError(
                f"{table}, line {number}: needs {', '.join(needed)} and a column photo; prepare the dataset again"
            )
        for name in ("id", "subset"):
            if row[name] in (".", "..") or set("/\\") & set(row[name]):
                wrong = f"the {name} {row[name]!r} cannot name a file; give it another"
                raise DataError(f"{table}, line {number}: {wrong}")
    return rows


def protocol_of(dataset: Path) -> str:
    """Which database a folder holds, as its dataset.json says; its own name where there is none."""
    return str(_about(dataset).get("protocol", dataset.resolve().name))


def frame_of(dataset: Path) -> str | None:
    """The frame that a dataset's pictures are in, as its dataset.json says: a key of FRAMES, or None."""
    about = _about(dataset)
    if about.get("protocol") == "cufs" and about.get("alignment") == "as released":
        return "cufs"
    return frame if (frame := about.get("alignment")) in FRAMES else None


def _about(dataset: Path) -> dict[str, Any]:
    """A dataset's dataset.json; empty where there is none to read."""
    try:
        about = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def list_split(dataset: Path, split: str, subset: str | None = None) -> list[StoredExample]:
    """All pairs of a split (train, val or test), optionally of one subset, in the order of pairs.csv, unread.

    Raises DataError when the folder is no dataset, holds no such pairs, or sketches without photos among them.
    """
    found = list_sketches(dataset, split, subset)
    alone = [e.id for e in found if not e.row["photo"]]
    if alone:
        raise DataError(
            f"{dataset}: {len(alone)} of {len(found)} sketches of the split {split!r} have no photo, {alone[0]} for "
            "one; they are no pairs: learn from them with `train --unpaired`"
        )
    return found


def list_sketches(dataset: Path, split: str, subset: str | None = None) -> list[StoredExample]:
    """The same as `list_split`, sketches without photos included: their `load_sketch` alone can be called."""
    rows = [r for r in read_rows(dataset) if r["split"] == split and subset in (None, r["subset"])]
    if not rows:
        where = f"split {split!r}" + (f" and subset {subset!r}" if subset else "")
        raise DataError(f"{dataset}: no pairs with {where}")
    return [StoredExample(dataset, row) for row in rows]


def read_split(dataset: Path, split: str, subset: str | None = None) -> list[Example]:
    """The same as `list_split`, read into memory."""
    return [stored.load() for stored in list_split(dataset, split, subset)]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly from all of them."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def read_picture(dataset: Path, name: str, *, grey: bool = False) -> np.ndarray:
    """The picture that a row names, (H, W, 3) uint8, or (H, W) where `grey`. Raises ImageError when it is missing or
    damaged.
    """
    source: Path | bytes = read_member(dataset, name) if is_member(name) else dataset / name
    picture = _as_prepared(source, "L" if grey else "RGB")
    if picture is None:
        picture = read_image(source, name=str(dataset / name))
        picture = to_grey(picture) if grey else picture
    return picture


def _as_prepared(source: Path | bytes, mode: str) -> np.ndarray | None:
    """A picture that is as `prepare` writes them, without what a photograph of any kind may need; None for others.

    Half the time of `read_image`, which has the words for what is wrong.
    """
    with suppress(Exception), Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        plain = image.format in ("PNG", "JPEG") and image.mode in ("L", "RGB")
        small = image.width * image.height <= MAX_PIXELS
        if plain and small and not image.info.keys() & {"exif", "icc_profile", "transparency"}:
            return np.array(image.convert(mode))
    return None


def _sized(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    if image.shape[:2] == like.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize(like.shape[1::-1], Image.Resampling.LANCZOS))
