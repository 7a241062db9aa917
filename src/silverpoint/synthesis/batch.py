"""Draw many photographs in parallel, in bounded memory; what is wrong with one does not stop the others."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from silverpoint.errors import AssetError, ImageError, SilverpointError
from silverpoint.faces.detect import Face
from silverpoint.synthesis.jobs import Job, numbered
from silverpoint.synthesis.sketcher import Sketch, Sketcher


@dataclass(frozen=True)
class Options:
    """How to draw, for all the photos of a batch."""

    style: str | None = None
    view: str = "portrait"
    all_faces: bool = False
    size: int | None = None
    overwrite: bool = False
    debug: bool = False  # print the traceback of an unexpected error


@dataclass
class Outcome:
    """What became of one photo."""

    source: str
    outputs: list[str] = field(default_factory=list)
    faces: tuple[Face, ...] = ()  # found in the photo
    photo_size: tuple[int, int] | None = None  # as it was read: what `faces` refer to
    size: tuple[int, int] | None = None  # width and height of the drawing, of the first if there are several
    style: str | None = None
    seconds: float = 0.0
    error: str | None = None  # one line that names the photo
    skipped: bool = False  # the drawing was there already


def run(
    jobs: Iterable[Job],
    open_sketcher: Callable[[int], Sketcher],
    options: Options,
    threads: int = 1,
    workers: int = 1,
) -> Iterator[Outcome]:
    """Draw `workers` photos at once on `threads` threads; with a model that sees a picture as one, which takes
    gigabytes, one photo on all threads. The outcomes come in the order of the jobs.

    `open_sketcher` opens the model to draw each photo on so many threads, when the first drawing is needed; its
    errors are raised, as is the AssetError of a prior's network. At most two photos per worker are in flight, so
    that memory does not grow with the number of photos. A job whose drawing exists is skipped. What is wrong with
    one photo is in its outcome.
    """
    pending: deque[Outcome | Future[Outcome]] = deque()
    sketcher: Sketcher | None = None
    pool: ThreadPoolExecutor | None = None
    try:
        for job in jobs:
            if job.error is not None:
                pending.append(Outcome(job.source, error=job.error))
            elif not options.overwrite and (there := drawings(job.target, options)):
                pending.append(Outcome(job.source, there, skipped=True))
            else:
                if sketcher is None or pool is None:
                    sketcher, workers = _opened(open_sketcher, threads, workers)
                    pool = ThreadPoolExecutor(workers, "draw")
                pending.append(pool.submit(draw, job, sketcher, options))
            while len(pending) > 2 * workers or (pending and isinstance(pending[0], Outcome)):
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())
    finally:  # also when interrupted: what is being written is finished, the rest is not begun
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _opened(open_sketcher: Callable[[int], Sketcher], threads: int, workers: int) -> tuple[Sketcher, int]:
    """The sketcher, and how many photos it draws at once."""
    sketcher = open_sketcher(max(1, threads // workers))
    if workers > 1 and not sketcher.card.local:
        return open_sketcher(threads), 1
    return sketcher, workers


def _result(item: Outcome | Future[Outcome]) -> Outcome:
    return item if isinstance(item, Outcome) else item.result()


def drawings(target: str, options: Options, start: int = 1) -> list[str]:
    """The drawings of a photo that there are already; of all faces those from number `start`, without a gap."""
    if not options.all_faces:
        return [target] if os.path.lexists(target) else []
    paths = (numbered(target, n) for n in itertools.count(start))
    return list(itertools.takewhile(os.path.lexists, paths))


def draw(job: Job, sketcher: Sketcher, options: Options) -> Outcome:
    """Draw one job's photo and write what is drawn."""
    start = time.perf_counter()
    outcome = Outcome(job.source)
    try:
        sketches = sketches_of(job.source, sketcher, options)
        describe(outcome, sketches)
        outcome.outputs = save(sketches, job.target, options)
    except AssetError:  # no fault of the photo
        raise
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        outcome.error = error_line(job.source, error)
    outcome.seconds = time.perf_counter() - start
    return outcome


def save(sketches: Sequence[Sketch], target: str, options: Options) -> list[str]:
    """Write the drawings of one photo to `target`, or to several numbered from it; returns the files."""
    paths = [target]
    if options.all_faces:
        paths = [numbered(target, n + 1) for n in range(len(sketches))]
    folder = os.path.dirname(target) or "."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"{folder}: cannot be created ({reason}); choose another folder with -o") from error
    # the first last: a second run takes it for the sign that all are there
    for sketch, path in reversed(list(zip(sketches, paths, strict=True))):
        sketch.save(path)
    if options.all_faces and options.overwrite:  # of a run that found more faces
        for path in drawings(target, options, len(paths) + 1):
            os.remove(path)
    return paths


def describe(outcome: Outcome, sketches: Sequence[Sketch]) -> None:
    """Note in `outcome` what the drawings of its photo are."""
    outcome.faces = tuple(face for sketch in sketches for face in sketch.faces)
    outcome.photo_size = sketches[0].photo_size
    outcome.size, outcome.style = sketches[0].size, sketches[0].style


def sketches_of(photo: Any, sketcher: Sketcher, options: Options) -> list[Sketch]:
    """The drawing of one photo (a path, or the bytes of a file); or one for each of its faces."""
    if options.all_faces:
        return sketcher.sketch_faces(photo, style=options.style, size=options.size)
    return [sketcher.sketch(photo, style=options.style, view=options.view, size=options.size)]


def error_line(source: str, error: Exception) -> str:
    """What went wrong with a photo, in one line that names it."""
    if isinstance(error, SilverpointError):
        line = str(error)
    elif isinstance(error, MemoryError):
        line = "not enough memory; ask for less with --size, or draw fewer at once with --threads 1"
    elif isinstance(error, OSError) and error.strerror:
        line = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        line = f"unexpected {type(error).__name__}: {error}; --debug shows where, please report it"
    line = " ".join(line.splitlines())
    return line if source in line else f"{source}: {line}"
