"""silverpoint prepare PROTOCOL SOURCE --out DATASET"""

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint prepare cufs downloads/cufs --out cufs/
  silverpoint prepare fs2k downloads/FS2K --out fs2k/ --priors saliency layout
  silverpoint prepare pairs mine/ --out mine-prepared/     (mine/photos and mine/sketches, paired by file name)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="turn a downloaded database into a dataset folder",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("protocol", help="cufs, fs2k or pairs")
    parser.add_argument("source", type=Path, help="the folder that was downloaded")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DATASET", help="the dataset folder to write"
    )
    parser.add_argument(
        "--val", type=float, default=0.1, help="part of the training pairs held out (default 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the held-out draw")
    parser.add_argument(
        "--priors",
        nargs="+",
        default=[],
        metavar="PRIOR",
        help="computed once and stored: saliency (asset u2netp), layout (asset bisenet)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.prepare import prepare

    count = prepare(args.protocol, args.source, args.out, val=args.val, seed=args.seed, priors=args.priors)
    print(f"{args.out}: {count} pairs")
    return 0
