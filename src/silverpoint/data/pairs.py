"""Reading a dataset folder: pairs.csv and the images it names."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from silverpoint.errors import DataError
from silverpoint.image import read_image, to_grey

PRIORS = ("saliency", "layout", "sketch_saliency", "sketch_layout")


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


def read_split(dataset: Path, split: str, subset: str | None = None) -> list[Example]:
    """All pairs of a split (train, val or test), optionally of one subset, in the order of pairs.csv.

    A sketch of another size than its photo is scaled to it. Raises DataError when the folder is no dataset or
    holds no such pairs.
    """
    table = dataset / "pairs.csv"
    if not table.is_file():
        raise DataError(f"{dataset}: no pairs.csv; make a dataset folder with `silverpoint prepare`")
    with table.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == split and subset in (None, r["subset"])]
    if not rows:
        where = f"split {split!r}" + (f" and subset {subset!r}" if subset else "")
        raise DataError(f"{dataset}: no pairs with {where}")
    return [_read(dataset, row) for row in rows]


def _read(dataset: Path, row: dict[str, str]) -> Example:
    photo = read_image(dataset / row["photo"])
    sketch = _sized(to_grey(read_image(dataset / row["sketch"])), photo)
    priors = {name: _prior(dataset, row.get(name), photo) for name in PRIORS}
    return Example(row["id"], row["subset"], row.get("style") or row["subset"], photo, sketch, **priors)


def _prior(dataset: Path, name: str | None, photo: np.ndarray) -> np.ndarray | None:
    """A prior is made from the photo, so it has its size."""
    if not name:
        return None
    prior = to_grey(read_image(dataset / name))
    if prior.shape != photo.shape[:2]:
        raise DataError(f"{dataset / name}: not the size of its photo; prepare the dataset again")
    return prior


def _sized(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    if image.shape[:2] == like.shape[:2]:
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(like.shape[1::-1], Image.Resampling.LANCZOS))
