"""silverpoint export RUN --out MODEL.onnx"""

import argparse
import json
from pathlib import Path

EXAMPLE = """\
example:
  silverpoint export runs/pencil --out pencil.onnx --about '{"licence": "research only", "dataset": "CUFS train"}'
  silverpoint sketch me.jpg --model pencil.onnx
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a run's synthesis network as one ONNX file",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL.onnx")
    parser.add_argument("--direction", choices=("photo2sketch", "sketch2photo"))
    parser.add_argument(
        "--checkpoint", default="last", help="last, best or, of a method of stages, stage-NAME (default last)"
    )
    parser.add_argument("--full", action="store_true", help="store weights in 32 bits instead of 16")
    parser.add_argument(
        "--about", default="{}", metavar="JSON", help="more metadata: name, dataset, licence, ..."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.errors import UsageError
    from silverpoint.training.export import export

    try:
        about = json.loads(args.about)
    except ValueError as error:
        raise UsageError(f"--about is not JSON: {error}") from None
    difference = export(
        args.source,
        args.out,
        direction=args.direction,
        checkpoint=args.checkpoint,
        half=not args.full,
        about=about,
    )
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.1f} MB, agrees with torch to {difference:.1e}")
    return 0
