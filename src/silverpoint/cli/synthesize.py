"""silverpoint synthesize RUN DATASET --split test --out DIR"""

import argparse
import sys
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint synthesize runs/pencil cufs/ --split test --subset CUHK --out fakes/
  silverpoint evaluate --fake fakes/ --data cufs/ --subset CUHK

Computes on the graphics card where there is one. Priors that a run wants and the dataset lacks are made on the way.
Exit status: 0 all written, 1 some could not be (each named on stderr, the others are written), 2 wrong usage.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "synthesize",
        help="every image of a split, named by id",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for <id>.png, or <subset>/<id>.png"
    )
    parser.add_argument("--split", default="test", help="train, val or test (default test)")
    parser.add_argument("--subset", help="only this subset, e.g. CUHK")
    parser.add_argument("--direction", choices=("photo2sketch", "sketch2photo"))
    parser.add_argument("--style", help="draw all in this style (default: each in its own, or the only one)")
    parser.add_argument(
        "--checkpoint", default="last", help="last, best or, of a method of stages, stage-NAME (default last)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    from silverpoint.data.pairs import list_split
    from silverpoint.errors import AssetError, SilverpointError, UsageError
    from silverpoint.image import write_image
    from silverpoint.training.export import load_synthesizer
    from silverpoint.training.validation import synthesize_examples

    method, direction, net = load_synthesizer(args.source, args.direction, args.checkpoint)
    stored = list_split(args.dataset, args.split, args.subset)
    several = len({e.subset for e in stored}) > 1  # ids are unique within a subset
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device)
    failed = 0
    for one in stored:
        try:
            (image,) = synthesize_examples(method, net, [one.load()], direction, device, args.style)
        except (AssetError, UsageError):  # no fault of the pair
            raise
        except SilverpointError as error:
            failed += 1
            print(f"silverpoint: {error}", file=sys.stderr)
            continue
        folder = args.out / one.subset if several else args.out
        folder.mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"{one.id}.png")
    print(f"{args.out}: {len(stored) - failed} images" + (f", {failed} failed" if failed else ""))
    return 1 if failed else 0
