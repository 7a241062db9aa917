"""silverpoint models: what can draw without a download."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silverpoint.synthesis.model import Card

EXAMPLES = """\
examples:
  silverpoint models
  silverpoint models --json
  silverpoint sketch me.jpg --model pencil --style fs2k1
"""
ARROWS = {"photo2sketch": "photo -> sketch", "sketch2photo": "sketch -> photo"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "models",
        help="the models that come with silverpoint, with licence and scores",
        description="List the built-in models: direction, styles, training data, licence, scores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per model, a line each")


def run(args: argparse.Namespace) -> int:
    from silverpoint.synthesis.model import available

    for card in available():
        print(json.dumps(dataclasses.asdict(card)) if args.json else describe(card))
    return 0


def describe(card: Card) -> str:
    """The card as a few lines for a person."""
    styles = [f"{style} (default)" if style == card.default_style else style for style in card.styles]
    facts = {
        "styles": ", ".join(styles),
        "trained on": card.dataset,
        "licence": card.licence,
        "scores": ", ".join(f"{name} {value}" for name, value in card.metrics.items()),
    }
    lines = [f"{card.name}: {ARROWS[card.direction]}, {card.method}"]
    return "\n".join(lines + [f"  {name:<12}{text}" for name, text in facts.items() if text])
