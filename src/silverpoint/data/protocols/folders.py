"""Any photos and sketches of one's own: two folders paired by name, or a table that says what belongs together."""

import random
from dataclasses import replace
from pathlib import Path

from silverpoint.data.protocols.listing import (
    Listing,
    Pair,
    Source,
    by_draw,
    by_stem,
    inside,
    natural,
    read_table,
    safe_id,
)
from silverpoint.errors import DataError


def pairs(source: Source) -> Listing:
    """`photos` and `sketches` in the folder (or the source's own `sketches`), paired by name without suffix; or a table
    (.csv) of the columns photo and sketch and, where one likes, id, subset, split and style.

    Where there are no sketches at all, they are to be simulated. A part `test` of the pairs, drawn with `seed`, is for
    testing where neither the table nor a draw file decides. Raises DataError when nothing belongs together, a table
    names what is not there, or a pair is not in the draw.
    """
    problems: list[str] = []
    is_table = source.folder.suffix.lower() == ".csv"
    found = _table(source.folder) if is_table else _folders(source, problems)
    found.sort(key=lambda p: natural(p.id))
    if source.draw:
        found = by_draw(found, source.draw)
    undecided = [(p.subset, p.id) for p in found if not p.split]
    test = set(random.Random(source.seed).sample(undecided, round(source.test * len(undecided))))
    decided = [replace(p, split=p.split or ("test" if (p.subset, p.id) in test else "train")) for p in found]
    return Listing(decided, {}, problems)


def _table(path: Path) -> list[Pair]:
    found, root = [], path.parent
    for number, row in enumerate(read_table(path, ("photo",)), 2):
        line = f"{path}, line {number}"
        photo = inside(root, row["photo"], line)
        sketch = inside(root, row["sketch"], line) if row.get("sketch") else None
        for file in (photo, sketch):
            if file is not None and not file.is_file():
                raise DataError(f"{line}: there is no {file}")
        split = row.get("split") or ""
        if split not in ("", "train", "val", "test"):
            raise DataError(f"{line}: a split is train, val or test, not {split!r}")
        id, subset = safe_id(row.get("id") or photo.stem, line), safe_id(row.get("subset") or path.stem, line)
        style = row.get("style") or (subset if sketch else "simulated")
        found.append(Pair(id, subset, split, photo, sketch, style))
    return found


def _folders(source: Source, problems: list[str]) -> list[Pair]:
    root = source.folder
    photo_folder = root / "photos" if (root / "photos").is_dir() else root
    sketch_folder = source.sketches or root / "sketches"
    photos = by_stem(photo_folder)
    simulate = source.sketches is None and not sketch_folder.is_dir()
    sketches = {} if simulate else by_stem(sketch_folder)
    if not simulate:
        problems += [f"{photos[stem]}: has no sketch" for stem in sorted(photos.keys() - sketches.keys())]
        problems += [f"{sketches[stem]}: has no photo" for stem in sorted(sketches.keys() - photos.keys())]
    common = [stem for stem in photos if simulate or stem in sketches]
    if not common:
        found = "no image in it" if not photos else f"no file has the name of one in {sketch_folder}"
        raise DataError(f"{photo_folder}: {found}")
    subset = safe_id(root.resolve().name, root)
    style = "simulated" if simulate else subset
    return [
        Pair(safe_id(stem, photos[stem]), subset, "", photos[stem], sketches.get(stem), style)
        for stem in common
    ]
