"""silverpoint evaluate: images against the real ones, in numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silverpoint import files
from silverpoint.errors import DataError, UsageError
from silverpoint.scores import HEADINGS, HIGHER_IS_BETTER, IN_PERCENT, METRICS

if TYPE_CHECKING:
    from tqdm import tqdm

    from silverpoint.metrics.evaluate import Options, Progress
    from silverpoint.metrics.reference import Reference

EXAMPLES = """\
examples:
  silverpoint evaluate --run runs/pencil --data cufs/ --split test --json scores.json
  silverpoint evaluate --fake results/ --data cufs/ --split test --subset CUHK
  silverpoint evaluate --fake results/ --real sketches/
  silverpoint evaluate --fake results/ --real sketches/ --photos photos/ --train train/sketches \\
      --train-photos train/photos --json scores.json
  silverpoint evaluate --fake results/ --real sketches/ --geometry padded256
  silverpoint evaluate --fake faces/ --real photos/ --colour --geometry native

Images are paired by their name without suffix (subfolders count: CUHK/f-005-01); with a dataset by id, or
subset/id where subsets share ids, as `synthesize` names them. Pairs of several subfolders or subsets are also
scored one by one. FID and KID compare the two sets and depend on n: compare them only at equal n. The rows in
brackets are floors: the input itself, another person's sketch, the mean sketch, the blurred true one; a method's
number means something where it beats them. docs/metrics.md defines every number. Exit status: 0 all pairs scored,
1 some could not be, 2 wrong usage.
"""
FLOORS = {
    "input": "(input as it is)",
    "nearest": "(nearest in training)",
    "mean": "(mean of training)",
    "blurred": "(real, blurred)",
}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="score images against the real ones",
        description="Score synthesised images against the real ones: PSNR, SSIM, FSIM, LPIPS, FID, KID, identity.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scored = parser.add_argument_group("what is scored")
    scored.add_argument("--fake", metavar="DIR", type=Path, help="the synthesised images")
    scored.add_argument(
        "--run", metavar="RUN", type=Path, dest="trained", help="or a run, which draws them now"
    )
    against = parser.add_argument_group("against what")
    against.add_argument("--real", metavar="DIR", type=Path, help="the real ones, named alike")
    against.add_argument(
        "--photos", metavar="DIR", type=Path, help="their input photos: a floor, and a gallery"
    )
    against.add_argument(
        "--train", metavar="DIR", type=Path, help="real sketches of the training set: floors, ceiling"
    )
    against.add_argument(
        "--train-photos", metavar="DIR", type=Path, help="and their photos: the nearest's floor"
    )
    against.add_argument(
        "--data", metavar="DATASET", type=Path, help="or a dataset folder, which has all of these"
    )
    against.add_argument("--split", default="test", help="of the dataset (default: test)")
    against.add_argument("--subset", help="only this one of the dataset's, e.g. CUHK")
    against.add_argument("--direction", choices=("photo2sketch", "sketch2photo"), help="with --data")
    add_options(parser)
    parser.add_argument("--no-floors", action="store_true", help="do not score the trivial rivals")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write the whole report, with every pair's values"
    )
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How to draw and to measure: what `evaluate` and `compare` have in common."""
    parser.add_argument(
        "--checkpoint",
        default="last",
        help="of a run: last, best or, of a method of stages, stage-NAME (default: last)",
    )
    parser.add_argument("--style", help="a run draws all in this style (default: each in its own)")
    parser.add_argument(
        "--geometry",
        choices=("200x250", "padded256", "native"),
        default="200x250",
        help="200x250: the face crop alone; padded256: centred on a 256x256 square, as many papers score, "
        "which flatters most numbers; native: any size as it is (default: %(default)s)",
    )
    parser.add_argument(
        "--fill",
        type=float,
        default=0.0,
        metavar="V",
        help="grey value of padded256's margin, 0 to 255 (default: 0)",
    )
    parser.add_argument(
        "--colour",
        action="store_true",
        help="for photos: FSIMc, LPIPS, FID and KID see colour; PSNR, SSIM, FSIM and identity stay grey",
    )
    parser.add_argument(
        "--metrics", metavar="NAMES", help=f"only these, comma-separated: {','.join(HEADINGS)}"
    )
    parser.add_argument(
        "--embedder",
        choices=("lightcnn", "sface", "facenet", "w600k"),
        default="lightcnn",
        help="whose faces rank-1 and verification go by; w600k is for non-commercial research "
        "(default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument(
        "--no-cache", action="store_true", help="measure everything anew, and keep nothing of it"
    )


