"""Several processes and one: the same weights, and everything written once. And a process that is killed."""

import json
import math
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import silverpoint.methods.method as registry
from lab import Seeing, SmallGAN, SmallSettings, register_small_methods, write_dataset
from silverpoint.data.batches import still
from silverpoint.data.pairs import read_split
from silverpoint.errors import RunError
from silverpoint.training import checkpoint, report
from silverpoint.training.trainer import RunOptions, Trainer, resumed

# Processes forked from one that has imported torch but never computed: they start in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["lab", "silverpoint.training.trainer", "silverpoint.metrics"])

SETTINGS = {"n_epochs": 1, "n_epochs_decay": 5}
ENVIRONMENT = {"SILVERPOINT_OFFLINE": "1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", train=4, val=3)


@pytest.fixture(autouse=True)
def _small_methods_and_no_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    monkeypatch.setitem(registry._REGISTRY, "small", lambda: SmallGAN)
    monkeypatch.setitem(registry._REGISTRY, "seeing", lambda: Seeing)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last.safetensors")


def train(
    dataset,
    out,
    settings=None,
    resume=False,
    environment=None,
    killed_by=None,
    failing=None,
    method="small",
    **options,
):
    """In a process of its own."""
    os.environ.update(ENVIRONMENT | (environment or {}))
    torch.set_num_threads(1)
    report.LOG_SECONDS = math.inf  # lines at fixed steps, however slow the machine
    register_small_methods()
    if killed_by:
        kill_at(*killed_by)
    if failing:
        said = os.open(out.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 2)
        fail_at(*failing)
    if resume:
        resumed(out, **options).fit(resume=True)
        return
    options = {
        "accelerator": "cpu",
        "precision": "32-true",
        "save_minutes": 0.0,
        "select": "ssim",
        "validate_epochs": 2,
    } | options
    Trainer(
        method, SmallSettings(**SETTINGS | (settings or {})), RunOptions((str(dataset),), **options), out
    ).fit()


def start(*arguments, **keywords):
    process = processes.Process(target=train, args=arguments, kwargs=keywords)
    process.start()
    return process


# ---- two processes -----------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train_by_two(dataset, out, **keywords) -> list[int]:
    """What torchrun does, without its start; returns the exit codes."""
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
    }
    both = [
        start(dataset, out, environment={**common, "RANK": str(r), "LOCAL_RANK": str(r)}, **keywords)
        for r in range(2)
    ]
    for process in both:
        process.join(120)
    return [process.exitcode for process in both]


def test_two_processes_with_batch_b_make_the_weights_of_one_with_2b(dataset, tmp_path):
    """To rounding: norms are of one image, losses are means over the batch, no step draws random numbers."""
    assert train_by_two(dataset, tmp_path / "two", settings={"batch_size": 1}) == [0, 0]
    train(dataset, tmp_path / "one", settings={"batch_size": 2})
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert any("memory" in key for key in one)  # what moves outside autograd is the same in both processes
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=1e-3, msg=lambda m, k=key: f"{k}: {m}")


