"""What papers print, as they print it (published.csv): never measured here, and not comparable with what is.

Geometry, colour, networks and the drawn test sets of these tables differ from each other and from ours, and are
mostly not said. docs/metrics.md shows how far such differences move the numbers.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class PublishedRow:
    method: str
    source: str  # paper and table; a paper's table also scores others' methods
    values: dict[str, float]


def published(dataset: str, subset: str, direction: str) -> list[PublishedRow]:
    """The rows of a dataset (`cufs`, `cufsf`), a subset of it or `all`, and a direction, in the order of the file."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    text = files("silverpoint.metrics").joinpath("published.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        if (row["dataset"], row["subset"], row["direction"]) == (dataset, subset, direction):
            key = (row["method"], f"{row['paper']}, {row['table']}")
            found.setdefault(key, {})[row["metric"]] = float(row["value"])
    return [PublishedRow(method, source, values) for (method, source), values in found.items()]
