"""CUHK Face Sketch database (Wang & Tang 2009): 606 pairs of CUHK students, AR and XM2VTS."""

import re
from pathlib import Path

from silverpoint.data.protocols.listing import (
    Listing,
    Pair,
    Source,
    images_under,
    inside,
    natural,
    read_draw,
    read_table,
    safe_id,
)
from silverpoint.errors import DataError

SIZE = (200, 250)
EXPECTED = {
    ("CUHK", "train"): 88,
    ("CUHK", "test"): 100,
    ("AR", "train"): 80,
    ("AR", "test"): 43,
    ("XM2VTS", "train"): 100,
    ("XM2VTS", "test"): 195,
}
# Line and shading differ from one to the other as much as between two artists.
HAND = {"CUHK": "cufs", "AR": "cufs-ar", "XM2VTS": "cufs-xm2vts"}
# What the folders above a file say, the nearest first
SUBSET = {"CUHK": r"cuhk", "AR": r"(^|[^a-z])ar([^a-z]|$)", "XM2VTS": r"xm2vts"}
KIND = {"photo": "photo", "sketch": "sketch"}
SPLIT = {"train": "train", "test": "test"}
# f-039-01.jpg <-> F2-039-01-sz1.jpg, m1-001-01.jpg <-> m1-001-01-sz1.jpg
CUHK_NAME = re.compile(r"([fm])([12]?)-(\d+)-(\d+)")
AR_NAME = re.compile(r"([mfw])2?-(\d+)")  # m-001-1.bmp <-> M2-001-1-sz1.jpg; a person has one photo
NUMBER = re.compile(
    r"\d+"
)  # XM2VTS: 003_1_1.ppm <-> 003_1_1-sz1.jpg; the circulated crops: 21.jpg <-> 21.jpg


def cufs(source: Source) -> Listing:
    """Three layouts: a pairs.csv; the database's own folders (CUHK_training_cropped_photos/photos, ...); and the crops
    that circulate (AR/Training Photos, ...). Rows of the table whose files are not there count as missing pairs.

    Raises DataError for a folder that is none of these, or an id outside the draw.
    """
    draw = read_draw(source.draw, "cufs")
    problems: list[str] = []
    has_table = (source.folder / "pairs.csv").is_file()
    found = _table(source.folder, problems) if has_table else _folders(source.folder, problems)
    pairs = []
    for (subset, id), (photo, sketch, released) in sorted(found.items(), key=lambda item: _order(item[0])):
        # A table says its own split, and the students' is the database's; a draw file wins over everything.
        trusted = source.draw is None and (has_table or subset == "CUHK")
        split = draw.get((subset, id)) or (released if trusted else None)
        if split is None:
            raise DataError(
                f"{photo}: {subset} {id} is not in the draw; the published one numbers the circulated crops, "
                "for other names give a draw file with --draw"
            )
        if source.draw is None and released and split != released:
            problems.append(f"{photo}: lies with the {released} pairs, but is drawn for {split}")
        pairs.append(Pair(id, subset, split, photo, sketch, HAND[subset]))
    if not pairs:
        raise DataError(f"{source.folder}: no pairs.csv and no folders of photos and sketches of CUFS")
    return Listing(pairs, {} if source.draw else EXPECTED, problems, SIZE)


def _order(key: tuple[str, str]) -> tuple[int, list[tuple[int, int | str]]]:
    return list(SUBSET).index(key[0]), natural(key[1])


Found = dict[tuple[str, str], tuple[Path, Path, str | None]]


def _table(folder: Path, problems: list[str]) -> Found:
    table = folder / "pairs.csv"
    found: Found = {}
    seen: set[tuple[str, str]] = set()
    missing: list[str] = []
    for number, row in enumerate(read_table(table, ("id", "subset", "split", "photo", "sketch")), 2):
        line = f"{table}, line {number}"
        subset, id = row["subset"], safe_id(row["id"], line)
        if subset not in SUBSET:
            raise DataError(f"{line}: no subset {subset!r} in CUFS; it has {', '.join(SUBSET)}")
        if (subset, id) in seen:
            raise DataError(f"{line}: {subset} {id} stands in it twice; keep one of them")
        seen.add((subset, id))
        photo, sketch = (inside(folder, row[kind], line) for kind in ("photo", "sketch"))
        absent = [str(file) for file in (photo, sketch) if not file.is_file()]
        if absent:
            missing.append(f"{line}: there is no {' and no '.join(absent)}")
            continue
        people = [_person(subset, file.stem) for file in (photo, sketch)]
        if subset == "CUHK" and None not in people and people[0] != people[1]:
            problems.append(f"{line}: {photo.name} and {sketch.name} are of different people")
        found[subset, id] = photo, sketch, row["split"]
    if not found:
        raise DataError(f"{folder}: holds none of the pairs of its table, {missing[0]}")
    if missing:
        problems.append(missing[0] + (f"; so it is with {len(missing)} rows" if len(missing) > 1 else ""))
    return found


def _folders(folder: Path, problems: list[str]) -> Found:
    photos: dict[tuple[str, str], tuple[Path, str | None]] = {}
    sketches: dict[tuple[str, str], tuple[Path, str | None]] = {}
    for path in images_under(folder):
        parts = path.relative_to(folder).parent.parts
        subset = _nearest((folder.name, *parts), SUBSET)  # the folder of one subset may be what was given
        kind, split = _nearest(parts, KIND), _nearest(parts, SPLIT)
        id = _person(subset, path.stem)
        if subset is None or id is None or kind is None:
            problems.append(f"{path}: belongs to no folder or name of CUFS")
            continue
        side = sketches if kind == "sketch" else photos
        if (subset, id) in side:  # the download has the photographs before they were cropped too
            other = side[subset, id][0]
            if _cropped(path, folder) == _cropped(other, folder):
                raise DataError(f"{path}: {other} is of the same person; keep one of them")
            if _cropped(other, folder):
                continue
        side[subset, id] = path, split
    problems += [f"{photos[key][0]}: has no sketch" for key in sorted(photos.keys() - sketches.keys())]
    problems += [f"{sketches[key][0]}: has no photo" for key in sorted(sketches.keys() - photos.keys())]
    both = photos.keys() & sketches.keys()
    for key in sorted(both):
        if photos[key][1] != sketches[key][1]:
            problems.append(f"{photos[key][0]}: its sketch lies in another split's folder")
    return {key: (photos[key][0], sketches[key][0], photos[key][1]) for key in both}


def _cropped(path: Path, root: Path) -> bool:
    return "cropped" in str(path.relative_to(root).parent).lower()


def _nearest(parts: tuple[str, ...], patterns: dict[str, str]) -> str | None:
    """What the innermost folder says that says one of these things."""
    for part in reversed(parts):
        said = [name for name, pattern in patterns.items() if re.search(pattern, part.lower())]
        if len(said) == 1:
            return said[0]
    return None


def _person(subset: str | None, stem: str) -> str | None:
    """The id of whom a file shows, the same for photo and sketch."""
    stem = stem.lower()
    if subset == "CUHK" and (m := CUHK_NAME.match(stem)):
        return f"{m[1]}{m[2].replace('2', '')}-{m[3]}-{m[4]}"
    if subset == "AR" and (m := AR_NAME.match(stem)):
        return f"{m[1]}-{m[2]}"
    if subset in ("AR", "XM2VTS") and (m := NUMBER.match(stem)):
        return m[0]
    return None