def test_two_processes_write_and_score_as_one(dataset, tmp_path):
    assert train_by_two(dataset, tmp_path / "two", settings={"batch_size": 1}) == [0, 0]
    train(dataset, tmp_path / "one", settings={"batch_size": 2})

    def lines(run):
        return [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]

    one, two = lines("one"), lines("two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        for key in ("g_l1", "d_real", "ssim", "psnr"):
            assert (key in a) == (key in b)
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=2e-3)
    names = [sorted(p.name for p in (tmp_path / run / "samples").iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]


def test_a_process_without_a_share_of_the_validation_keeps_up(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", train=4, val=1)
    settings = {"batch_size": 1, "n_epochs_decay": 0}
    options = {"settings": settings, "method": "seeing", "validate_epochs": 1}
    assert train_by_two(dataset, tmp_path / "two", **options) == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    (seen,) = (line["brightness"] for line in lines if line.get("validation") == "seeing")
    batch, _ = still(read_split(dataset, "val")[0], ["mine"], multiple=32)
    assert seen == pytest.approx(float(batch.photo.mean()), abs=1e-3)


@pytest.mark.parametrize("method", ["small", "seeing"])
def test_two_processes_resume_bit_for_bit_and_only_as_two(dataset, tmp_path, method):
    alike = {"settings": {"batch_size": 1}, "method": method}
    assert train_by_two(dataset, tmp_path / "whole", **alike) == [0, 0]
    # The signal reaches one process; both stop after the same step.
    assert train_by_two(dataset, tmp_path / "run", killed_by=("asked", 5), **alike) == [1, 1]
    state = json.loads(_metadata(tmp_path / "run"))
    assert state["step"] == 5
    alone = start(dataset, tmp_path / "run", resume=True)
    alone.join(120)
    assert alone.exitcode == 1
    assert train_by_two(dataset, tmp_path / "run", resume=True) == [0, 0]
    whole, run = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert whole.keys() == run.keys()
    assert all(torch.equal(whole[key], run[key]) for key in whole)
    if method == "seeing":  # each has its own past
        assert not torch.equal(run["method.pool.images"], run["process1.pool.images"])


def fail_at(call: str, rank: str, error: Exception) -> None:
    """In this process, if it has this rank, the second call of a Trainer's method fails."""
    original, seen = getattr(Trainer, call), []

    def failing(*arguments, **keywords):
        seen.append(1)
        if len(seen) == 2 and os.environ["RANK"] == rank:
            raise error
        return original(*arguments, **keywords)

    setattr(Trainer, call, failing)


@pytest.mark.parametrize(
    ("call", "rank", "error", "said"),
    [
        ("_write_checkpoint", "0", RunError("last.safetensors: cannot be written; make room"), "make room"),
        ("_update", "1", MemoryError(), "process 1: {out}: out of memory; what takes less:"),
    ],
)
def test_what_befalls_one_of_two_processes_ends_both_and_is_said_with_the_way_out(
    dataset, tmp_path, call, rank, error, said
):
    out = tmp_path / "run"
    options = {"settings": {"batch_size": 2}, "failing": (call, rank, error)}
    assert train_by_two(dataset, out, **options) == [1, 1]
    assert said.format(out=out) in out.with_suffix(".err").read_text()


def _metadata(run: Path) -> str:
    from safetensors import safe_open

    with safe_open(run / "checkpoints" / "last.safetensors", framework="pt") as file:
        return file.metadata()["silverpoint"]


TINY = ["--batch_size", "1", "--crop_size", "48", "--lambda_perceptual", "0", "--discriminator_width", "8"]


@pytest.mark.parametrize("way", ["torchrun", "--devices"])
def test_the_command_trains_on_two_processes(dataset, tmp_path, way):
    command = ["-m", "silverpoint", "train", "pencil", str(dataset), "--out", str(tmp_path / "run")]
    command += ["--accelerator", "cpu", "--epochs", "2", "--select", "ssim", *TINY]
    if way == "torchrun":
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    else:
        command += ["--devices", "2"]
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": done") == 1
    assert done.stderr.count("4 steps done") == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]
    steps = [line["step"] for line in lines if "validation" not in line]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 4)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_what_is_wrong_is_said_once_by_two_processes(tmp_path):
    command = ["-m", "silverpoint", "train", "pencil", "nowhere", "--out", "run", "--accelerator", "cpu"]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert done.stderr.count("silverpoint prepare") == 1


# ---- a process that is killed ------------------------------------------------------------------------------------


def kill_at(what: str, when: int) -> None:
    """This process kills itself (SIGKILL; `asked`: is asked to stop) at the `when`-th such moment."""
    seen = 0
    module, name = {
        "begun": (checkpoint, "save_file"),
        "written": (os, "fsync"),
        "linked": (os, "link"),
        "renamed": (os, "replace"),
    }.get(what, (Trainer, "_update"))
    original = getattr(module, name)

    def deadly(*arguments, **keywords):
        nonlocal seen
        names = [Path(str(a)).name for a in arguments] if module is os and name != "fsync" else ["last"]
        seen += any("last" in n for n in names)
        if seen == when and what == "asked":
            if os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGTERM)
        elif seen == when:
            if (
                what == "begun"
            ):  # in the middle of the bytes, which safetensors writes under a name of its own
                (arguments[1].parent / ".tmpQx3aZ9").write_bytes(b"half a checkpoint")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(module, name, deadly)


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    process = start(dataset, out)
    process.join(120)
    return weights(out)


def assert_reaches(out: Path, expected: dict[str, torch.Tensor]) -> None:
    found = weights(out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    names = {p.name for p in (out / "checkpoints").iterdir()}
    assert names == {"last.safetensors", "last-1.safetensors", "best.safetensors"}


@pytest.mark.parametrize(
    "moment", [("begun", 4), ("written", 9), ("linked", 4), ("renamed", 6), ("renamed", 7), ("step", 5)]
)
def test_killed_while_a_checkpoint_is_written_a_run_still_reaches_the_same_weights(
    dataset, tmp_path, undisturbed, moment
):
    out = tmp_path / "run"
    process = start(dataset, out, killed_by=moment)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    process = start(dataset, out, resume=True)
    process.join(120)
    assert process.exitcode == 0
    assert_reaches(out, undisturbed)


def test_killed_again_and_again_at_random_a_run_still_reaches_the_same_weights(
    dataset, tmp_path, undisturbed
):
    out, moments, killed = tmp_path / "run", random.Random(0), 0
    last = out / "checkpoints" / "last.safetensors"
    for _ in range(60):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = start(dataset, out, resume=last.exists())
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            if last.exists() and last.stat().st_mtime_ns != before:  # it has come further: now, any moment
                time.sleep(moments.uniform(0, 0.03))
                break
            time.sleep(0.002)
        if killed < 4:
            process.kill()
        process.join(120)
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert killed >= 2
    assert_reaches(out, undisturbed)