def run(args: argparse.Namespace) -> int:
    _check_forms(args)
    names = metric_names(args.metrics)
    if args.json is not None and not args.json.parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no folder {args.json.parent}")
    with Bar() as bar:
        options = options_of(args, names, bar.advance)
        report = _of_dataset(args, options) if args.data else _of_folders(args, options)
    print("\n".join(_table(report, names)))
    for line in _remarks(report, names):
        print(line, file=sys.stderr)
    if args.json is not None:
        _write_json(report, args.json)
    return 1 if report["failed"] else 0


def _check_forms(args: argparse.Namespace) -> None:
    if (args.fake is None) == (args.trained is None):
        raise UsageError("say what to score: --fake DIR, or --run RUN")
    if (args.real is None) == (args.data is None):
        raise UsageError("say what to score against: --real DIR, or --data DATASET")
    if args.trained is not None and args.data is None:
        raise UsageError("--run draws the images of a dataset: name it with --data")
    if args.data is not None and (args.photos or args.train or args.train_photos):
        raise UsageError("--photos, --train and --train-photos go with --real; --data has its own")
    if args.train_photos is not None and (args.train is None or args.photos is None):
        raise UsageError("--train-photos needs --train and --photos beside it")


def options_of(args: argparse.Namespace, names: tuple[str, ...], progress: Progress) -> Options:
    """The Options that `add_options` asked for. Raises UsageError for a device that is not there."""
    if not 0 <= args.fill <= 255:
        raise UsageError(f"--fill is a grey value from 0 to 255, not {args.fill:g}")

    import torch

    from silverpoint.metrics.evaluate import Options
    from silverpoint.metrics.store import Store

    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"--device {args.device}: not to be had here ({str(error).splitlines()[0]})"
        ) from error
    return Options(
        geometry=args.geometry,
        fill=args.fill,
        colour=args.colour,
        metrics=names,
        embedder=args.embedder,
        device=args.device,
        store=Store() if args.no_cache else Store.in_cache(),
        progress=progress,
    )


class Bar:
    """A progress bar per set that is measured, on a terminal."""

    def __init__(self) -> None:
        self.name = ""
        self.bar: tqdm | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if name != self.name or self.bar is None:
            self.__exit__()
            self.name = name
            self.bar = tqdm(total=total, unit="pair", desc=name, disable=not sys.stderr.isatty(), leave=False)
        self.bar.update(done)


def _of_folders(args: argparse.Namespace, options: Options) -> dict[str, Any]:
    from silverpoint.metrics.evaluate import evaluate

    return evaluate(
        args.fake,
        args.real,
        options,
        photos=args.photos,
        train=args.train,
        train_photos=args.train_photos,
        floors=not args.no_floors,
    )


def _of_dataset(args: argparse.Namespace, options: Options) -> dict[str, Any]:
    from silverpoint.metrics.evaluate import evaluate_images, measure_floors

    contender = Contender(args.trained or args.fake, args)
    direction = contender.direction or "photo2sketch"
    options, reference, examples = of_split(args, options, direction)
    fakes, failed = contender.images(reference, examples, options)
    if not fakes:
        raise DataError(f"no pair can be scored; {next(iter(failed.values()))}")
    kept = sorted(fakes)
    scored = reference.only(kept)
    floors = None if args.no_floors else measure_floors(scored, options)
    report = evaluate_images([fakes[i] for i in kept], scored, options, floors)
    report["fake"], report["real"] = str(contender.path), str(args.data)
    report["split"], report["subset"], report["direction"] = args.split, args.subset, direction
    there = {*scored.names, *failed}
    report["missing"]["fake"] = [name for name in reference.names if name not in there]
    report["failed"] = failed
    return report


def of_split(
    args: argparse.Namespace, options: Options, direction: str
) -> tuple[Options, Reference, list[Any]]:
    """The split to score against, its examples, and the options that suit the direction.

    Raises UsageError for pictures that the geometry has no room for.
    """
    from dataclasses import replace

    from silverpoint.metrics.folders import size_text
    from silverpoint.metrics.images import CROP_HEIGHT, CROP_WIDTH
    from silverpoint.metrics.reference import reference_of_split

    reference, examples = reference_of_split(
        args.data, args.split, args.subset, direction, training=not args.no_floors
    )
    odd = next((real for real in reference.real if real.shape[:2] != (CROP_HEIGHT, CROP_WIDTH)), None)
    if options.geometry != "native" and odd is not None:
        raise UsageError(
            f"{args.data}: has pictures of {size_text(odd)}, geometry {options.geometry} scores "
            f"{CROP_WIDTH}x{CROP_HEIGHT}; use --geometry native"
        )
    options = replace(options, colour=options.colour or direction == "sketch2photo")
    return options, reference, examples


