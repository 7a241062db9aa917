"""CelebA (Liu et al. 2015): 202,599 aligned faces without sketches, which are simulated (DA-GAN, section 3.2)."""

from pathlib import Path

from silverpoint.data.points import Points
from silverpoint.data.protocols.listing import Listing, Pair, Source, images_under, read_draw
from silverpoint.errors import DataError

TRAIN = 160_000
EXPECTED = {("", "train"): TRAIN, ("", "test"): 42_599}
SIZE = (178, 218)
OFFICIAL = {"0": "train", "1": "val", "2": "test"}


def celeba(source: Source) -> Listing:
    """The folder img_align_celeba, with list_landmarks_align_celeba.txt for its points where it is there.

    DA-GAN trains on 160,000 and tests on 42,599 without saying which: here the first 160,000 of the official training
    part are for training, all others for testing. With --draw list_eval_partition.txt the split is the official one.
    Raises DataError for a folder without these images or a damaged list.
    """
    problems: list[str] = []
    photos = []
    for path in images_under(_aligned(source.folder)):
        if path.stem.isdigit():
            photos.append(path)
        else:
            problems.append(f"{path}: no number of CelebA")
    if not photos:
        raise DataError(f"{source.folder}: no aligned images of CelebA (img_align_celeba/000001.jpg)")
    splits = _splits(source)
    points = _landmarks(source.folder)
    if not points:
        problems.append(
            f"{source.folder}: no list_landmarks_align_celeba.txt; eyes are detected where not given"
        )
    pairs = []
    for photo in photos:
        split = splits.get(photo.stem) if splits else "train" if int(photo.stem) <= TRAIN else "test"
        if split is None:
            raise DataError(f"{photo}: is not in {source.draw}")
        pairs.append(Pair(photo.stem, "CelebA", split, photo, None, "simulated", points.get(photo.stem)))
    return Listing(pairs, {} if splits else EXPECTED, problems, SIZE)


def _aligned(folder: Path) -> Path:
    named = sorted(p for p in folder.rglob("img_align_celeba*") if p.is_dir() and any(p.glob("*.[jp]*g")))
    return named[0] if named else folder


def _splits(source: Source) -> dict[str, str]:
    """The stems' splits of a draw file or of the official partition; empty without one."""
    if source.draw is None:
        return {}
    try:
        rows = [line.split() for line in source.draw.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source.draw}: not a readable draw file ({error})") from error
    if rows and all(len(row) == 2 and row[1] in OFFICIAL for row in rows):
        return {Path(name).stem: OFFICIAL[part] for name, part in rows}
    return {id: split for (_, id), split in read_draw(source.draw, "").items()}


def _landmarks(folder: Path) -> dict[str, Points]:
    """Eyes and middle of the mouth by stem, of list_landmarks_align_celeba.txt; empty without it."""
    lists = sorted(folder.rglob("list_landmarks_align_celeba.txt"))
    found: dict[str, Points] = {}
    if lists:
        for number, line in enumerate(lists[0].read_text(encoding="utf-8").splitlines()[2:], 3):
            try:
                name, *numbers = line.split()
                x1, y1, x2, y2, _, _, x3, y3, x4, y4 = map(float, numbers)
            except ValueError:
                raise DataError(f"{lists[0]}, line {number}: needs a name and ten numbers") from None
            found[Path(name).stem] = ((x1, y1), (x2, y2), ((x3 + x4) / 2, (y3 + y4) / 2))
    return found
