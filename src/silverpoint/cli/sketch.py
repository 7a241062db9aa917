"""silverpoint sketch: photographs into sketches."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from silverpoint.errors import SilverpointError, UsageError

if TYPE_CHECKING:
    from silverpoint.synthesis.batch import Options, Outcome
    from silverpoint.synthesis.sketcher import Sketcher

EXAMPLES = """\
examples:
  silverpoint sketch me.jpg                      draws me-sketch.png beside the photo
  silverpoint sketch me.jpg -o drawn.png --style fs2k1
  silverpoint sketch --face me.jpg               the face alone, 200x250, upright: me-sketch-face.png
  silverpoint sketch album                       every photo in album/, into album-sketches/
  silverpoint sketch 'album/*.jpg' -o sketches --json
  silverpoint sketch - < me.jpg > sketch.png     from standard input to standard output

A --style or view that is asked for is in the name: me-sketch-fs2k1-face.png, album-sketches-fs2k1/.
Photos whose drawing is there already are skipped; --overwrite draws them again. A drawing is known by its
file name alone: give photos of one name from several folders together, or each its own -o. Exit status: 0 all
drawn, 1 some could not be (each named on stderr, the others are drawn), 2 wrong usage.
"""
DIRECTION = "photo2sketch"
MOST_WORKERS = 4  # photos drawn at once, each in about 200 MB; further threads share in the drawing of each


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "sketch",
        help="photo(s) into pencil sketch(es)",
        description="Draw photographs of people as pencil sketches.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(model="pencil", kind="sketch", direction=DIRECTION)
    add_arguments(parser, "photo", "sketch")
    parser.add_argument("--model", metavar="M", help="a built-in model or a .onnx file (default: pencil)")


def add_arguments(parser: argparse.ArgumentParser, source: str, drawing: str) -> None:
    """The arguments that `sketch` and `photo` share."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=f"a {source}, a folder of them, a glob, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help=f"the file (for one {source}) or the folder to draw to; - is standard output",
    )
    parser.add_argument("--style", metavar="S", help="the hand to draw in; `silverpoint models` lists them")
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--portrait",
        action="store_const",
        const="portrait",
        dest="view",
        help="the whole picture as one drawing, at the scale that suits the largest face (default)",
    )
    views.add_argument(
        "--face",
        nargs="?",
        choices=("aligned", "none"),
        metavar="none",
        const="aligned",
        help="the largest face alone, upright, 200x250 px; `--face none`: the whole picture as it is, "
        "without looking for a face",
    )
    views.add_argument(
        "--all-faces",
        action="store_true",
        help="every face as with --face, to files numbered from the largest: me-sketch-face1.png",
    )
    parser.add_argument("--size", type=int, metavar="PX", help=f"the long side of the {drawing} in pixels")
    parser.add_argument("-r", "--recursive", action="store_true", help="the folders within a folder, too")
    parser.add_argument("--overwrite", action="store_true", help="draw again what has been drawn")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads to use (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per input, a line each")


def rewrite(argv: list[str]) -> list[str]:
    """Give `--face` its value where none follows: argparse would take me.jpg for it in `--face me.jpg`."""
    words = iter(enumerate(argv))
    rewritten: list[str] = []
    for at, word in words:
        if word == "--":
            return rewritten + argv[at:]
        if word == "--face":
            value = argv[at + 1] if at + 1 < len(argv) else ""
            if value in ("aligned", "none"):
                next(words)
                word = f"--face={value}"
            else:
                word = "--face=aligned"
        rewritten.append(word)
    return rewritten


def run(args: argparse.Namespace) -> int:
    from silverpoint.synthesis.batch import Options
    from silverpoint.synthesis.batch import run as run_batch
    from silverpoint.synthesis.jobs import plan
    from silverpoint.synthesis.model import cpus
    from silverpoint.synthesis.sketcher import load

    view = {"aligned": "face", "none": "whole"}.get(args.face)
    options = Options(args.style, view or "portrait", args.all_faces, args.size, args.overwrite, args.debug)
    threads = args.threads or cpus()

    def open_sketcher(threads: int) -> Sketcher:
        sketcher = load(args.model, threads=threads)
        if sketcher.card.direction != args.direction:
            other = "photo" if args.kind == "sketch" else "sketch"
            raise UsageError(
                f"model {sketcher.card.name} draws the other way; use it with `silverpoint {other}`"
            )
        sketcher.check(options.style, options.size)
        return sketcher

    if "-" in args.inputs or args.output == "-":
        return _stream(args, options, lambda: open_sketcher(threads))
    jobs = plan(
        args.inputs,
        args.output,
        kind=args.kind,
        variant=[word for word in (args.style, view) if word],
        recursive=args.recursive,
        all_faces=args.all_faces,
    )
    workers = min(threads, len(jobs), MOST_WORKERS)
    return report(run_batch(jobs, open_sketcher, options, threads, workers), len(jobs), args)


def report(outcomes: Iterable[Outcome], total: int, args: argparse.Namespace) -> int:
    """Print the outcomes as they come: drawings on stdout, failures on stderr. Returns the exit status."""
    drawn = there = failed = 0
    bar = total > 1 and sys.stderr.isatty()
    quiet = bar and not args.json and sys.stdout.isatty()
    for outcome in _progress(outcomes, total) if bar else outcomes:
        if outcome.error is not None:
            failed += 1
            _say(f"silverpoint: {outcome.error}", bar)
        elif outcome.skipped:
            there += 1
            if total == 1:
                _say(f"silverpoint: {outcome.outputs[0]}: is there already; --overwrite draws it again", bar)
        else:
            drawn += 1
        if args.json:
            print(json.dumps(as_record(outcome, args.all_faces)), flush=True)
        elif not quiet:
            for path in outcome.outputs:
                print(path, flush=True)
    if total > 1:
        counts = {"drawn": drawn, "already there": there, "failed": failed}
        print("silverpoint: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n), file=sys.stderr)
    return 1 if failed else 0


def as_record(outcome: Outcome, all_faces: bool) -> dict[str, Any]:
    """What --json prints of an input; `output` is a list with --all-faces.

    Of the faces, boxes (left, top, width, height) and points (eyes, nose, corners of the mouth) are fractions
    of the picture's width and height, and so hold for the photo and for a drawing of the whole of it.
    """
    width, height = outcome.photo_size or (1, 1)
    return {
        "input": outcome.source,
        "output": outcome.outputs if all_faces else next(iter(outcome.outputs), None),
        "faces": [
            {
                "box": [round(float(v) / n, 4) for v, n in zip(face.box, (width, height) * 2, strict=True)],
                "points": [[round(float(x) / width, 4), round(float(y) / height, 4)] for x, y in face.points],
                "score": round(float(face.score), 3),
            }
            for face in outcome.faces
        ],
        "size": list(outcome.size) if outcome.size else None,
        "style": outcome.style,
        "seconds": round(outcome.seconds, 3),
        "skipped": outcome.skipped,
        "error": outcome.error,
    }


def _progress(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    from tqdm import tqdm

    return iter(tqdm(outcomes, total=total, unit="photo", file=sys.stderr, dynamic_ncols=True))


def _say(line: str, bar: bool) -> None:
    if bar:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


def _stream(args: argparse.Namespace, options: Options, open_sketcher: Callable[[], Sketcher]) -> int:
    """One photo, from standard input or to standard output or both."""
    from silverpoint.synthesis import batch
    from silverpoint.synthesis.jobs import check_file
    from silverpoint.synthesis.sketcher import png

    if len(args.inputs) > 1:
        raise UsageError("'-' is for one photo: give it alone")
    to_stdout = args.output in (None, "-")
    if to_stdout and (args.json or args.all_faces or sys.stdout.isatty()):
        raise UsageError("the drawing would go to standard output; give a file with -o")
    source = args.inputs[0]
    outcome = batch.Outcome(source)
    if not to_stdout:
        check_file(args.output)
        if not options.overwrite and (there := batch.drawings(args.output, options)):
            return report([batch.Outcome(source, there, skipped=True)], 1, args)
    sketcher = open_sketcher()
    start = time.perf_counter()
    try:
        photo = sys.stdin.buffer.read() if source == "-" else source
        sketches = batch.sketches_of(photo, sketcher, options)
        batch.describe(outcome, sketches)
        if to_stdout:
            sys.stdout.buffer.write(png(sketches[0].image))
        else:
            outcome.outputs = batch.save(sketches, args.output, options)
    except SilverpointError as error:
        outcome.error = batch.error_line("standard input" if source == "-" else source, error)
    outcome.seconds = time.perf_counter() - start
    return report([outcome], 1, args)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
