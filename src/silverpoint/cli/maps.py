"""silverpoint maps RUN... DATASET --out MAPS.png"""

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint maps runs/kt cufs/ --out maps.png
  silverpoint maps runs/kt runs/kt-alone cufs/ --id f-005-01 --split train --out maps.png

A row of the teachers, then two rows per run: with and without knowledge transfer, say (Fig. 4 of the paper).
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
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.pairs import read_split
    from silverpoint.errors import DataError
    from silverpoint.image import write_image
    from silverpoint.training.maps import map_sheet

    examples = [e for e in read_split(args.dataset, args.split) if args.id in (None, e.id)]
    if not examples:
        raise DataError(f"{args.dataset}: no pair {args.id} in the split {args.split}; pairs.csv lists them")
    write_image(map_sheet(args.runs, examples[0], args.checkpoint), args.out)
    print(f"{args.out}: maps of {examples[0].id}")
    return 0
