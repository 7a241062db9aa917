"""From a downloaded database to one dataset folder that every method trains on and every metric reads."""

import csv
import hashlib
import json
import random
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import silverpoint
from silverpoint.data.alignment import FRAMES
from silverpoint.data.making import Made, Plan, make_all, stale_priors
from silverpoint.data.pairs import COLUMNS, MOST_HELD_OUT, read_rows
from silverpoint.data.points import with_points
from silverpoint.data.priors import fetch_network, version
from silverpoint.data.protocols import PROTOCOLS, Pair, Source
from silverpoint.data.protocols.listing import count_pairs
from silverpoint.data.shards import write_shards
from silverpoint.data.simulate import SIMULATIONS
from silverpoint.errors import DataError, UsageError
from silverpoint.files import whole_file, write_whole

# The frame a protocol's pictures are brought into when nothing else is asked for, and how sketches are simulated.
FRAME = {"cufsf": "cufs", "celeba": "face96"}
SIMULATION = {"celeba": "sobel"}
JPEG = ("celeba",)  # protocols whose own pictures are JPEG and are resampled anyway
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Report:
    """What `prepare` made: how many pairs, how many it left out, the count against the protocol in words, and what it
    stumbled over.
    """

    pairs: int
    left_out: int
    counted: str
    problems: list[str]


