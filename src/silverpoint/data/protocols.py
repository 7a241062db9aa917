"""What the published databases look like on disk, as lists of pairs."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from silverpoint.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Pair:
    """One photo and its sketch. `split` is train or test; `style` names the hand that drew it."""

    id: str
    subset: str
    split: str
    photo: Path
    sketch: Path
    style: str


def cufs(source: Path) -> list[Pair]:
    """CUHK Face Sketch database (Wang & Tang 2009) in the layout that carries a pairs.csv; 606 pairs when complete."""
    rows = _read_csv(source / "pairs.csv", ("id", "subset", "split", "photo", "sketch"))
    return [
        Pair(r["id"], r["subset"], r["split"], source / r["photo"], source / r["sketch"], "cufs")
        for r in rows
    ]


def fs2k(source: Path) -> list[Pair]:
    """FS2K (Fan et al. 2022): photo1/image0110 <-> sketch1/sketch0110, with the styles of the annotations."""
    pairs = []
    for split in ("train", "test"):
        annotation = source / f"anno_{split}.json"
        if not annotation.exists():
            continue
        for entry in json.loads(annotation.read_text()):
            folder, name = entry["image_name"].split("/")
            number = name.removeprefix("image")
            photo = _one_image(source / ("photo" if (source / "photo").is_dir() else "photos") / folder, name)
            sketch_root = source / ("sketch" if (source / "sketch").is_dir() else "sketches")
            sketch = _one_image(sketch_root / folder.replace("photo", "sketch"), f"sketch{number}")
            style = f"fs2k{entry['style'] + 1}"
            pairs.append(Pair(f"{folder}-{number}", folder, split, photo, sketch, style))
    if not pairs:
        raise DataError(f"{source}: no anno_train.json or anno_test.json; is this the FS2K folder?")
    return pairs


def pairs(source: Path) -> list[Pair]:
    """Any two folders `photos` and `sketches`, paired by file name without suffix; every pair is for training."""
    photos, sketches = _by_stem(source / "photos"), _by_stem(source / "sketches")
    common = sorted(photos.keys() & sketches.keys())
    if not common:
        raise DataError(f"{source}: no file in photos/ has the name of one in sketches/")
    return [Pair(stem, source.name, "train", photos[stem], sketches[stem], source.name) for stem in common]


PROTOCOLS: dict[str, Callable[[Path], list[Pair]]] = {"cufs": cufs, "fs2k": fs2k, "pairs": pairs}


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: missing; is {path.parent} the right folder?")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(c not in rows[0] for c in columns):
        raise DataError(f"{path}: needs the columns {', '.join(columns)} and at least one row")
    return rows


def _images(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: missing folder")
    yield from sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _images(folder):
        if path.stem in found:
            raise DataError(f"{path}: {found[path.stem].name} has the same name; keep one of them")
        found[path.stem] = path
    return found


def _one_image(folder: Path, stem: str) -> Path:
    for suffix in IMAGE_SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise DataError(f"{folder / stem}: no image of that name")
