"""silverpoint photo: sketches into photographs."""

from __future__ import annotations

import argparse
from typing import Any

from silverpoint.cli import sketch
from silverpoint.errors import UsageError

EXAMPLES = """\
examples:
  silverpoint photo drawing.png --model sketch2photo.onnx          makes drawing-photo.png beside the sketch
  silverpoint photo drawings -o photos --model sketch2photo.onnx

No model of this direction comes with silverpoint yet: train one on a dataset of your own and write it with
`silverpoint export --direction sketch2photo`.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "photo",
        help="sketch(es) into photo(s)",
        description="Turn sketches of people into photographs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(kind="photo", direction="sketch2photo")
    sketch.add_arguments(parser, "sketch", "photo")
    parser.add_argument("--model", metavar="M", help="a .onnx file of the direction sketch2photo")


rewrite = sketch.rewrite


def run(args: argparse.Namespace) -> int:
    if args.model is None:
        raise UsageError(
            "no model for sketch -> photo comes with silverpoint; give a model file with --model FILE.onnx"
        )
    return sketch.run(args)
