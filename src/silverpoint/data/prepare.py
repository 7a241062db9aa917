"""From a downloaded database to one dataset folder that every method trains on and every metric reads."""

import csv
import hashlib
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import silverpoint
from silverpoint.data.protocols import PROTOCOLS, Pair
from silverpoint.errors import DataError, UsageError
from silverpoint.image import read_image, to_grey, write_image

COLUMNS = ("id", "subset", "split", "photo", "sketch", "style", "saliency", "layout")


def prepare(
    protocol: str, source: Path, out: Path, *, val: float = 0.1, seed: int = 0, priors: Sequence[str] = ()
) -> int:
    """Write the dataset folder `out` and return how many pairs it holds.

    A fraction `val` of every subset's training pairs becomes the split `val`, drawn with `seed`: choose models on
    it, never on test. The folder appears whole or not at all. Raises DataError for a source that is not the
    protocol's, ImageError for a file that cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    if out.exists():
        raise DataError(f"{out}: already exists; remove it or choose another --out")
    pairs = _hold_out(PROTOCOLS[protocol](source), val, seed)
    building = out.with_name(out.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    rows = [
        _write_pair(pair, building, priors) for pair in tqdm(pairs, desc=f"prepare {protocol}", unit="pair")
    ]
    with (building / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    about = {
        "protocol": protocol,
        "pairs": len(rows),
        "alignment": "as released",
        "validation": {"fraction": val, "seed": seed},
        "silverpoint": silverpoint.__version__,
        "sha256": hashlib.sha256((building / "pairs.csv").read_bytes()).hexdigest(),
    }
    (building / "dataset.json").write_text(json.dumps(about, indent=2) + "\n")
    building.rename(out)
    return len(rows)


def _hold_out(pairs: list[Pair], fraction: float, seed: int) -> list[Pair]:
    """Move a fraction of each subset's training pairs to the split val."""
    groups: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.split == "train":
            groups[pair.subset, pair.style].append(pair)
    held = set()
    for key in sorted(groups):
        ids = sorted(p.id for p in groups[key])
        held.update(random.Random(f"{seed}/{key}").sample(ids, round(fraction * len(ids))))
    return [Pair(**{**vars(p), "split": "val"}) if p.id in held else p for p in pairs]


def _write_pair(pair: Pair, root: Path, priors: Sequence[str]) -> dict[str, str]:
    """Photos stay bit-exact where they can; sketches become 8-bit grey PNG (PIL's L)."""
    photo, sketch = read_image(pair.photo), read_image(pair.sketch)
    row = {"id": pair.id, "subset": pair.subset, "split": pair.split, "style": pair.style}
    row["photo"] = f"photos/{pair.subset}/{pair.id}.png"
    row["sketch"] = f"sketches/{pair.subset}/{pair.id}.png"
    images = {row["photo"]: photo, row["sketch"]: to_grey(sketch)}
    for prior in priors:
        row[prior] = f"{prior}/{pair.subset}/{pair.id}.png"
        images[row[prior]] = _predictor(prior)(photo)
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(image, root / name)
    return row


def _predictor(prior: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from a photo to one of its priors."""
    if prior == "saliency":
        from silverpoint.faces.saliency import saliency

        return saliency
    if prior == "layout":
        from silverpoint.data.layout import parse

        return parse
    raise UsageError(f"there is no prior {prior!r}; choose from saliency, layout")
