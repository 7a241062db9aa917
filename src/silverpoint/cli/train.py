"""silverpoint train METHOD DATASET... --out RUN"""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from silverpoint.errors import SilverpointError, UsageError
from silverpoint.training.options import RunOptions, build_options, flag_of

TAKES_SETTINGS = True
EXAMPLE = """\
example:
  silverpoint train pix2pix cufs/ --out runs/pix2pix --epochs 200
  silverpoint train pencil cufs/ fs2k/ --out runs/pencil --style-weights cufs=4 --lambda_l1 20
  silverpoint train pencil --out runs/pencil --resume
  torchrun --nproc-per-node 4 -m silverpoint train pix2pix cufs/ --out runs/pix2pix

Every setting of a method is a flag; `silverpoint methods METHOD` lists them with their defaults and sources.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a method",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", help="name of a method")
    parser.add_argument(
        "datasets",
        nargs="*",
        metavar="DATASET",
        help="dataset folders, from `prepare`; given after the method",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument(
        "--epochs", type=int, help="how long: all epochs, decay included, in the method's proportion"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="settings and options, as in a run's settings.yaml; flags win",
    )
    types = get_type_hints(RunOptions)
    for field in dataclasses.fields(RunOptions)[1:]:
        flag, about = flag_of(field.name), field.metadata
        words: dict[str, Any] = {"help": about["help"], "default": argparse.SUPPRESS}
        if types[field.name] is bool:
            words["action"] = "store_true"
        else:
            words |= {"metavar": about["metavar"], "choices": about["choices"] or None}
            words["type"] = types[field.name] if types[field.name] in (int, float) else str
            if field.default not in (None, (), dataclasses.MISSING):
                words["help"] += f" (default {field.default})"
        if types[field.name] == tuple[str, ...]:
            words["nargs"] = "+"
        parser.add_argument(flag, **words)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings_flags: list[str]) -> int:
    """`settings_flags` are the arguments the parser did not know: the method's settings."""
    try:
        return _train(args, settings_flags)
    except SilverpointError as error:
        if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))):  # the first process has said it
            return 2 if isinstance(error, UsageError) else 1
        raise


def _train(args: argparse.Namespace, settings_flags: list[str]) -> int:
    from silverpoint.training.settings import build_settings, parse_flags, read_yaml

    flags = parse_flags(settings_flags)
    options = {f.name: getattr(args, f.name) for f in dataclasses.fields(RunOptions) if hasattr(args, f.name)}
    if not options["datasets"]:
        del options["datasets"]
    if args.resume:
        trainer = _resumed(args, flags, options)
    else:
        from silverpoint.methods import method_class
        from silverpoint.training.trainer import Trainer

        cls = method_class(args.method).settings_class
        given, given_options = read_yaml(args.config, args.method) if args.config else ({}, {})
        settings = build_settings(cls, given | flags)
        if args.epochs is not None:
            settings = _shorten(settings, args.epochs)
        trainer = Trainer(args.method, settings, build_options(given_options | options), args.out)
    metrics = trainer.fit(resume=args.resume)
    if trainer.fabric.is_global_zero:
        found = "".join(
            f"  {direction}" + "".join(f"  {name} {value:.4f}" for name, value in values.items())
            for direction, values in metrics.items()
        )
        print(f"{args.out}: done{found}")
    return 0


def _resumed(args: argparse.Namespace, flags: Mapping[str, str], options: Mapping[str, Any]):  # type: ignore[no-untyped-def]
    """The run goes on as it began, but for the options that may change."""
    from silverpoint.training.settings import build_settings
    from silverpoint.training.trainer import read_run, resumed

    settings, _, method = read_run(args.out)
    if args.method != method:
        raise UsageError(f"{args.out}: is a run of {method}, not of {args.method}")
    if args.config:
        raise UsageError(f"--config is for a new run; {args.out} keeps the settings it began with")
    wanted = build_settings(type(settings), {**dataclasses.asdict(settings), **flags})
    if args.epochs is not None:
        wanted = _shorten(wanted, args.epochs)
    for name, value in dataclasses.asdict(wanted).items():
        if value != getattr(settings, name):
            raise UsageError(
                f"--{name} is fixed once a run has begun (here {getattr(settings, name)}); a new run can begin "
                "with this one's networks: --start-from"
            )
    return resumed(args.out, **options)


def _shorten(settings, epochs: int):  # type: ignore[no-untyped-def]
    """The method's schedule over another number of epochs, in the same proportion of constant to decaying."""
    total = settings.n_epochs + settings.n_epochs_decay
    constant = round(epochs * settings.n_epochs / max(1, total))
    return dataclasses.replace(settings, n_epochs=constant, n_epochs_decay=epochs - constant)
