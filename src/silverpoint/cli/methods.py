"""silverpoint methods [METHOD]"""

import argparse
import dataclasses

EXAMPLE = """\
example:
  silverpoint methods
  silverpoint methods pix2pix
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "methods",
        help="what can be trained, and the settings of each",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", nargs="?", help="list the settings of this method")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from silverpoint.methods import method_class, names
    from silverpoint.methods.method import allowed

    if args.method:
        for field in dataclasses.fields(method_class(args.method).settings_class):
            may_be = allowed(field.metadata)
            print(
                f"--{field.name:22s} {field.default!s:14s} {field.metadata.get('source', '')}"
                + (f"  [{may_be}]" if may_be else "")
            )
        return 0
    for name in names():
        cls = method_class(name)
        summary = (cls.__doc__ or "").strip().splitlines()[0]
        print(f"{name:10s} {', '.join(cls.directions):28s} {summary}")
    return 0