class Contender:
    """A run or a folder of images, whatever it is: its name, its direction, its images of some examples."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        self.path, self.direction, self.style = path, args.direction, args.style
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        self.run = None
        if (path / "checkpoints").is_dir():
            from silverpoint.training.export import load_synthesizer

            self.run = load_synthesizer(path, args.direction, args.checkpoint)
            self.direction = self.run[1]

    def images(
        self, reference: Reference, examples: list[Any], options: Options
    ) -> tuple[dict[int, Any], dict[str, str]]:
        """The images by position among the examples, of a folder those that are there; and which failed, and why."""
        if self.run is None:
            from silverpoint.metrics.reference import fakes_of

            return fakes_of(self.path, reference, examples, options.colour)
        import torch

        from silverpoint.training.validation import synthesize_examples

        method, direction, net = self.run
        device = torch.device(options.device)
        images = synthesize_examples(method, net.to(device), examples, direction, device, self.style)
        return dict(enumerate(images)), {}


def metric_names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return METRICS
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or (unknown := [name for name in names if name not in HEADINGS]):
        raise UsageError(
            f"--metrics: no metric {', '.join(unknown) or 'named'}; there are {', '.join(HEADINGS)}"
        )
    return names


def _table(report: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """One row for all pairs, one per subset, one per floor; arrows say which way is better."""
    rows = {"all": report, **report["subsets"]}
    rows |= {FLOORS[name]: floor for name, floor in report["floors"].items()}
    if training := report["ceilings"].get("training"):
        rows["(real, of training)"] = training
    return [seen_as(report), *table_of(rows, names), *_identity(report)]


def seen_as(report: dict[str, Any]) -> str:
    """The line that says of which pixels the numbers are."""
    margin = "" if report["fill"] is None else f", margin {report['fill']:g}"
    colour = "colour (PSNR, SSIM, MS-SSIM, FSIM, identity: grey)" if report["colour"] else "grey"
    return f"geometry {report['geometry']}{margin}, {colour}"


def table_of(rows: dict[str, dict[str, Any]], names: tuple[str, ...]) -> list[str]:
    """The lines of a table of reports by name."""
    cells = [["", "n"] + [heading(name) for name in names]]
    cells += [[row, str(r["n"]), *(number(r, name) for name in names)] for row, r in rows.items()]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def _identity(report: dict[str, Any]) -> list[str]:
    """What stands behind rank-1 and verification: whose eyes, under which licence, in which gallery."""
    found = report["identity"]
    if "embedder" not in found:
        return []
    from silverpoint.assets import ASSETS
    from silverpoint.recognition import EMBEDDERS

    asset = ASSETS[EMBEDDERS[found["embedder"]].asset]
    lines = [f"faces by {found['embedder']} ({asset.licence}{'; ' + asset.terms if asset.terms else ''})"]
    texts = {
        "real_to_fake": "real looked up among synthesised",
        "fake_to_real": "synthesised looked up among real",
        "fake_to_input": "synthesised looked up among the inputs",
        "real_to_input": "real looked up among the inputs",
    }
    for key, text in texts.items():
        if match := found.get(key):
            rates = ", ".join(f"{100 * match[f'rank{k}']:.1f}" for k in (1, 5, 10))
            lines.append(f"  {text}: rank 1, 5, 10: {rates} %")
    if verified := found.get("verification"):
        lines.append(
            f"  verified at a false accept rate of {verified['asked_false_accept_rate']:g}: "
            f"{100 * verified['rate']:.1f} % (cosine over {verified['threshold']:.3f}, set by "
            f"{verified['impostors']} impostor pairs)"
        )
    return lines


def heading(name: str) -> str:
    return f"{HEADINGS[name]}{'↑' if name in HIGHER_IS_BETTER else '↓'}"


def number(report: dict[str, Any], name: str) -> str:
    value = report.get(name)
    if value is None:
        return "-"
    if name == "kid":
        return f"{1000 * value:.2f} ± {1000 * report['kid_error']:.2f}"
    if name in IN_PERCENT:
        return f"{100 * value:.1f}%"
    return f"{value:.2f}" if name in ("psnr", "fid") else f"{value:.4f}"


def _remarks(report: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    lines = [f"{HEADINGS[name]}: {report['reasons'][name]}" for name in names if name in report["reasons"]]
    for side, other in (("fake", "real"), ("real", "fake")):
        if missing := report["missing"][side]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            lines.append(f"{len(missing)} of {report[other]} missing in {report[side]}: {shown}")
    lines += [f"floor {FLOORS[name]}: {reason}" for name, reason in report["floors_absent"].items()]
    lines += [f"not scored: {reason}" for reason in report["failed"].values()]
    return lines


def _write_json(report: dict[str, Any], path: Path) -> None:
    write_whole(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    try:
        files.write_whole(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
