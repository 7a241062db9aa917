"""One pair of a dataset made from its files, in this process or in several."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image

from silverpoint.data import simulate
from silverpoint.data.alignment import FRAMES, align_to
from silverpoint.data.points import Points, detect_points
from silverpoint.data.priors import predictor, sketch_prior, version
from silverpoint.data.protocols import Pair
from silverpoint.errors import AssetError, DataError, SilverpointError
from silverpoint.image import read_image, size_in_file, to_grey, write_image

REVISION = 1  # to be raised when the pictures come out otherwise: prepared ones are then made anew
FOLDERS = {"photo": "photos", "sketch": "sketches"}
# What is noted of a sketch's prior that came out as noise: a training pair borrows its photo's, of the same face in the
# same place. Of others a network that draws the photo would be shown the answer.
LENT, POOR = "taken from the photo", "poor, kept as it is"
AHEAD = 4  # pairs in flight for each process: what bounds the memory


@dataclass(frozen=True)
class Plan:
    """What is made of every pair, and where."""

    root: Path
    frame: str  # a key of FRAMES, or none
    simulate: str
    priors: tuple[str, ...]
    suffix: str = ".png"  # of photos and sketches; priors are PNG always
    size: tuple[int, int] | None = None  # what every picture must have, width and height


@dataclass(frozen=True)
class Made:
    """A pair that is done, or the one line that says why it is not. `record` is what the journal keeps."""

    subset: str
    id: str
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def make_all(
    pairs: Sequence[Pair],
    plan: Plan,
    known: Mapping[tuple[str, str], dict[str, Any]],
    workers: int,
) -> Iterator[Made]:
    """Every pair once, in the order they are done. What `known` says is done already is left as it is."""
    if workers <= 1:
        yield from (make(pair, plan, known.get((pair.subset, pair.id))) for pair in pairs)
        return
    # spawned: a forked process that inherits another's threads may wait for them for ever
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:
        waiting: set[Future[Made]] = set()
        try:
            for pair in pairs:
                waiting.add(pool.submit(make, pair, plan, known.get((pair.subset, pair.id))))
                if len(waiting) >= AHEAD * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker computes on one core: the others have workers of their own. Ctrl-C is the parent's to answer."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for its next pair for ever, with its networks in memory."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make(pair: Pair, plan: Plan, known: dict[str, Any] | None = None) -> Made:
    """Read, align, simulate, compute and write what `known` does not say is there.

    Raises AssetError, which is no fault of the pair.
    """
    try:
        return Made(pair.subset, pair.id, _make(pair, plan, known or {}))
    except AssetError:
        raise
    except SilverpointError as error:
        return Made(pair.subset, pair.id, problem=str(error))


def _make(pair: Pair, plan: Plan, known: dict[str, Any]) -> dict[str, Any]:
    files = _files(pair)
    key = _key(files, pair, plan)
    name = f"{pair.subset}/{pair.id}.png"
    paths = {
        kind: f"{folder}/{pair.subset}/{pair.id}{plan.suffix}"
        for kind, folder in FOLDERS.items()
        if kind == "sketch" or pair.photo
    }
    fresh = known.get("key") != key or not all((plan.root / p).is_file() for p in paths.values())
    if fresh:
        known = {}
    record: dict[str, Any] = {
        "id": pair.id,
        "subset": pair.subset,
        "key": key,
        "files": files,
        "paths": paths,
        "points": known.get("points", {}),
        "priors": {},
        "notes": [],
    }
    wanted = [kind for kind in plan.priors if not _is_there(kind, known, pair, plan)]
    for kind in plan.priors:
        if kind not in wanted:
            record["priors"][kind] = known["priors"][kind]
            record["paths"] |= {k: p for k, p in known["paths"].items() if k in (kind, f"sketch_{kind}")}
    record["notes"] = [
        n for n in known.get("notes", []) if n.split()[0] not in {f"sketch_{k}" for k in wanted}
    ]
    if not fresh and not wanted:
        return record
    if fresh:
        photo, sketch, record["points"], notes = _pictures(pair, plan)
        record["notes"] += notes
        if photo is not None:
            _write(plan.root, paths["photo"], photo)
        _write(plan.root, paths["sketch"], sketch)
    else:
        photo = read_image(plan.root / paths["photo"]) if pair.photo else None
        sketch = to_grey(read_image(plan.root / paths["sketch"]))
    for kind in wanted:
        prior = None if photo is None else predictor(kind)(photo)
        if prior is not None:
            record["paths"][kind] = _write(plan.root, f"{kind}/{name}", prior)
        if pair.sketch is None:  # simulated: the same face, pixel for pixel
            record["paths"][f"sketch_{kind}"] = record["paths"][kind]
        else:
            drawn, sound = sketch_prior(kind, sketch, prior)
            if not sound and prior is not None:
                lent = pair.split == "train"
                drawn = prior if lent else drawn
                record["notes"].append(f"sketch_{kind} {LENT if lent else POOR}")
            record["paths"][f"sketch_{kind}"] = _write(plan.root, f"sketch_{kind}/{name}", drawn)
        record["priors"][kind] = version(kind)
    return record


def stale_priors(pair: Pair, plan: Plan, known: dict[str, Any]) -> set[str]:
    """The plan's priors that `make` would make anew."""
    try:
        same = known.get("key") == _key(_files(pair), pair, plan)
    except DataError:  # for `make` to report
        return set()
    return {kind for kind in plan.priors if not same or not _is_there(kind, known, pair, plan)}


