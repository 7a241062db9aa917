"""silverpoint train METHOD DATASET... --out RUN"""

import argparse
import dataclasses
from pathlib import Path

TAKES_SETTINGS = True
EXAMPLE = """\
example:
  silverpoint train pix2pix cufs/ --out runs/pix2pix --epochs 200
  silverpoint train pencil cufs/ fs2k/ --out runs/pencil --style-weights cufs=2.5 --lambda_l1 20
  silverpoint train pencil cufs/ fs2k/ --out runs/pencil --resume

Every setting of a method is a flag; `silverpoint methods METHOD` lists them with their defaults and sources.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train", help="train a method", epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", help="name of a method")
    parser.add_argument(
        "datasets", nargs="*", type=Path, metavar="DATASET", help="dataset folders, from `prepare`"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument(
        "--start-from", type=Path, metavar="RUN", help="begin with the networks of another run (fine-tuning)"
    )
    parser.add_argument(
        "--epochs", type=int, help="how long: all epochs, decay included, in the method's proportion"
    )
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings file; flags win over it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", default="32-true", help="32-true, bf16-mixed, 16-mixed, ... (default 32-true)"
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--devices", default="1", help="how many, or which, e.g. 2 or 0,1")
    parser.add_argument("--save-minutes", type=float, default=5.0, help="between checkpoints (default 5)")
    parser.add_argument("--validate-epochs", type=int, default=1, help="between validations (default 1)")
    parser.add_argument(
        "--select", default="lpips_alex", help="validation metric that chooses the best checkpoint"
    )
    parser.add_argument(
        "--style-weights", default="", metavar="STYLE=W,...", help="draw a style's pairs W times as often"
    )
    parser.add_argument(
        "--unpaired",
        nargs="+",
        default=[],
        type=Path,
        metavar="DATASET",
        help="sketches for methods that use others",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings_flags: list[str]) -> int:
    """`settings_flags` are the arguments the parser did not know: the method's settings."""
    from silverpoint.methods import method_class
    from silverpoint.training.settings import build_settings, parse_flags, read_yaml
    from silverpoint.training.trainer import RunOptions, Trainer, resumed

    if args.resume:
        trainer = resumed(args.out)
    else:
        cls = method_class(args.method).settings_class
        values = read_yaml(args.config) if args.config else {}
        settings = build_settings(cls, values | parse_flags(settings_flags))
        if args.epochs is not None:
            settings = _shorten(settings, args.epochs)
        options = RunOptions(
            datasets=tuple(str(d) for d in args.datasets),
            seed=args.seed,
            precision=args.precision,
            accelerator=args.accelerator,
            devices=args.devices,
            save_minutes=args.save_minutes,
            validate_epochs=args.validate_epochs,
            select=args.select,
            style_weights=_style_weights(args.style_weights),
            unpaired=tuple(str(d) for d in args.unpaired),
            start_from=str(args.start_from) if args.start_from else None,
        )
        trainer = Trainer(args.method, settings, options, args.out)
    metrics = trainer.fit(resume=args.resume)
    print(f"{args.out}: done" + "".join(f"  {name} {value:.4f}" for name, value in metrics.items()))
    return 0


def _shorten(settings, epochs: int):  # type: ignore[no-untyped-def]
    """The method's schedule over another number of epochs, in the same proportion of constant to decaying."""
    total = settings.n_epochs + settings.n_epochs_decay
    constant = round(epochs * settings.n_epochs / max(1, total))
    return dataclasses.replace(settings, n_epochs=constant, n_epochs_decay=epochs - constant)


def _style_weights(text: str) -> dict[str, float]:
    from silverpoint.errors import UsageError

    try:
        return {name: float(weight) for name, weight in (item.split("=") for item in text.split(",") if item)}
    except ValueError:
        raise UsageError(f"--style-weights takes STYLE=NUMBER,..., not {text!r}") from None
