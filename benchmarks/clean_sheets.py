"""Test sketches with their sheets cleaned as the pencil's training sketches are: a fairer mark for clean drawings.

    python benchmarks/clean_sheets.py cufs/ cleaned/ --subset CUHK
    silverpoint evaluate --fake cleaned/ --real cufs/sketches/CUHK     # what the sheets cost a method that omits them
    silverpoint evaluate --fake fakes/ --real cleaned/

The dataset folder needs its priors (`silverpoint prepare ... --priors saliency layout`).
"""

import argparse
from pathlib import Path

from silverpoint.data.pairs import read_split
from silverpoint.data.paper import clear_background, flatten_paper
from silverpoint.image import write_image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--subset")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for example in read_split(args.dataset, args.split, args.subset):
        if example.person is None:
            parser.error(
                f"{args.dataset}: {example.id} has no priors; prepare it with --priors saliency layout"
            )
        cleaned = clear_background(flatten_paper(example.sketch), example.person)
        write_image(cleaned, args.out / f"{example.id}.png")


if __name__ == "__main__":
    main()
