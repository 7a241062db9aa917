"""silverpoint prepare PROTOCOL SOURCE --out DATASET"""

import argparse
import os
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint prepare cufs downloads/cufs --out cufs/ --priors saliency layout --preview
  silverpoint prepare fs2k downloads/FS2K --out fs2k/ --align cufs
  silverpoint prepare celeba downloads/celeba --out celeba/ --simulate sobel
  silverpoint prepare pairs mine/ --out mine-prepared/ --test 0.2
  silverpoint prepare pairs portraits/ --points pupils.csv --align cufs --out simulated/

`pairs` takes mine/photos and mine/sketches and pairs them by file name; where there are only photos, sketches are
simulated from them. mine/sketches without mine/photos are sketches alone, for `train --unpaired`.

A killed or failed preparation goes on where it stopped when the same command is given again.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="turn a downloaded database into a dataset folder",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("protocol", help="cufs, cufsf, fs2k, celeba or pairs")
    parser.add_argument(
        "source", type=Path, help="the folder that was downloaded; for pairs also a .csv file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DATASET", help="the dataset folder to write"
    )
    parser.add_argument(
        "--priors", nargs="+", default=[], metavar="PRIOR",
        help="of photo and sketch, computed once and stored: saliency (asset u2netp), layout (asset bisenet)",
    )  # fmt: skip
    parser.add_argument(
        "--align", metavar="FRAME",
        help="bring every face into a frame: cufs (200x250), face96, face192, or none "
        "(default: cufsf into cufs, celeba into face96)",
    )  # fmt: skip
    parser.add_argument(
        "--points", type=Path, metavar="FILE_OR_DIR",
        help="eyes (and mouth) of the faces: a table with the columns file, left_x, left_y, right_x, right_y "
        "(mouth_x, mouth_y), or a folder of point files; what is not given is detected",
    )  # fmt: skip
    parser.add_argument(
        "--draw", type=Path, metavar="FILE",
        help="which pairs are in which split, instead of the published draw: lines of SUBSET SPLIT ID ID ...",
    )  # fmt: skip
    parser.add_argument(
        "--sketches", type=Path, metavar="DIR", help="pairs: where the sketches are, if not beside photos/"
    )
    parser.add_argument("--simulate", metavar="HOW", help="photos without sketches: sobel, pencil or xdog")
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        help="part of the training pairs held out, at most 500 (default 0.1)",
    )
    parser.add_argument("--test", type=float, default=0.0, help="pairs: part for testing (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn by --val and --test")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument(
        "--shards", action="store_true", help="pack the pictures into tar shards of 1000 pairs"
    )
    parser.add_argument(
        "--jpeg", action=argparse.BooleanOptionalAction, default=None,
        help="store JPEG of quality 95, smaller and faster to read than PNG, not bit-exact (default for celeba)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out pairs that cannot be made (exit status 1)"
    )
    parser.add_argument(
        "--preview", action="store_true", help="write DATASET/preview.png: twenty pairs with points"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.prepare import prepare
    from silverpoint.data.preview import preview
    from silverpoint.data.protocols import Source
    from silverpoint.errors import UsageError

    for name in ("val", "test"):
        if not 0 <= getattr(args, name) < 1:
            raise UsageError(f"--{name} is a part of the pairs, from 0 to below 1")
    source = Source(
        args.source,
        sketches=args.sketches,
        draw=args.draw,
        points=args.points,
        test=args.test,
        seed=args.seed,
    )
    report = prepare(
        args.protocol,
        source,
        args.out,
        val=args.val,
        seed=args.seed,
        priors=args.priors,
        frame=args.align,
        simulate=args.simulate,
        workers=args.workers,
        shards=args.shards,
        jpeg=args.jpeg,
        skip_bad=args.skip_bad,
    )
    for problem in report.problems[:20]:
        print(problem)
    if len(report.problems) > 20:
        print(f"and {len(report.problems) - 20} more; the first thousand are in {args.out / 'dataset.json'}")
    print(f"{args.out}: {report.counted}")
    if args.preview:
        print(f"{preview(args.out)}: look at it")
    return 1 if report.left_out else 0
