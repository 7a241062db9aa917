"""The command `silverpoint`: one module per subcommand, imported only when it is the one asked for."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from silverpoint import __version__
from silverpoint.errors import SilverpointError, UsageError

# Each is silverpoint.cli.<name> with add_parser(subparsers) and run(args) -> exit status; and, where argparse
# cannot tell an option's value from an input, rewrite(argv) -> argv. With TAKES_SETTINGS, run(args, unknown) gets
# the arguments the parser does not know, which are a method's settings.
COMMANDS = {
    "sketch": "photo(s) into pencil sketch(es)",
    "photo": "sketch(es) into photo(s)",
    "models": "the models that come with silverpoint, with licence and scores",
    "prepare": "turn a downloaded database into a dataset folder",
    "check": "the dataset doctor: what would spoil a result",
    "train": "train a method",
    "synthesize": "every image of a split, named by id",
    "evaluate": "score synthesised images against real ones",
    "compare": "runs and folders of images side by side, as one HTML page",
    "maps": "what the teachers and students of kt runs see",
    "export": "write a run's synthesis network as one ONNX file",
    "methods": "what can be trained, and the settings of each",
    "assets": "third-party weights: list them, fetch them",
}
INTERRUPTED, BROKEN_PIPE = 130, 141  # what a shell makes of SIGINT and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the program's). Returns the exit status:

    0 all done; 1 something failed, and is named on stderr; 2 wrong usage; 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that are no text are printed as they are
        utf8 = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    debug = "--debug" in argv
    warnings.filterwarnings("ignore", module="PIL")  # of a damaged EXIF block, say: we report what matters
    try:
        try:
            status = _run(argv)
        except SystemExit as error:  # argparse: --help, --version, wrong usage
            status = error.code if isinstance(error.code, int) else 2
        sys.stdout.flush()  # here, where a closed pipe is understood, and not at exit
        return status
    except KeyboardInterrupt:
        print("silverpoint: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            raise
        print(f"silverpoint: {_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(argv: list[str]) -> int:
    command = next((word for word in argv if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="silverpoint",
        description="Face photographs into sketches, and sketches into photographs.",
        epilog="`silverpoint COMMAND --help` says more, with examples. A start: silverpoint sketch me.jpg",
    )
    parser.add_argument("--version", action="version", version=f"silverpoint {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an unexpected error happened")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    module: ModuleType | None = None
    for name, text in COMMANDS.items():
        if name == command:
            module = import_module(f"silverpoint.cli.{name}")
            module.add_parser(subparsers)
            # SUPPRESS: a default here would undo `silverpoint --debug sketch`
            subparsers.choices[name].add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        else:
            subparsers.add_parser(name, help=text, add_help=False)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    rewrite = getattr(module, "rewrite", None)
    args, unknown = parser.parse_known_args(rewrite(argv) if rewrite else argv)
    assert module is not None  # parse_args has refused what is no command
    if getattr(module, "TAKES_SETTINGS", False):
        return int(module.run(args, unknown))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return int(module.run(args))


def _line(error: Exception) -> str:
    if isinstance(error, SilverpointError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("silverpoint"):
        return (
            f"this needs the Python package {error.name}; install it with: pip install 'silverpoint[train]'"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"unexpected {text}; --debug shows where, please report it"


if __name__ == "__main__":
    sys.exit(main())