def prepare(
    protocol: str,
    source: Source | Path,
    out: Path,
    *,
    val: float = 0.1,
    priors: Sequence[str] = (),
    frame: str | None = None,
    simulate: str | None = None,
    workers: int = 1,
    shards: bool = False,
    jpeg: bool | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> Report:
    """Write the dataset folder `out`, or add `priors` to one that the same call has written.

    A fraction `val` of every subset's training pairs (at most 500) becomes the split `val`, drawn with `seed`: choose
    models on it, never on test. `frame` is a key of FRAMES, "none" for the pictures as they are, or None for the
    protocol's own. Pairs are made in `workers` processes, and packed into `shards` if asked for. As `jpeg` (of quality
    95) pictures take a third of the room and of the time to read, and are not the same to the bit: None is for celeba,
    whose own are JPEG.

    The folder appears whole or not at all. What is done is kept in <out>.partial, so that the same call after a kill
    or an error goes on from there. Raises DataError for a source that is not the protocol's and, unless `skip_bad`
    leaves them out, when pairs cannot be made (all are named); AssetError when the network of a prior cannot be had;
    UsageError for a name that is none.
    """
    source = source if isinstance(source, Source) else Source(source, seed=seed)
    plan = _plan(protocol, priors, frame, simulate, jpeg)
    listing = PROTOCOLS[protocol](source)
    about = _about(protocol, source, plan, val, seed, shards)
    for kind in plan.priors:
        fetch_network(kind)
    root, kept_priors = _workplace(out, about)
    plan = replace(
        plan,
        root=root,
        priors=tuple(dict.fromkeys((*kept_priors, *priors))),
        size=listing.size if plan.frame == "none" else None,
    )
    pairs = with_points(listing.pairs, source.points) if source.points else listing.pairs
    pairs = _hold_out(pairs, val, seed)
    _refuse_doubles(pairs)

    known = _read_journal(root / JOURNAL)
    if root == out:
        _hide_stale(out, pairs, plan, known)
    made: dict[tuple[str, str], Made] = {}
    with (root / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write("\n")  # the last line may have been cut off
        todo = make_all(pairs, plan, known, workers)
        often = 0.1 if sys.stderr.isatty() else 30.0  # seconds between two lines of a log
        for done in tqdm(todo, desc=f"prepare {protocol}", total=len(pairs), unit="pair", mininterval=often):
            made[done.subset, done.id] = done
            before = known.pop((done.subset, done.id), None)  # held once, however large the set
            if not done.problem and done.record != before:
                journal.write(json.dumps(done.record) + "\n")
                journal.flush()
    failed = [made[p.subset, p.id].problem for p in pairs if made[p.subset, p.id].problem]
    if failed and not skip_bad:
        raise DataError(
            "; ".join(failed[:10])
            + (f"; and {len(failed) - 10} more" if len(failed) > 10 else "")
            + f". Nothing is lost: repair {'them' if len(failed) > 1 else 'it'} and prepare again, or add --skip-bad"
        )
    kept = [p for p in pairs if not made[p.subset, p.id].problem]
    if not kept:
        raise DataError(f"{source.folder}: no pair of it could be made")
    problems = listing.problems + failed + _doubles(kept, made)
    counted = count_pairs(Counter((p.subset, p.split) for p in kept), listing.expected)
    notes = Counter(note for p in kept for note in made[p.subset, p.id].record["notes"])
    _finish(root, out, kept, made, plan, shards, about | {
        "pairs": len(kept),
        "count": counted,
        "expected": [[subset, split, n] for (subset, split), n in listing.expected.items()],
        "priors": {kind: version(kind) for kind in plan.priors},
        "notes": dict(notes),
        "problems": problems[:1000],
    })  # fmt: skip
    return Report(len(kept), len(failed), counted, problems)


def _plan(
    protocol: str, priors: Sequence[str], frame: str | None, simulate: str | None, jpeg: bool | None
) -> Plan:
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    frame = frame or FRAME.get(protocol, "none")
    if frame not in (*FRAMES, "none"):
        raise UsageError(f"there is no frame {frame!r}; choose from {', '.join(FRAMES)}, none")
    simulate = simulate or SIMULATION.get(protocol, "pencil")
    if simulate not in SIMULATIONS:
        raise UsageError(f"there is no simulation {simulate!r}; choose from {', '.join(SIMULATIONS)}")
    for kind in priors:
        version(kind)
    suffix = ".jpg" if jpeg or (jpeg is None and protocol in JPEG) else ".png"
    return Plan(Path(), frame, simulate, tuple(priors), suffix)


def _about(protocol: str, source: Source, plan: Plan, val: float, seed: int, shards: bool) -> dict[str, Any]:
    """What decides the pictures and the splits of a dataset, its priors apart."""
    return {
        "protocol": protocol,
        "source": str(source.folder.resolve()),
        "draw": str(source.draw.resolve()) if source.draw else "published",
        "points": str(source.points.resolve()) if source.points else None,
        "alignment": "as released" if plan.frame == "none" else plan.frame,
        "simulated": plan.simulate,
        "pictures": plan.suffix,
        "test": source.test,
        "validation": {"fraction": val, "seed": seed},
        "shards": shards,
    }


def _workplace(out: Path, about: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Where the work is done: beside `out` or, to add priors to it, in `out` itself; and the priors it has already."""
    if not out.exists():
        building = out.with_name(out.name + ".partial")
        building.mkdir(parents=True, exist_ok=True)
        return building, ()
    try:
        written = json.loads((out / "dataset.json").read_text())
        same = all(written.get(key) == value for key, value in about.items())
        priors = dict(written["priors"])
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        same = False
    if not same or about["shards"]:
        raise DataError(f"{out}: already exists; remove it or choose another --out")
    return out, tuple(priors)


def _hide_stale(
    out: Path, pairs: Iterable[Pair], plan: Plan, known: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """While priors are made anew, the folder reads as one without them."""
    keys = [(pair, (pair.subset, pair.id)) for pair in pairs]
    stale = {
        kind
        for pair, key in keys
        if key in known or not known  # a pair that was left out is in no row
        for kind in stale_priors(pair, plan, known.get(key, {}))
    }
    if stale:
        about = json.loads((out / "dataset.json").read_text())
        columns = [f"{of}{kind}" for kind in stale for of in ("", "sketch_")]
        _write_tables(out, [row | dict.fromkeys(columns, "") for row in read_rows(out)], about)


def _hold_out(pairs: list[Pair], fraction: float, seed: int) -> list[Pair]:
    """Move a fraction of each subset's training pairs to the split val; sketches alone validate nothing."""
    groups: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    if any(pair.split == "val" for pair in pairs):  # the draw has one of its own
        return pairs
    for pair in pairs:
        if pair.split == "train" and pair.photo:
            groups[pair.subset, pair.style].append(pair)
    held: set[tuple[str, str]] = set()
    for key in sorted(groups):
        ids = sorted(p.id for p in groups[key])
        count = min(MOST_HELD_OUT, round(fraction * len(ids)))
        held.update((key[0], id) for id in random.Random(f"{seed}/{key}").sample(ids, count))
    return [replace(p, split="val") if (p.subset, p.id) in held else p for p in pairs]


def _refuse_doubles(pairs: Iterable[Pair]) -> None:
    seen: set[tuple[str, str]] = set()
    for pair in pairs:
        key = (pair.subset, pair.id.lower())  # some file systems know no case
        if key in seen:
            raise DataError(
                f"{pair.file}: another pair of {pair.subset} has the id {pair.id} too; rename one"
            )
        seen.add(key)


def _doubles(pairs: Sequence[Pair], made: dict[tuple[str, str], Made]) -> list[str]:
    """Photos and sketches whose files are the same, byte for byte: a line for each, those across splits first."""
    first: dict[tuple[str, str], Pair] = {}
    across, within = [], []
    for pair in pairs:
        for kind, hashed in made[pair.subset, pair.id].record["files"].items():
            other = first.setdefault((kind, hashed), pair)
            if other is pair:
                continue
            path = pair.photo if kind == "photo" else pair.sketch
            named = f"{path}: the same file as the {kind} of {other.subset} {other.id}"
            if other.split != pair.split:
                across.append(f"{named}; one is for {pair.split}, the other for {other.split}")
            else:
                within.append(named)
    return across + within


def _read_journal(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The record of every pair that is done, by subset and id; a line cut off by a kill is none."""
    known = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                known[record["subset"], record["id"]] = record
            except (ValueError, KeyError, TypeError):
                continue
    return known


def _finish(
    root: Path,
    out: Path,
    pairs: Sequence[Pair],
    made: dict[tuple[str, str], Made],
    plan: Plan,
    shards: bool,
    about: dict[str, Any],
) -> None:
    """The tables, which make a folder of pictures a dataset; then its name."""
    records = [made[p.subset, p.id].record for p in pairs]
    rows = [
        {"id": p.id, "subset": p.subset, "split": p.split, "style": p.style} | record["paths"]
        for p, record in zip(pairs, records, strict=True)
    ]
    if shards:
        rows = write_shards(root, rows)
    write_whole(root / JOURNAL, "".join(json.dumps(record) + "\n" for record in records))
    points = [
        {"id": p.id, "subset": p.subset, "of": kind, "points": json.dumps([[round(v, 2) for v in xy] for xy in found])}
        for p, record in zip(pairs, records, strict=True)
        for kind, found in record["points"].items()
    ]  # fmt: skip
    if points:
        _write_table(root / "points.csv", ("id", "subset", "of", "points"), points)
    if any(p.attributes for p in pairs):
        names = sorted({name for p in pairs for name in p.attributes})
        _write_table(
            root / "attributes.csv",
            ("id", "subset", *names),
            [{"id": p.id, "subset": p.subset, **p.attributes} for p in pairs],
        )
    _write_tables(root, rows, about)
    if shards:
        for folder in {path.split("/")[0] for record in records for path in record["paths"].values()}:
            shutil.rmtree(root / folder, ignore_errors=True)
        (root / JOURNAL).unlink()
    if root != out:
        root.rename(out)


def _write_tables(root: Path, rows: Iterable[dict[str, str]], about: dict[str, Any]) -> None:
    """pairs.csv, and dataset.json with its hash."""
    _write_table(root / "pairs.csv", COLUMNS, rows)
    hashed = hashlib.sha256((root / "pairs.csv").read_bytes()).hexdigest()
    about = about | {"silverpoint": silverpoint.__version__, "sha256": hashed}
    write_whole(root / "dataset.json", json.dumps(about, indent=2) + "\n")


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, str]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
