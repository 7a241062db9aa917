"""What papers print, as they print it (published.csv): never measured here, and not comparable with what is.

Geometry, colour, networks and the drawn test sets of these tables differ from each other and from ours, and are
mostly not said. docs/metrics.md shows how far such differences move the numbers.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

SETS = ("all", "CUHK", "AR", "XM2VTS")  # those that a page has a table of
ELSEWHERE = {"facenet_accuracy": "FaceNet accuracy", "facepp_verification": "Face++ verification"}


@dataclass(frozen=True)
class PublishedRow:
    method: str
    source: (
        str  # paper, table and, of a test set of its own, which; a paper's table also scores others' methods
    )
    values: dict[str, str]  # as printed; by the names of silverpoint.scores, and those of ELSEWHERE


def published(dataset: str, subset: str, direction: str) -> list[PublishedRow]:
    """The rows of a dataset (`cufs`, `cufsf`), a subset of it or `all`, and a direction, in the order of the file.

    A subset named as its dataset is `all`, which has the papers' own selections as well.
    """
    subset = "all" if subset.lower() == dataset.lower() else subset
    found: dict[tuple[str, str], dict[str, str]] = {}
    text = files("silverpoint.metrics").joinpath("published.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        own = subset == "all" and row["subset"] not in SETS
        if (row["dataset"], row["direction"]) == (dataset, direction) and (own or row["subset"] == subset):
            source = [row["paper"], row["table"], *([row["subset"]] if own else [])]
            found.setdefault((row["method"], ", ".join(source)), {})[row["metric"]] = row["value"]
    return [PublishedRow(method, source, values) for (method, source), values in found.items()]
