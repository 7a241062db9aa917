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
    parser.add_argument(
        "--average-with",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="average the weights with those of other runs that share a beginning with this one",
    )
    parser.add_argument(
        "--styles",
        nargs="+",
        default=[],
        metavar="STYLE",
        help="hands to keep, the default one first (default: all)",
    )
    parser.add_argument(
        "--bits", type=int, choices=(32, 16, 8), default=16, help="that a weight is stored in (default 16)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATASET",
        help="measure the file, and what storing it cost, on these pairs",
    )
    parser.add_argument("--split", default="test", help="of --data: train, val or test (default test)")
    parser.add_argument("--subset", help="of --data: only this subset, e.g. CUHK")
    parser.add_argument(
        "--about", default="{}", metavar="JSON", help="more metadata: name, dataset, licence, ..."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.data.pairs import read_split
    from silverpoint.errors import UsageError
    from silverpoint.training.export import export

    try:
        about = json.loads(args.about)
    except ValueError as error:
        raise UsageError(f"--about is not JSON: {error}") from None
    exported = export(
        args.source,
        args.out,
        direction=args.direction,
        checkpoint=args.checkpoint,
        average_with=args.average_with,
        styles=args.styles,
        bits=args.bits,
        judged_on=read_split(args.data, args.split, args.subset) if args.data else (),
        about=about,
    )
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.1f} MB, agrees with torch to {exported.difference:.1e}")
    print(f"one picture: {exported.seconds * 1e3:.0f} ms, in torch {exported.torch_seconds * 1e3:.0f} ms")
    if exported.dilation:
        forms = ", ".join(f"{form} {seconds * 1e3:.0f} ms" for form, seconds in exported.dilation.items())
        print(f"dilated convolutions: {forms}; the file has the faster")
    for name, value in exported.metrics.items():
        print(f"{name}: {value:.4f}, in torch {exported.torch_metrics[name]:.4f}")
    if "licence" not in about:
        print(
            "the file states no licence; its weights are bound by that of their data: --about '{\"licence\": ...}'"
        )
    return 0
