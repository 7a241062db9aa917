"""silverpoint evaluate: images against the real ones, in numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from silverpoint.errors import DataError, UsageError

EXAMPLES = """\
examples:
  silverpoint evaluate --fake results/ --real sketches/
  silverpoint evaluate --fake results/ --real sketches/ --photos photos/ --json scores.json
  silverpoint evaluate --fake results/ --real sketches/ --geometry padded256
  silverpoint evaluate --fake faces/ --real photos/ --colour --geometry native

Images are paired by their name without suffix (subfolders count: CUHK/f-005-01); pairs in several subfolders
are also scored by subfolder. FID and KID compare the two sets and depend on n: compare them only at equal n.
docs/metrics.md defines every number. Exit status: 0 all pairs scored, 1 some could not be, 2 wrong usage.
"""
HEADINGS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "fsim": "FSIM",
    "fsimc": "FSIMc",
    "lpips_alex": "LPIPS-alex",
    "lpips_vgg": "LPIPS-vgg",
    "lpips_squeeze": "LPIPS-sq",
    "fid": "FID",
    "kid": "KIDx1000",
}
LOWER_IS_BETTER = {"lpips_alex", "lpips_vgg", "lpips_squeeze", "fid", "kid"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="score images against the real ones",
        description="Score synthesised images against the real ones: PSNR, SSIM, FSIM, LPIPS, FID and KID.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fake", required=True, metavar="DIR", type=Path, help="the synthesised images")
    parser.add_argument("--real", required=True, metavar="DIR", type=Path, help="the real ones, named alike")
    parser.add_argument(
        "--photos", metavar="DIR", type=Path, help="the input photos: adds what they score as they are"
    )
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
        help="for photos: FSIMc, LPIPS, FID and KID see colour; PSNR, SSIM and FSIM stay grey",
    )
    parser.add_argument(
        "--metrics", metavar="NAMES", help=f"only these, comma-separated: {','.join(HEADINGS)}"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write the whole report, with every pair's values"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    names = _metric_names(args.metrics)
    if not 0 <= args.fill <= 255:
        raise UsageError(f"--fill is a grey value from 0 to 255, not {args.fill:g}")
    if args.json is not None and not args.json.parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no folder {args.json.parent}")

    import torch
    from tqdm import tqdm

    from silverpoint.metrics.evaluate import evaluate

    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"--device {args.device}: not to be had here ({str(error).splitlines()[0]})"
        ) from error
    with tqdm(unit="pair", disable=not sys.stderr.isatty(), leave=False) as bar:

        def advance(pairs: int) -> None:
            bar.update(pairs)

        report = evaluate(
            args.fake,
            args.real,
            photos=args.photos,
            geometry=args.geometry,
            fill=args.fill,
            colour=args.colour,
            metrics=names,
            device=args.device,
            progress=advance,
        )
    print("\n".join(_table(report, names)))
    for line in _remarks(report, names):
        print(line, file=sys.stderr)
    if args.json is not None:
        _write_json(report, args.json)
    return 1 if report["failed"] else 0


def _metric_names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(HEADINGS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or (unknown := [name for name in names if name not in HEADINGS]):
        raise UsageError(
            f"--metrics: no metric {', '.join(unknown) or 'named'}; there are {', '.join(HEADINGS)}"
        )
    return names


def _table(report: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """One row for all pairs, one per subset, one per floor; arrows say which way is better."""
    rows = {"all": report, **report["subsets"]}
    rows |= {f"({name} as it is)": floor for name, floor in report["floors"].items()}
    head = ["", "n"] + [f"{HEADINGS[name]}{'↓' if name in LOWER_IS_BETTER else '↑'}" for name in names]
    cells = [head] + [[row, str(r["n"]), *(_number(r, name) for name in names)] for row, r in rows.items()]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    margin = "" if report["fill"] is None else f", margin {report['fill']:g}"
    colour = "colour (PSNR, SSIM, MS-SSIM, FSIM: grey)" if report["colour"] else "grey"
    return [f"geometry {report['geometry']}{margin}, {colour}", *lines]


def _number(report: dict[str, Any], name: str) -> str:
    value = report[name]
    if value is None:
        return "-"
    if name == "kid":
        return f"{1000 * value:.2f} ± {1000 * report['kid_error']:.2f}"
    return f"{value:.2f}" if name in ("psnr", "fid") else f"{value:.4f}"


def _remarks(report: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    lines = [f"{HEADINGS[name]}: {report['reasons'][name]}" for name in names if name in report["reasons"]]
    for side, other in (("fake", "real"), ("real", "fake")):
        if missing := report["missing"][side]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            lines.append(f"{len(missing)} of {report[other]} missing in {report[side]}: {shown}")
    lines += [f"not scored: {reason}" for reason in report["failed"].values()]
    return lines


def _write_json(report: dict[str, Any], path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
