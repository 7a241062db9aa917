"""Any photos and sketches of one's own: folders paired by name, or a table that says what belongs together."""

import random
from dataclasses import replace
from pathlib import Path

from silverpoint.data.protocols.listing import (
    Listing,
    Pair,
    Source,
    by_draw,
    by_stem,
    images_under,
    inside,
    natural,
    read_table,
    safe_id,
)
from silverpoint.errors import DataError


def pairs(source: Source) -> Listing:
    """`photos` and `sketches` in the folder (or the source's own `sketches`), paired by name without suffix; or a table
    (.csv) of the columns photo and sketch and, where one likes, id, subset, split and style.

    Where there are no sketches at all, they are to be simulated. A folder `sketches` without `photos`, and a row of a
    table without a photo, are sketches alone: a target that methods learn unpaired. A part `test`, drawn with `seed`,
    is for testing where neither the table nor a draw file decides. Raises DataError when nothing belongs together, a
    table names what is not there, or a pair is not in the draw.
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
    for number, row in enumerate(read_table(path, ()), 2):
        line = f"{path}, line {number}"
        files = {kind: inside(root, row[kind], line) for kind in ("photo", "sketch") if row.get(kind)}
        if not files:
            raise DataError(f"{line}: names neither a photo nor a sketch")
        for file in files.values():
            if not file.is_file():
                raise DataError(f"{line}: there is no {file}")
        photo, sketch = files.get("photo"), files.get("sketch")
        split = row.get("split") or ""
        if split not in ("", "train", "val", "test"):
            raise DataError(f"{line}: a split is train, val or test, not {split!r}")
        stem = next(iter(files.values())).stem
        id, subset = safe_id(row.get("id") or stem, line), safe_id(row.get("subset") or path.stem, line)
        style = row.get("style") or (subset if sketch else "simulated")
        found.append(Pair(id, subset, split, photo, sketch, style))
    return found


def _folders(source: Source, problems: list[str]) -> list[Pair]:
    root = source.folder
    subset = safe_id(root.resolve().name, root)
    photo_folder = root / "photos" if (root / "photos").is_dir() else root
    sketch_folder = source.sketches or root / "sketches"
    if photo_folder == root and source.sketches is None and sketch_folder.is_dir():
        return _sketches_alone(root, sketch_folder, subset)
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
    style = "simulated" if simulate else subset
    return [
        Pair(safe_id(stem, photos[stem]), subset, "", photos[stem], sketches.get(stem), style)
        for stem in common
    ]


def _sketches_alone(root: Path, folder: Path, subset: str) -> list[Pair]:
    beside = next((path for path in images_under(root) if not path.is_relative_to(folder)), None)
    if beside:
        raise DataError(f"{beside}: lies beside sketches/; move photos to {root / 'photos'}")
    sketches = by_stem(folder)
    if not sketches:
        raise DataError(f"{folder}: no image in it")
    return [Pair(safe_id(stem, path), subset, "", None, path, subset) for stem, path in sketches.items()]
