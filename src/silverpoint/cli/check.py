"""silverpoint check DATASET"""

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint check cufs/

One page about counts, draw, damage, leaks between the splits, pairing and alignment. The exit status is 1 when
something was found that would spoil a result.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "check",
        help="the dataset doctor: what would spoil a result",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.check import check

    found = check(args.dataset)
    print(found.page())
    return 1 if found.faults else 0
