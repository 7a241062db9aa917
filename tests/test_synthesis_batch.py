"""Batches: bounded, in order, and no photo's trouble is another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from silverpoint.errors import AssetError, FaceError, ModelError
from silverpoint.synthesis import batch
from silverpoint.synthesis.batch import Options, run
from silverpoint.synthesis.jobs import Job
from silverpoint.synthesis.model import Card
from silverpoint.synthesis.sketcher import Sketch


class FakeSketcher:
    """Draws nothing, slowly; a source named bad has no face."""

    def __init__(self, receptive_margin: int | None = 16) -> None:
        self.card = Card("fake", "none", "photo2sketch", receptive_margin=receptive_margin)
        self.lock = threading.Lock()
        self.active = self.most = 0

    def sketch(self, image: str, **options: Any) -> Sketch:
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
        time.sleep(0.01 if int(image.removeprefix("bad")) % 3 else 0.03)
        with self.lock:
            self.active -= 1
        if image.startswith("bad"):
            raise FaceError(f"{image}: no face found")
        return Sketch(np.zeros((4, 4), np.uint8), None, (), (4, 4))


def test_photos_in_flight_are_bounded_and_outcomes_in_order(tmp_path: Path) -> None:
    sketcher = FakeSketcher()
    begun = 0

    def jobs() -> Iterator[Job]:
        nonlocal begun
        for n in range(40):
            begun += 1
            yield Job(str(n), str(tmp_path / f"{n}.png"))

    for done, outcome in enumerate(run(jobs(), lambda _: sketcher, Options(), workers=3)):  # type: ignore[arg-type, return-value]
        assert outcome.source == str(done)
        assert begun - done <= 2 * 3 + 1
    assert begun == 40
    assert sketcher.most == 3
    assert len(list(tmp_path.iterdir())) == 40


def test_a_model_that_sees_a_picture_as_one_draws_one_at_a_time(tmp_path: Path) -> None:
    sketcher = FakeSketcher(receptive_margin=None)
    jobs = [Job(str(n), str(tmp_path / f"{n}.png")) for n in range(6)]
    opened = []

    def open_sketcher(threads: int) -> Any:
        opened.append(threads)
        return sketcher

    outcomes = list(run(jobs, open_sketcher, Options(), threads=6, workers=3))
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert sketcher.most == 1
    assert opened[-1] == 6


def test_trouble_with_one_photo_stays_with_it(tmp_path: Path) -> None:
    jobs = [Job("1", str(tmp_path / "1.png")), Job("bad2", "x.png"), Job("3", error="3: nothing")]
    jobs.append(Job("4", str(tmp_path / "4.png")))
    outcomes = list(run(jobs, lambda _: FakeSketcher(), Options(), workers=2))  # type: ignore[arg-type]
    assert [outcome.error for outcome in outcomes] == [None, "bad2: no face found", "3: nothing", None]


def test_trouble_with_the_model_ends_the_batch() -> None:
    def no_model(threads: int) -> Any:
        raise ModelError("gone")

    with pytest.raises(ModelError, match="gone"):
        list(run([Job("1", "1.png")], no_model, Options()))


def test_a_network_of_priors_that_cannot_be_had_ends_the_batch(tmp_path: Path) -> None:
    class NoNetwork(FakeSketcher):
        def sketch(self, image: str, **options: Any) -> Sketch:
            raise AssetError("bisenet cannot be fetched")

    jobs = [Job(str(n), str(tmp_path / f"{n}.png")) for n in range(8)]
    with pytest.raises(AssetError, match="bisenet cannot be fetched"):
        list(run(jobs, lambda _: NoNetwork(), Options(), workers=2))  # type: ignore[arg-type]


def test_all_faces_are_written_last_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run must not leave the first, which a second run takes for the sign that all are there."""
    written: list[str] = []
    monkeypatch.setattr(Sketch, "save", lambda self, path: written.append(Path(path).name))
    sketch = Sketch(np.zeros((4, 4), np.uint8), None, (), (4, 4))
    paths = batch.save([sketch] * 3, str(tmp_path / "us.png"), Options(all_faces=True))
    assert written == ["us-face3.png", "us-face2.png", "us-face1.png"]
    assert [Path(path).name for path in paths] == ["us-face1.png", "us-face2.png", "us-face3.png"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FaceError("a.jpg: no face"), "a.jpg: no face"),
        (FaceError("no face"), "a.jpg: no face"),
        (MemoryError(), "a.jpg: not enough memory"),
        (OSError(5, "Input/output error", "out.png"), "a.jpg: out.png: Input/output error"),
        (KeyError("x\ny"), "a.jpg: unexpected KeyError: 'x\\ny'"),
        (ValueError("x\ny"), "a.jpg: unexpected ValueError: x y"),
    ],
)
def test_errors_are_one_line_that_names_the_photo(error: Exception, line: str) -> None:
    said = batch.error_line("a.jpg", error)
    assert said.startswith(line)
    assert "\n" not in said
