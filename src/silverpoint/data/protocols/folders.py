"""Any photos and sketches of one's own: two folders paired by name, or a table that says what belongs together."""

import random
from dataclasses import replace
from pathlib import Path

from silverpoint.data.points import Points, read_points, read_points_table
from silverpoint.data.protocols.listing import (
    Listing,
    Pair,
    Source,
    by_stem,
    inside,
    natural,
    read_draw,
    read_table,
    safe_id,
)
from silverpoint.errors import DataError


def pairs(source: Source) -> Listing:
    """`photos` and `sketches` in the folder (or the source's own `sketches`), paired by name without suffix; or a table
    (.csv) of the columns photo and sketch and, where one likes, id, subset, split and style.

    Where there are no sketches at all, they are to be simulated. `points` is a table of the columns file, left_x,
    left_y, right_x, right_y, or a folder of point files; a sketch's lie in a folder whose name says so. A part `test`
    of the pairs, drawn with `seed`, is for testing where nothing else decides. Raises DataError when nothing belongs
    together, or a table names what is not there.
    """
    problems: list[str] = []
    own = read_draw(source.draw, "") if source.draw else {}
    found = (
        _table(source.folder) if source.folder.suffix.lower() == ".csv" else _folders(source, problems, own)
    )
    marks = _marks(source.points)
    found = [_with_points(pair, marks) for pair in sorted(found, key=lambda p: natural(p.id))]
    undecided = [p.id for p in found if not p.split]
    test = set(random.Random(source.seed).sample(undecided, round(source.test * len(undecided))))
    decided = [replace(p, split=p.split or ("test" if p.id in test else "train")) for p in found]
    return Listing(decided, {}, problems)


def _table(path: Path) -> list[Pair]:
    found, root = [], path.parent
    for number, row in enumerate(read_table(path, ("photo",)), 2):
        photo = inside(root, row["photo"])
        sketch = inside(root, row["sketch"]) if row.get("sketch") else None
        for file in (photo, sketch):
            if file is not None and not file.is_file():
                raise DataError(f"{path}, line {number}: there is no {file}")
        subset = row.get("subset") or path.stem
        split = row.get("split") or ""
        if split not in ("", "train", "val", "test"):
            raise DataError(f"{path}, line {number}: a split is train, val or test, not {split!r}")
        id = safe_id(row.get("id") or photo.stem)
        style = row.get("style") or (subset if sketch else "simulated")
        found.append(Pair(id, safe_id(subset), split, photo, sketch, style))
    return found


def _folders(source: Source, problems: list[str], own: dict[tuple[str, str], str]) -> list[Pair]:
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
    subset = _as_id(root.resolve().name)
    style = "simulated" if simulate else subset
    return [
        Pair(_as_id(s), subset, own.get((subset, s), ""), photos[s], sketches.get(s), style) for s in common
    ]


def _as_id(name: str) -> str:
    return safe_id(name.replace(" ", "-"))


def _marks(where: Path | None) -> dict[tuple[str, str], Points]:
    """By photo or sketch and file name without suffix: of a table, or of the point files in a folder."""
    if where is None:
        return {}
    if where.is_file():
        return {_mark(Path(name)): points for name, points in read_points_table(where).items()}
    return {_mark(p.relative_to(where)): read_points(p) for p in sorted(where.rglob("*pts"))}


def _mark(path: Path) -> tuple[str, str]:
    return "sketch" if "sketch" in str(path.parent).lower() else "photo", path.stem


def _with_points(pair: Pair, marks: dict[tuple[str, str], Points]) -> Pair:
    photo = marks.get(("photo", pair.photo.stem))
    sketch = marks.get(("sketch", pair.sketch.stem)) if pair.sketch else None
    return replace(pair, photo_points=photo, sketch_points=sketch)