def _files(pair: Pair) -> dict[str, str]:
    return {kind: _hash(file) for kind, file in (("photo", pair.photo), ("sketch", pair.sketch)) if file}


def _hash(path: Path) -> str:
    try:
        return _digest(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key(files: dict[str, str], pair: Pair, plan: Plan) -> str:
    """What the pictures of a pair depend on."""
    simulated = None if pair.sketch else (plan.simulate, simulate.VERSION)
    parts = [
        files,
        plan.frame,
        plan.size,
        plan.suffix,
        pair.photo_points,
        pair.sketch_points,
        simulated,
        REVISION,
    ]
    return _digest(json.dumps(parts).encode())[:32]


def _is_there(kind: str, known: dict[str, Any], pair: Pair, plan: Plan) -> bool:
    """Whether a prior of these very pictures was computed by this very version, for a pair of this split."""
    if f"sketch_{kind} {POOR if pair.split == 'train' else LENT}" in known.get("notes", []):
        return False
    kinds = (kind, f"sketch_{kind}") if pair.photo else (f"sketch_{kind}",)
    names = [known.get("paths", {}).get(k) for k in kinds]
    return known.get("priors", {}).get(kind) == version(kind) and all(
        name and (plan.root / name).is_file() for name in names
    )


def _pictures(pair: Pair, plan: Plan) -> tuple[np.ndarray | None, np.ndarray, dict[str, Points], list[str]]:
    """Photo (H, W, 3), if there is one, and sketch (H, W) as they are stored, where their points are, and what is to
    be said of them.
    """
    found: dict[str, Points] = {}
    photo = None
    if pair.photo:
        photo, points = _framed(pair.photo, pair.photo_points, plan)
        found |= {"photo": points} if points else {}
        if pair.sketch is None:
            return photo, simulate.SIMULATIONS[plan.simulate](photo), found, []
    assert pair.sketch
    sketch, points = _framed(pair.sketch, pair.sketch_points, plan)
    found |= {"sketch": points} if points else {}
    grey = to_grey(sketch)
    if photo is None or grey.shape == photo.shape[:2]:
        return photo, grey, found, []
    (h, w), (tall, wide) = photo.shape[:2], grey.shape
    if abs(wide / tall * h / w - 1) > 0.03:
        raise DataError(f"{pair.sketch}: is {wide}x{tall}, its photo {w}x{h}; align them with --align cufs")
    resized = np.asarray(Image.fromarray(grey).resize((w, h), Image.Resampling.LANCZOS))
    if points:
        found["sketch"] = _scaled(points, w / wide, h / tall)
    return photo, resized, found, ["sketch scaled to the size of its photo"]


def _framed(path: Path, points: Points | None, plan: Plan) -> tuple[np.ndarray, Points | None]:
    image = read_image(path)
    if points:  # of the file; a very large picture is read smaller
        scale = max(image.shape) / max(size_in_file(path))
        points = _scaled(points, scale, scale)
    if plan.frame == "none":
        if plan.size and image.shape[1::-1] != plan.size:
            size, right = "x".join(map(str, image.shape[1::-1])), "x".join(map(str, plan.size))
            raise DataError(f"{path}: is {size}, this database has {right}; align it with --align cufs")
        return image, points
    h, w = image.shape[:2]
    if points and not all(0 <= x < w and 0 <= y < h for x, y in points[:2]):
        raise DataError(f"{path}: is {w}x{h} and its eyes lie outside; are the points of this very file?")
    try:
        return align_to(image, points or detect_points(image), FRAMES[plan.frame])
    except SilverpointError as error:
        raise DataError(f"{path}: {error}") from error


def _scaled(points: Points, x: float, y: float) -> Points:
    return tuple(((px + 0.5) * x - 0.5, (py + 0.5) * y - 0.5) for px, py in points)


def _write(root: Path, name: str, image: np.ndarray) -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    write_image(image, root / name)
    return name
