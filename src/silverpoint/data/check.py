"""The dataset doctor: what in a dataset folder would spoil a result, and what one should know."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from silverpoint.data.alignment import FRAMES
from silverpoint.data.layout import PARTS
from silverpoint.data.pairs import PRIORS, frame_of, read_picture, read_rows, spread
from silverpoint.data.points import detect_points
from silverpoint.data.protocols.listing import count_pairs, read_draw
from silverpoint.errors import DataError, FaceError, ImageError
from silverpoint.image import to_grey

FACES = 100  # pairs whose eyes are looked for; 40 ms each picture
COMPARED = 400  # pairs of a subset whose photos are compared with each other's sketches
FAR = 0.2  # of the eye distance: further from the frame's eyes, a face is not aligned
DRIFT = 0.1  # of the eye distance, in the mean over the faces: the whole set is not aligned
COMPARISONS = 4_000_000  # of test photos with others, at most: larger sets are compared by their pixels alone
GRID = (40, 50)
NEAR = 1.5  # mean difference, in grey levels of a 20x25 picture, below which two photos are one


@dataclass
class Diagnosis:
    """`faults` would spoil a result; `notes` are to be known; `facts` are what was found, by heading."""

    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def page(self, most: int = 12) -> str:
        """What a person reads."""
        lines = [f"{heading:<10} {text}" for heading, text in self.facts.items()]
        for title, found in (("FAULT", self.faults), ("note", self.notes)):
            lines += [f"{title:<10} {line}" for line in found[:most]]
            if len(found) > most:
                lines.append(f"{title:<10} and {len(found) - most} more")
        lines.append("this dataset is sound" if not self.faults else f"{len(self.faults)} faults")
        return "\n".join(lines)


@dataclass
class _Pair:
    """What is kept of a pair after its pictures were read: a few kilobytes."""

    row: dict[str, str]
    size: tuple[int, int]
    hashes: dict[str, str]  # of the pixels of photo and sketch, where there are both
    small: np.ndarray | None  # the photo at half of GRID, of sets that are not too large to be compared
    shapes: tuple[np.ndarray, np.ndarray] | None  # descriptors of photo and sketch, of those to be compared

    @property
    def name(self) -> str:
        return f"{self.row['subset']} {self.row['id']}"


def check(dataset: Path) -> Diagnosis:
    """Examine a dataset folder. Raises DataError when it is none."""
    found = Diagnosis()
    rows = read_rows(dataset)
    if not rows:
        raise DataError(f"{dataset}: pairs.csv holds no pairs; prepare the dataset again")
    about = _about(dataset, found)
    _counts(rows, about, found)
    _draw(rows, about, found)
    pairs = list(_read(dataset, rows, found))
    found.facts["pictures"] = f"{len(pairs)} of {len(rows)} pairs can be read; " + _sizes(pairs, about)
    _priors(rows, about, found)
    if pairs:
        _leaks(pairs, found)
        _pairing(pairs, found)
    _alignment(dataset, [p.row for p in pairs], found)
    return found


def _about(dataset: Path, found: Diagnosis) -> dict[str, Any]:
    """dataset.json, its `expected` as counts by (subset, split); empty when it is none."""
    try:
        about = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        protocol, written = str(about["protocol"]), about["sha256"]
        about["expected"] = {(str(subset), str(split)): int(n) for subset, split, n in about["expected"]}
        notes = [f"when prepared: {problem}" for problem in about["problems"]]
        notes += [f"{note}: {n}" for note, n in about["notes"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found.faults.append(
            "dataset.json: missing, damaged or of an older version; prepare the dataset again"
        )
        return {}
    now = hashlib.sha256((dataset / "pairs.csv").read_bytes()).hexdigest()
    found.facts["dataset"] = f"{dataset}, protocol {protocol}, pairs.csv {now[:12]}"
    if now != written:
        found.faults.append(
            "pairs.csv: is not the one that was prepared (its hash is another); prepare it again"
        )
    found.notes += notes
    return dict(about)


def _counts(rows: Sequence[dict[str, str]], about: dict[str, Any], found: Diagnosis) -> None:
    counts = Counter((r["subset"], r["split"]) for r in rows)
    expected: dict[tuple[str, str], int] = about.get("expected", {})
    splits = Counter(r["split"] for r in rows)
    text = ", ".join(f"{splits[s]} {s}" for s in ("train", "val", "test") if splits[s])
    alone = sum(not r["photo"] for r in rows)
    found.facts["pairs"] = f"{text}; {count_pairs(counts, expected)}" + (
        f"; {alone} of them sketches without photos, for `train --unpaired`" if alone else ""
    )
    for key, n in Counter((r["subset"], r["id"]) for r in rows).items():
        if n > 1:
            found.faults.append(f"{key[0]} {key[1]}: stands in pairs.csv {n} times")
    for key, n in expected.items():
        have = sum(
            c
            for (s, sp), c in counts.items()
            if key[0] in ("", s) and ("train" if sp == "val" else sp) == key[1]
        )
        if have > n:
            found.faults.append(f"{key[0] or 'all'} {key[1]}: {have} pairs, where the protocol has {n}")
    if splits["test"] and not splits["val"]:
        found.notes.append("no validation pairs: a model chosen on the test pairs scores too well")
    unknown = sorted(set(splits) - {"train", "val", "test"})
    found.faults += [f"split {name!r}: is none of train, val, test" for name in unknown]


def _draw(rows: Sequence[dict[str, str]], about: dict[str, Any], found: Diagnosis) -> None:
    """The hash of who is tested, and whether that is the published draw."""
    test = sorted(f"{r['subset']} {r['id']}" for r in rows if r["split"] == "test")
    hashed = hashlib.sha256("\n".join(test).encode()).hexdigest()[:12]
    text = f"{len(test)} test ids, {hashed}" if test else "no test pairs"
    if about.get("protocol") in ("cufs", "cufsf"):
        published = read_draw(None, about["protocol"])
        default = "test" if about["protocol"] == "cufsf" else None
        other = [
            f"{r['subset']} {r['id']}"
            for r in rows
            if published.get((r["subset"], r["id"]), default)
            != ("train" if r["split"] == "val" else r["split"])
        ]
        if other:
            text += f"; not the published draw ({len(other)} pairs differ, {other[0]} among them)"
            found.notes.append("scores on another draw cannot be compared with those on the published one")
        else:
            text += "; as in the published draw"
    found.facts["draw"] = text


def _read(dataset: Path, rows: Sequence[dict[str, str]], found: Diagnosis) -> Iterator[_Pair]:
    tests = sum(row["split"] == "test" for row in rows)
    few = tests * (len(rows) - tests) <= COMPARISONS
    compared = {
        subset: {row["id"] for row in spread([r for r in rows if r["subset"] == subset], COMPARED)}
        for subset in {row["subset"] for row in rows}
    }
    for row in tqdm(rows, desc="check", unit="pair", disable=None):
        try:
            pictures = {
                kind: read_picture(dataset, row[kind], grey=kind == "sketch")
                for kind in ("photo", "sketch")
                if row[kind]
            }
            priors = {name: read_picture(dataset, row[name], grey=True) for name in PRIORS if row.get(name)}
        except (ImageError, DataError) as error:
            found.faults.append(str(error))
            continue
        where = f"{row['subset']} {row['id']}"
        base, first = next(iter(pictures.items()))
        for name, image in (pictures | priors).items():
            if image.shape[:2] != first.shape[:2]:
                sizes = [f"{i.shape[1]}x{i.shape[0]}" for i in (image, first)]
                found.faults.append(f"{where}: its {name} is {sizes[0]}, its {base} {sizes[1]}")
        for name in ("layout", "sketch_layout"):
            if name in priors and priors[name].max() >= len(PARTS):
                found.faults.append(f"{where}: its {name} holds numbers that are no parts")
        for name, image in pictures.items():
            if image.std() < 2:
                found.faults.append(f"{where}: its {name} is blank")
        hashes = {kind: hashlib.sha256(i.tobytes()).hexdigest() for kind, i in pictures.items()}
        small = shapes = None
        if "photo" in pictures:
            grey = to_grey(pictures["photo"])
            small = _shrink(grey, (GRID[0] // 2, GRID[1] // 2)).astype(np.float32) if few else None
            if row["id"] in compared[row["subset"]]:
                shapes = (_shape(grey), _shape(pictures["sketch"]))
        yield _Pair(row, (first.shape[1], first.shape[0]), hashes, small, shapes)


def _sizes(pairs: Sequence[_Pair], about: dict[str, Any]) -> str:
    sizes = Counter(p.size for p in pairs).most_common()
    return ", ".join(f"{n} of {w}x{h}" for (w, h), n in sizes[:4]) + (", ..." if len(sizes) > 4 else "")


def _priors(rows: Sequence[dict[str, str]], about: dict[str, Any], found: Diagnosis) -> None:
    counts = {name: sum(bool(r.get(name)) for r in rows) for name in PRIORS}
    found.facts["priors"] = ", ".join(f"{name} {n}" for name, n in counts.items() if n) or "none"
    for name, n in counts.items():
        due = sum(name.startswith("sketch_") or bool(r["photo"]) for r in rows)
        if 0 < n < due:
            found.faults.append(f"{name}: {due - n} pairs have none; prepare with --priors again")


def _leaks(pairs: Sequence[_Pair], found: Diagnosis) -> None:
    """The same picture in training and in testing, by its pixels and, of photos, by how it looks."""
    leaks = 0
    for kind in ("photo", "sketch"):
        groups: defaultdict[str, list[_Pair]] = defaultdict(list)
        for pair in pairs:
            if kind in pair.hashes:
                groups[pair.hashes[kind]].append(pair)
        for same in groups.values():
            names = ", ".join(f"{p.name} ({p.row['split']})" for p in same[:4])
            if len({p.row["split"] for p in same}) > 1:
                leaks += 1
                found.faults.append(f"one {kind} in several splits: {names}")
            elif len(same) > 1:
                found.notes.append(f"one {kind} several times: {names}")
    test = [(p, p.small) for p in pairs if p.row["split"] == "test" and p.small is not None]
    rest = [p for p in pairs if p.row["split"] != "test" and p.small is not None]
    if test and rest:
        others = np.stack([p.small for p in rest if p.small is not None])
        for pair, small in test:
            apart = np.abs(others - small).mean((1, 2))
            nearest = int(apart.argmin())
            if apart[nearest] < NEAR and rest[nearest].hashes["photo"] != pair.hashes["photo"]:
                leaks += 1
                other = rest[nearest]
                found.faults.append(
                    f"photos that look the same: {pair.name} (test), {other.name} ({other.row['split']})"
                )
    shared = f"{leaks} pictures" if leaks else "no picture is"
    alone = "" if any(pair.small is not None for pair in pairs) else ", by pixels alone"
    found.facts["leaks"] = f"{shared} shared between splits{alone}"


def _pairing(pairs: Sequence[_Pair], found: Diagnosis) -> None:
    """Whether each photo's outlines and tones fit its own sketch better than those of others."""
    first = 0
    total = 0
    for subset in sorted({p.row["subset"] for p in pairs}):
        mine = [p for p in pairs if p.row["subset"] == subset and p.shapes]
        if len(mine) < 8:
            continue
        photos, sketches = (np.stack([p.shapes[of] for p in mine if p.shapes]) for of in (0, 1))
        alike = photos @ sketches.T
        alike = alike - alike.mean(0) - alike.mean(1, keepdims=True)  # some sketches resemble every photo
        rank = (alike > np.diag(alike)[:, None]).mean(1)
        first, total = first + int((rank == 0).sum()), total + len(mine)
        if np.median(rank) > 0.25:  # of sketches drawn by lot, half fit better than one's own
            found.faults.append(
                f"{subset}: photos fit other pairs' sketches; are photos and sketches paired by the right rule?"
            )
            continue
        best = alike.argmax(1)
        for i in np.flatnonzero(rank > 0.1):
            other = int(best[i])
            if best[other] == i and rank[other] > 0.1 and i < other:
                found.faults.append(
                    f"{mine[i].name} and {mine[other].name}: their sketches seem to be exchanged"
                )
            elif rank[i] > 0.5 and best[other] != i:
                found.notes.append(
                    f"{mine[i].name}: half of all sketches fit its photo better than its own; look at it"
                )
    if total:
        found.facts["pairing"] = f"{100 * first / total:.0f}% of {total} photos fit their own sketch best"


