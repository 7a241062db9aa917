"""What a protocol finds in a downloaded folder: pairs, what was expected, and what does not fit."""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from silverpoint.data.points import Points
from silverpoint.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Source:
    """What a person hands to `prepare`: the downloaded folder and, where a protocol takes them, more."""

    folder: Path
    sketches: Path | None = None  # another folder than the protocol's own for the sketches
    draw: Path | None = None  # which pair is in which split, instead of the published draw
    points: Path | None = None  # point files, or a table of points
    test: float = 0.0  # part of the pairs for testing, where the protocol has no draw
    seed: int = 0  # of that part


@dataclass(frozen=True)
class Pair:
    """One photo and its sketch. `split` is train, val or test; `style` names the hand that drew it.

    `sketch` is None where one is to be simulated from the photo, `photo` where a sketch has none. Points are those of
    the files, where known.
    """

    id: str
    subset: str
    split: str
    photo: Path | None
    sketch: Path | None
    style: str
    photo_points: Points | None = None
    sketch_points: Points | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """What a person is told of."""
        return self.photo or self.sketch


@dataclass
class Listing:
    """The pairs of a source; `problems` names what belongs to none.

    `expected` says how many there are of each (subset, split) when the source is complete; "" is all subsets.
    """

    pairs: list[Pair]
    expected: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None  # width and height of every released picture

    def count(self) -> str:
        """'368 of 606 pairs; 238 test pairs missing (AR 43, XM2VTS 195)'."""
        return count_pairs(Counter((p.subset, p.split) for p in self.pairs), self.expected)


def count_pairs(found: Mapping[tuple[str, str], int], expected: Mapping[tuple[str, str], int]) -> str:
    """One line about how many pairs there are, and which are missing; val counts as the train it was taken from."""
    have: Counter[tuple[str, str]] = Counter()
    for (subset, split), n in found.items():
        split = "train" if split == "val" and ("", "val") not in expected else split
        have[subset, split] += n
        have["", split] += n
    total = sum(expected.values())
    text = f"{sum(found.values())} of {total} pairs" if total else f"{sum(found.values())} pairs"
    for split in ("train", "val", "test"):
        lacking = {
            s: n - have[s, split] for (s, sp), n in expected.items() if sp == split and n > have[s, split]
        }
        if lacking:
            named = ", ".join(f"{subset} {n}" for subset, n in lacking.items() if subset)
            text += f"; {sum(lacking.values())} {split} pairs missing" + (f" ({named})" if named else "")
    return text


def read_draw(path: Path | None, published: str) -> dict[tuple[str, str], str]:
    """(subset, id) -> split, of a draw file or, without one, of the package's own `published`.

    Every line is a subset, a split and the ids in it; # begins a comment. Raises DataError for a file that is none
    or puts an id into two splits.
    """
    if path is None:
        text, name = (files("silverpoint.data") / "draws" / f"{published}.txt").read_text(), published
    else:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a readable draw file ({error})") from error
    splits: dict[tuple[str, str], str] = {}
    for number, line in enumerate(unicodedata.normalize("NFC", text).splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) < 3 or words[1] not in ("train", "val", "test"):
            raise DataError(
                f"{name}, line {number}: begin with a subset and train, val or test, then give ids"
            )
        for id in words[2:]:
            if (words[0], id) in splits:
                raise DataError(f"{name}, line {number}: {id} stands in it twice")
            splits[words[0], id] = words[1]
    if not splits:
        raise DataError(f"{name}: holds no draw")
    return splits


def by_draw(pairs: Iterable[Pair], path: Path) -> list[Pair]:
    """The pairs in the splits of a draw file; DataError for a pair that it does not name."""
    splits = read_draw(path, "")
    found = []
    for pair in pairs:
        if (pair.subset, pair.id) not in splits:
            raise DataError(f"{pair.file}: {pair.subset} {pair.id} is not in {path}")
        found.append(replace(pair, split=splits[pair.subset, pair.id]))
    return found


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that must have `columns`; DataError when it is missing or another table."""
    if not path.is_file():
        raise DataError(f"{path}: missing; is {path.parent} the right folder?")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table of comma-separated text ({error})") from error
    if not rows or any(row.get(c) is None for c in columns for row in rows):
        named = f"the columns {', '.join(columns)} and " if columns else ""
        raise DataError(f"{path}: needs {named}at least one row")
    return rows


def images_under(folder: Path) -> Iterator[Path]:
    """Every image file below `folder`, in the order of their names; hidden ones left out."""
    if not folder.is_dir():
        raise DataError(f"{folder}: missing folder")
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            yield path


def by_stem(folder: Path) -> dict[str, Path]:
    """The images below `folder` by their name without suffix, in NFC; DataError when two share one."""
    found: dict[str, Path] = {}
    for path in images_under(folder):
        stem = unicodedata.normalize("NFC", path.stem)
        if stem in found:
            raise DataError(f"{path}: {found[stem].name} has the same name; keep one of them")
        found[stem] = path
    return found


def inside(folder: Path, name: str, where: str) -> Path:
    """A file that the table's line `where` names; DataError when it names one outside the table's folder.

    Links that lie in the folder are its owner's, wherever they lead.
    """
    path = folder / name
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise DataError(f"{where}: {name} lies outside {folder}; move it there")
    return path


def safe_id(name: str, where: object) -> str:
    """An id that can name a file: `name` in NFC, with - for all but letters, digits, dots, + and _.

    Raises DataError, which says `where` the name is from, when nothing is left of it.
    """
    id = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", name)).lstrip(".-").rstrip("-")
    if not id:
        raise DataError(f"{where}: {name!r} cannot name a file; use letters or digits")
    return id


def natural(text: str) -> list[tuple[int, int | str]]:
    """A key that sorts 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part]
