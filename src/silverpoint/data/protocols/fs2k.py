"""FS2K (Fan et al. 2022): 2104 photos as people take them, drawn in three styles, with attributes."""

import json
from pathlib import Path
from typing import Any

from silverpoint.data.protocols.listing import (
    IMAGE_SUFFIXES,
    Listing,
    Pair,
    Source,
    by_draw,
    inside,
    safe_id,
)
from silverpoint.errors import DataError

EXPECTED = {("", "train"): 1058, ("", "test"): 1046}


def fs2k(source: Source) -> Listing:
    """The folder as downloaded: photo/photo1/image0110.jpg <-> sketch/sketch1/sketch0110.jpg and the two annotations.

    The split is the annotations', the style is 0, 1 or 2 there and fs2k1, fs2k2 or fs2k3 here; all else they say of a
    face is an attribute. Raises DataError without an annotation, for one that is damaged, or a pair outside the draw.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    for split in ("train", "test"):
        annotation = source.folder / f"anno_{split}.json"
        if annotation.exists():
            for entry in _entries(annotation):
                pair = _pair(annotation, entry, split, problems)
                if pair is not None:
                    pairs.append(pair)
    if not pairs and not problems:
        raise DataError(f"{source.folder}: no anno_train.json or anno_test.json; is this the FS2K folder?")
    if not pairs:
        raise DataError(f"{source.folder}: holds none of the pairs of its annotations, {problems[0]}")
    if source.draw:
        return Listing(by_draw(pairs, source.draw), {}, problems)
    return Listing(pairs, EXPECTED, problems)


def _entries(annotation: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(annotation.read_text(encoding="utf-8"))
        if all(isinstance(e["image_name"], str) and int(e["style"]) >= 0 for e in entries):
            return list(entries)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{annotation}: not an annotation of FS2K; download it again")


def _pair(annotation: Path, entry: dict[str, Any], split: str, problems: list[str]) -> Pair | None:
    folder, _, name = entry["image_name"].partition("/")
    number = name.removeprefix("image")
    subset = safe_id(folder, annotation)
    id = safe_id(f"{subset}-{number}", annotation)
    photo = _image(annotation, ("photo", "photos"), folder, f"image{number}")
    sketch = _image(annotation, ("sketch", "sketches"), folder.replace("photo", "sketch"), f"sketch{number}")
    if photo is None or sketch is None:
        problems.append(f"{annotation.name}: {entry['image_name']} has no {'sketch' if photo else 'photo'}")
        return None
    attributes = {
        key: " ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
        for key, value in entry.items()
        if key not in ("image_name", "style")
    }
    style = f"fs2k{int(entry['style']) + 1}"
    return Pair(id, subset, split, photo, sketch, style, attributes=attributes)


def _image(annotation: Path, kinds: tuple[str, ...], folder: str, stem: str) -> Path | None:
    for kind in kinds:
        for suffix in IMAGE_SUFFIXES:
            path = inside(annotation.parent, f"{kind}/{folder}/{stem}{suffix}", str(annotation))
            if path.is_file():
                return path
    return None
