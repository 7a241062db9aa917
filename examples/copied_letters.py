"""Does a method copy what cannot be seen in the photo? The file names that an artist wrote above the CUFS sketches.

    python examples/copied_letters.py DATASET [--table N]
    python examples/copied_letters.py DATASET FOLDER... [--split train] [--subset AR] [--out letters.png]

Most AR and some CUHK sketches carry, above the hair, the name of the photo they were drawn from: MOST-Net's Fig. 1 (h)
shows pix2pix writing such letters, which says that it remembers the training sketch. FOLDER holds synthesised
sketches by id, from `silverpoint synthesize RUN DATASET --split train --subset AR --out FOLDER`. DATASET needs
saliency maps. `--table` writes N of the pairs with letters to DATASET/letters.csv, to train on these alone:
`silverpoint prepare pairs DATASET/letters.csv --priors saliency --val 0 --out letters`.

ink          darkness of the synthesised sketch where the real letters are, against the paper around them, as a share of
             the real letters': 1 is a copy, 0 blank paper
likeness     correlation with the real letters within their box
chance       correlation with the letters of the next sketch that has some, in the same box: what writing *something*
             there would give
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from silverpoint.data.pairs import Example, StoredExample, list_split, spread
from silverpoint.image import read_image, to_grey

ROWS = 45  # letters stand in the uppermost rows
PAPER = 215  # darker than this is ink


def letters_of(example: Example) -> np.ndarray | None:
    """(H, W) bool: ink above the person that is no edge of the sheet; None where there is too little to be a word."""
    assert example.saliency is not None
    person = Image.fromarray((example.saliency > 40).astype(np.uint8) * 255)
    near = np.asarray(person.filter(ImageFilter.MaxFilter(25))) > 0
    ink = (example.sketch < PAPER) & ~near
    ink[ROWS:] = False
    ink[:, :12] = ink[:, -12:] = False
    return ink if ink.sum() > 60 and np.ptp(np.flatnonzero(ink.any(0))) > 40 else None


def box_of(ink: np.ndarray) -> tuple[slice, slice]:
    """The box around the letters, three pixels wider."""
    sides = (np.flatnonzero(ink.any(1 - axis)) for axis in (0, 1))
    return tuple(slice(max(0, s[0] - 3), s[-1] + 4) for s in sides)  # type: ignore[return-value]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 where either is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-6 else 0.0


def score(
    fake: np.ndarray, real: np.ndarray, other: np.ndarray, ink: np.ndarray
) -> tuple[float, float, float]:
    """ink, likeness and chance of one sketch; all (H, W)."""
    box = box_of(ink)
    fake, real, other = (image[box].astype(float) for image in (fake, real, other))
    written = ink[box]
    contrast = [image[~written].mean() - image[written].mean() for image in (fake, real)]
    return contrast[0] / contrast[1], correlation(fake, real), correlation(fake, other)


def write_table(pairs: list[StoredExample], dataset: Path) -> Path:
    """These pairs as a table that `silverpoint prepare pairs` takes, all of them for training."""
    out = dataset / "letters.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(
            file, ("photo", "sketch", "id", "subset", "style", "split"), extrasaction="ignore"
        )
        table.writeheader()
        table.writerows({**pair.row, "split": "train"} for pair in pairs)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--split", default="train")
    parser.add_argument("--subset", default="AR")
    parser.add_argument("--table", type=int, default=0, metavar="N", help="write N of the pairs with letters")
    parser.add_argument("--out", type=Path, help="a sheet of the strips: real, then each folder's")
    args = parser.parse_args()
    stored = list_split(args.dataset, args.split, args.subset)
    examples = [pair.load() for pair in stored]
    if any(e.saliency is None for e in examples):
        parser.error(f"{args.dataset} has no saliency maps: prepare it with --priors saliency")
    found = [(e, ink) for e in examples if (ink := letters_of(e)) is not None]
    if not found:
        parser.error(f"{args.dataset}: no sketch of split {args.split} has letters above the hair")
    print(
        f"{len(found)} of {len(examples)} sketches have letters: {' '.join(e.id for e, _ in found[:12])} ..."
    )
    if args.table:
        ids = {e.id for e, _ in spread(found, args.table)}
        print(write_table([pair for pair in stored if pair.id in ids], args.dataset))
    if not args.folders:
        return
    print(f"{'':30s}{'ink':>8s}{'likeness':>10s}{'chance':>8s}")
    strips = [[e.sketch[:ROWS] for e, _ in found]]
    for folder in args.folders:
        fakes = [to_grey(read_image(folder / f"{e.id}.png")) for e, _ in found]
        others = [e.sketch for e, _ in [*found[1:], found[0]]]
        scores = [score(f, e.sketch, o, ink) for f, (e, ink), o in zip(fakes, found, others, strict=True)]
        ink, likeness, chance = np.mean(scores, axis=0)
        print(f"{folder!s:30s}{ink:8.3f}{likeness:10.3f}{chance:8.3f}")
        strips.append([f[:ROWS] for f in fakes])
    if args.out:
        rows = [np.concatenate([s[i] for s in strips], axis=1) for i in range(min(12, len(found)))]
        Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
