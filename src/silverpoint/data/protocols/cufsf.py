"""CUHK Face Sketch FERET database (Zhang, Wang & Tang 2011): 1194 persons of FERET, drawn with exaggeration.

FERET's photos come from NIST, grey and unaligned; the sketches and the points of both come from CUHK.
"""

import re
from pathlib import Path

from silverpoint.data.points import Marks, Points, points_of, read_marks
from silverpoint.data.protocols.listing import Listing, Pair, Source, images_under, read_draw
from silverpoint.errors import DataError

EXPECTED = {("", "train"): 250, ("", "test"): 944}
PERSON = re.compile(r"(\d{5})")  # 00001fa010_930831.tif <-> 00001.jpg
NAMES = "names_of_photos_used_for_drawing_sketches.txt"


def cufsf(source: Source) -> Listing:
    """Folders whose names say photo or sketch; photo_points and sketch_points with .3pts files, where there are any.

    FERET has several photos of most persons: where the folder has too, the list of those that were drawn
    (`names_of_photos_used_for_drawing_sketches.txt`) decides. Cropped sketches are taken before original ones when
    no points are given. Raises DataError for a folder without pairs.
    """
    draw = {id: split for (_, id), split in read_draw(source.draw, "cufsf").items()}
    problems: list[str] = []
    photos: dict[str, list[Path]] = {}
    sketches: dict[str, list[Path]] = {}
    for path in images_under(source.folder):
        where = "/".join(path.relative_to(source.folder).parent.parts).lower()
        match = PERSON.match(path.stem)
        if match is None or ("sketch" not in where and "photo" not in where and "feret" not in where):
            problems.append(f"{path}: belongs to no folder or name of CUFSF")
            continue
        (sketches if "sketch" in where else photos).setdefault(match[1], []).append(path)
    drawn = _drawn(source.folder)
    marks = read_marks(source.folder) if any(source.folder.rglob("*.3pts")) else {}
    marked = bool(marks or source.points)
    pairs = []
    for id in sorted(photos.keys() | sketches.keys()):
        photo = _one(photos.get(id, []), drawn, problems)
        sketch = _sketch(sketches.get(id, []), source.folder, marked)
        if photo is None or sketch is None:
            problems.append(f"{photo or sketch or id}: has no {'sketch' if photo else 'photo'}")
            continue
        split = draw.get(id, "test") if source.draw is None else draw.get(id)
        if split is None:
            raise DataError(f"{photo}: {id} is not in {source.draw}")
        points, drawn_points = _points(marks, "photo", photo, id), _points(marks, "sketch", sketch, id)
        pairs.append(Pair(id, "CUFSF", split, photo, sketch, "cufsf", points, drawn_points))
    if not pairs:
        raise DataError(f"{source.folder}: no folders of photos and sketches with FERET's numbers")
    return Listing(pairs, {} if source.draw else EXPECTED, problems)


def _drawn(folder: Path) -> set[str]:
    """The stems of the photos that were drawn from; empty without the list."""
    lists = sorted(folder.rglob(NAMES))
    return {Path(line.strip()).stem for line in lists[0].read_text().splitlines()} if lists else set()


def _one(paths: list[Path], drawn: set[str], problems: list[str]) -> Path | None:
    if len(paths) > 1:
        chosen = [p for p in paths if p.stem in drawn]
        if len(chosen) != 1:
            problems.append(f"{paths[0]}: one of {len(paths)} photos of this person; the first is taken")
        return (chosen or paths)[0]
    return paths[0] if paths else None


def _sketch(paths: list[Path], root: Path, marked: bool) -> Path | None:
    """The points are of the original sketches; without them the cropped ones are nearer to the frame."""
    wanted = "original" if marked else "cropped"
    folders = {path: str(path.relative_to(root).parent).lower() for path in paths}
    return min(paths, key=lambda p: (wanted not in folders[p], str(p)), default=None)


def _points(marks: Marks, kind: str, image: Path, id: str) -> Points | None:
    """By the picture's name, else by the person's number."""
    return points_of(marks, kind, image) or points_of(marks, kind, image.with_stem(id))
