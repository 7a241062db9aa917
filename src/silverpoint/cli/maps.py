"""silverpoint maps RUN... DATASET --out MAPS.png"""

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint maps runs/kt cufs/ --out maps.png
  silverpoint maps runs/kt runs/kt-alone cufs/ --id f-005-01 --split train --out maps.png

A row of the teachers, then two rows per run: with and without knowledge transfer, say (Fig. 4 of the paper). Each
tile has its own black and white; how far a student's map is from its teacher's is printed.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "maps",
        help="what the teachers and students of kt runs see",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of the method kt")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--out", type=Path, required=True, metavar="MAPS.png")
    parser.add_argument("--id", help="of the pair (default: the first of the split)")
    parser.add_argument("--split", default="test", help="train, val or test (default test)")
    parser.add_argument("--subset", help="only this subset, e.g. CUHK")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.pairs import list_split
    from silverpoint.errors import DataError
    from silverpoint.image import write_image
    from silverpoint.training.maps import map_rows, map_sheet

    stored = [e for e in list_split(args.dataset, args.split, args.subset) if args.id in (None, e.id)]
    if not stored:
        raise DataError(f"{args.dataset}: no pair {args.id} in the split {args.split}; pairs.csv lists them")
    rows = map_rows(args.runs, stored[0].load(), args.checkpoint)
    write_image(map_sheet(rows), args.out)
    print(f"{args.out}: maps of {stored[0].id}")
    print("distance from the teachers' maps (0: alike, 1: as far as no map at all), column by column:")
    for row in rows[1:]:
        print(f"{' '.join(row.name.splitlines())}: " + " ".join(f"{d:.2f}" for d in row.distances))
    return 0
