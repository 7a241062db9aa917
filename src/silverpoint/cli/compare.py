"""silverpoint compare RUN_OR_DIR... --data DATASET --out REPORT.html"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from silverpoint.cli.evaluate import (
    Bar,
    Contender,
    add_options,
    metric_names,
    of_split,
    options_of,
    seen_as,
    table_of,
    write_whole,
)
from silverpoint.errors import UsageError

EXAMPLES = """\
examples:
  silverpoint compare runs/pencil runs/pix2pix --data cufs/ --out report.html
  silverpoint compare ours/ theirs/ --data cufs/ --subset CUHK --metrics fsim,lpips_alex,fid,rank1 --out report.html

A RUN draws the images now; a DIR holds them, named by the dataset's ids, or subset/id where subsets share ids. All
are scored on the pairs that each of them has. The page needs nothing beside it: tables with paired intervals,
published rows, CMC curves, and the images on which they differ most. Exit status: 0 all done, 1 an image could not
be scored, 2 wrong usage.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="runs and folders of images side by side, as one HTML page",
        description="Score several methods on the same pairs and write one self-contained HTML page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("contenders", nargs="+", type=Path, metavar="RUN_OR_DIR")
    parser.add_argument("--data", required=True, type=Path, metavar="DATASET", help="dataset folder")
    parser.add_argument("--out", required=True, type=Path, metavar="REPORT.html")
    parser.add_argument("--split", default="test", help="of the dataset (default: test)")
    parser.add_argument("--subset", help="only this one, e.g. CUHK")
    parser.add_argument(
        "--direction", choices=("photo2sketch", "sketch2photo"), help="default: the first run's"
    )
    parser.add_argument("--sheet", type=int, default=24, metavar="N", help="images on the page (default: 24)")
    parser.add_argument("--no-floors", action="store_true", help="do not score the trivial rivals")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    names = metric_names(args.metrics)
    if not args.out.absolute().parent.is_dir():
        raise UsageError(f"--out {args.out}: there is no folder {args.out.parent}")
    if args.out.is_dir():
        raise UsageError(f"--out {args.out}: is a folder; name the file to write, report.html for one")

    from silverpoint.data.pairs import protocol_of
    from silverpoint.metrics.compare import compare
    from silverpoint.metrics.page import render

    contenders = _named(args)
    direction = next((c.direction for c in contenders.values() if c.direction), "photo2sketch")
    with Bar() as bar:
        options, reference, examples = of_split(args, options_of(args, names, bar.advance), direction)
        found: dict[str, dict[int, Any]] = {}
        failed: dict[str, dict[str, str]] = {}
        for name, contender in contenders.items():
            found[name], failed[name] = contender.images(reference, examples, options)
        common = [i for i in range(len(examples)) if all(i in images for images in found.values())]
        if not common:
            reasons = [reason for why in failed.values() for reason in why.values()]
            raise UsageError("; ".join(["there is no pair of which all have an image", *reasons[:1]]))
        fakes = {name: [images[i] for i in common] for name, images in found.items()}
        subsets = {examples[i].subset for i in common}
        comparison = compare(
            fakes,
            reference.only(common),
            options,
            floors=not args.no_floors,
            subset=subsets.pop() if len(subsets) == 1 else None,
        )
    protocol = protocol_of(args.data)
    title = f"{protocol.upper()} {args.subset or ''} {args.split}, {direction.replace('2', ' to ')}"
    page = render(
        comparison, title=" ".join(title.split()), dataset=protocol, direction=direction, sheet=args.sheet
    )
    write_whole(args.out, page)
    reports = comparison.reports
    print("\n".join([seen_as(next(iter(reports.values()))), *table_of(reports, names)]))
    for name, images in found.items():
        lacking = [n for i, n in enumerate(reference.names) if i not in images and n not in failed[name]]
        if lacking:
            print(
                f"{name} lacks {len(lacking)} of {len(examples)}: {', '.join(lacking[:5])}", file=sys.stderr
            )
        for reason in failed[name].values():
            print(f"not scored: {reason}", file=sys.stderr)
    print(f"{args.out}: {len(common)} pairs, {args.out.stat().st_size / 1e6:.1f} MB")
    return 1 if any(failed.values()) else 0


def _named(args: argparse.Namespace) -> dict[str, Contender]:
    """Every contender by its folder's name, with as much of the path before it as tells them apart."""
    if len(set(args.contenders)) < len(args.contenders):
        raise UsageError("a run or folder is named twice")
    paths = [path.resolve() for path in args.contenders]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    found: dict[str, Contender] = {}
    for path in paths:
        name = "/".join(path.parts[-depth:])
        found[name] = Contender(path, args)
    directions = {contender.direction for contender in found.values() if contender.direction}
    if len(directions) > 1:
        raise UsageError("the runs go in different directions; choose one with --direction")
    return found
