"""What a person sees of a run while it goes on."""

import time
from pathlib import Path

import pytest
import torch

from silverpoint.errors import RunError
from silverpoint.training.report import Report


def test_time_left_is_told_at_the_pace_of_the_stage_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    loss = {"g": torch.ones(())}
    told = []
    with Report(tmp_path, True, 20, torch.device("cpu")) as report:
        for done in range(1, 21):  # ten steps of a second each, then ten of a minute
            first = done <= 10
            now[0] += 1 if first else 60
            report.count("quick" if first else "slow", done, loss, 1)
            if report.due() or done in (10, 20):
                report.log("quick" if first else "slow", done if first else done - 10, 10, {"net": 0.1})
                told.append(capsys.readouterr().err.split("  ")[-1].strip())
    assert told[:4] == ["0:00:19 left", "0:00:10 left", "0:09:00 left", "0:08:00 left"]
    assert told[-1] == "0:00:00 left"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_ends_the_run_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(
            RunError, match=r"log\.jsonl: cannot be written \(No space left on device\); make room"
        ),
        Report(tmp_path, True, 20, torch.device("cpu")) as report,
    ):
        report.validation("main", 1, "photo2sketch", {"ssim": 0.5})


def test_a_run_goes_on_without_tensorboard_where_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Report(tmp_path, True, 20, torch.device("cpu")) as report:

        def full(*_: object) -> None:
            raise OSError("No space left on device")

        report.board.add_scalar = full  # type: ignore[union-attr,method-assign]
        for step in (1, 2):
            report.validation("main", step, "photo2sketch", {"ssim": 0.5})
    assert capsys.readouterr().err.count("tensorboard: cannot be written (No space left on device)") == 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
