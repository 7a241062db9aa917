"""silverpoint synthesize RUN DATASET --split test --out DIR"""

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint synthesize runs/pencil cufs/ --split test --subset CUHK --out fakes/
  silverpoint evaluate --fake fakes/ --real cufs/sketches/CUHK
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
    parser.add_argument("--style", help="draw all in this style (default: each in its own)")
    parser.add_argument(
        "--checkpoint", default="last", help="last, best or, of a method of stages, stage-NAME (default last)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    from silverpoint.data.pairs import read_split
    from silverpoint.image import write_image
    from silverpoint.training.export import load_synthesizer
    from silverpoint.training.validation import synthesize_examples

    method, direction, net = load_synthesizer(args.source, args.direction, args.checkpoint)
    examples = read_split(args.dataset, args.split, args.subset)
    images = synthesize_examples(method, net, examples, direction, torch.device("cpu"), args.style)
    several = len({e.subset for e in examples}) > 1  # ids are unique within a subset
    for example, image in zip(examples, images, strict=True):
        folder = args.out / example.subset if several else args.out
        folder.mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"{example.id}.png")
    print(f"{args.out}: {len(images)} images")
    return 0
