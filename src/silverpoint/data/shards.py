"""Pictures in tar shards of the WebDataset format, read at random.

A shard is an ordinary tar file in which the files of one pair follow each other and share a name up to the first
dot: 000123.photo.png, 000123.sketch.png. WebDataset streams such shards; here a pair is found by its place in the tar,
so that any order of pairs can be read, and a run can go on where it stopped.
"""

import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from silverpoint.errors import DataError

PAIRS = 1000  # in a shard
INSIDE = ".tar/"
FIELDS = ("photo", "sketch", "saliency", "layout", "sketch_saliency", "sketch_layout")


def is_member(name: str) -> bool:
    """Whether a name of pairs.csv is shards/x.tar/member, and no file."""
    return INSIDE in name


def read_member(dataset: Path, name: str) -> bytes:
    """The bytes of shards/x.tar/member. Raises DataError when the shard or the member is missing or cut short."""
    shard, member = name.split(INSIDE, 1)
    path = dataset / f"{shard}.tar"
    try:
        start, size = _places(path)[member]
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except KeyError:
        raise DataError(f"{path}: holds no {member}; prepare the dataset again") from None
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the dataset again") from error
    if len(data) != size:
        raise DataError(f"{path}: is cut short; prepare the dataset again")
    return data


@cache
def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Where each member of a shard begins, and how long it is."""
    with tarfile.open(path, "r:") as tar:
        return {m.name: (m.offset_data, m.size) for m in tar if m.isreg()}


def write_shards(root: Path, rows: Sequence[dict[str, str]], pairs: int = PAIRS) -> list[dict[str, str]]:
    """Pack the files that rows of pairs.csv name into root/shards/<split>-<number>.tar, and return the rows that name
    them there. The files stay. A shard appears whole or not at all; the same files give the same bytes.
    """
    (root / "shards").mkdir(exist_ok=True)
    packed = []
    for split in sorted({row["split"] for row in rows}):
        mine = [row for row in rows if row["split"] == split]
        for number, first in enumerate(range(0, len(mine), pairs)):
            name = f"shards/{split}-{number:05d}.tar"
            packed += _write_shard(root, name, mine[first : first + pairs], first)
    places = {(row["subset"], row["id"]): row for row in packed}
    return [places[row["subset"], row["id"]] for row in rows]


def _write_shard(root: Path, name: str, rows: Sequence[dict[str, str]], first: int) -> list[dict[str, str]]:
    packed = []
    temporary = root / f"{name}.partial"
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for place, row in enumerate(rows, first):
            renamed = dict(row)
            for field in FIELDS:
                if row.get(field):
                    member = f"{place:08d}.{field}{Path(row[field]).suffix}"
                    info = tarfile.TarInfo(member)  # no times, no owners: only what is in it
                    info.size = (root / row[field]).stat().st_size
                    with (root / row[field]).open("rb") as file:
                        tar.addfile(info, file)
                    renamed[field] = f"{name}/{member}"
            packed.append(renamed)
    temporary.rename(root / name)
    return packed