def _alignment(dataset: Path, rows: Sequence[dict[str, str]], found: Diagnosis) -> None:
    frame = frame_of(dataset)
    if frame is None or not rows:
        found.facts["alignment"] = "as the pictures came"
        return
    chosen = spread(rows, FACES)
    eyes = FRAMES[frame].eyes()
    distance = float(np.linalg.norm(eyes[1] - eyes[0]))
    texts = []
    for kind in ("photo", "sketch"):
        errors = []
        having = [row for row in chosen if row[kind]]
        for row in having:
            try:
                points = np.asarray(detect_points(read_picture(dataset, row[kind])))[:2]
            except FaceError:
                found.notes.append(f"{row['subset']} {row['id']}: no face found in its {kind}")
                continue
            errors.append(float(np.linalg.norm(points - eyes, axis=1).mean()))
            if errors[-1] > FAR * distance:
                found.notes.append(
                    f"{row['subset']} {row['id']}: the eyes of its {kind} are {errors[-1]:.0f} pixels off the frame"
                )
        if kind == "photo" and 2 * len(errors) < len(having):
            found.faults.append(
                f"{len(having) - len(errors)} of {len(having)} photos show no face; look at `prepare --preview`"
            )
        if errors:
            texts.append(f"{kind} {np.mean(errors):.1f} pixels, worst {max(errors):.1f}")
            if np.mean(errors) > DRIFT * distance:
                found.faults.append(
                    f"{kind}: eyes lie {np.mean(errors):.1f} pixels off the frame in the mean; "
                    f"prepare with --align {frame}"
                )
    found.facts["alignment"] = f"frame {frame}, eyes off by " + ("; ".join(texts) or "no faces found")


def _shrink(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.float64)


def _shape(grey: np.ndarray) -> np.ndarray:
    """Edges and tones of a picture at GRID, each of length 1/sqrt(2) about its mean, float32."""
    small = _shrink(grey, GRID)
    edges = np.sqrt(np.hypot(ndimage.sobel(small, 0), ndimage.sobel(small, 1)))
    parts = [ndimage.gaussian_filter(part, 1.0) for part in (edges, small)]
    parts = [part - part.mean() for part in parts]
    joined = np.concatenate([part.ravel() / max(float(np.linalg.norm(part)), 1e-9) for part in parts])
    return (joined / np.sqrt(2)).astype(np.float32)
