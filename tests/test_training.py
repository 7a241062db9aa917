"""A run from its first step to its last: the folder, resuming, stages, settings."""

import json
import math
import os
import signal
from pathlib import Path
from threading import get_ident

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import silverpoint.methods.method as registry
from lab import SmallGAN, SmallNet, SmallSettings, TwoWay, write_dataset
from silverpoint.cli.main import main
from silverpoint.errors import DataError, RunError, UsageError
from silverpoint.methods import method_class
from silverpoint.methods.method import OptimizerSpec, Stage
from silverpoint.methods.pix2pix import Settings as Pix2PixSettings
from silverpoint.metrics.measure import _lpips_on
from silverpoint.training import checkpoint, processes, report
from silverpoint.training.checkpoint import read_checkpoint, write_checkpoint
from silverpoint.training.export import load_run, load_synthesizer
from silverpoint.training.options import build_options, changed
from silverpoint.training.processes import resolve_precision
from silverpoint.training.report import cut_log
from silverpoint.training.settings import build_settings, parse_flags
from silverpoint.training.trainer import RunOptions, Trainer, read_frame, resumed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", train=4, val=2)


@pytest.fixture(scope="module", autouse=True)
def _small_methods_and_no_downloads(tmp_path_factory):
    """Validation goes without LPIPS where its weights are not at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SILVERPOINT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SILVERPOINT_OFFLINE", "1")
        patch.setattr(report, "LOG_SECONDS", math.inf)  # lines at fixed steps, however slow the machine
        patch.setitem(registry._REGISTRY, "small", lambda: SmallGAN)
        patch.setitem(registry._REGISTRY, "twoway", lambda: TwoWay)
        yield


def trainer(dataset, out, method="small", settings=None, **options):
    options = {"accelerator": "cpu", "save_minutes": 0.0, "select": "ssim"} | options
    settings = build_settings(method_class(method).settings_class, settings or {})
    return Trainer(method, settings, RunOptions((str(dataset),), **options), out)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A run that was left alone."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    trainer(dataset, out).fit()
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# ---- what a person and a script find -----------------------------------------------------------------------------


def test_a_run_folder_holds_what_the_design_says(finished):
    settings = yaml.safe_load((finished / "settings.yaml").read_text())
    assert settings["settings"]["crop_size"] == 32
    assert settings["run"]["precision"] == "32-true"
    assert json.loads((finished / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    assert list((finished / "samples").glob("photo2sketch-*.png"))
    checkpoints = {p.name for p in (finished / "checkpoints").iterdir()}
    assert checkpoints == {"last.safetensors", "last-1.safetensors", "best.safetensors"}
    assert list((finished / "tensorboard").iterdir())
    modes = {path.stat().st_mode for path in finished.rglob("*") if path.is_file()}
    assert len(modes) == 1  # a colleague who may read the log may read the checkpoints


def test_the_log_tells_losses_rates_speed_and_validation(finished):
    lines = lines_of(finished)
    first, last = (line for line in lines if "validation" not in line)
    assert first["step"] == 1
    assert {"d_fake", "d_real", "g_gan", "g_l1"} <= last.keys()
    assert last["images_per_second"] > 0
    assert last["memory_gb"] > 0
    assert first["learning_rate"] == {"discriminator": 0.005, "generator": 0.01}
    assert last["learning_rate"]["generator"] < 0.01
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6]


def test_a_logged_loss_is_the_mean_since_the_line_before(dataset, tmp_path):
    run, seen = trainer(dataset, tmp_path / "run"), []
    update = run._update

    def recorded(*arguments):
        losses = update(*arguments)
        seen.append(float(losses["g_l1"]))
        return losses

    run._update = recorded
    run.fit()
    logged = [line["g_l1"] for line in lines_of(tmp_path / "run") if "g_l1" in line]
    assert logged == pytest.approx([seen[0], sum(seen[1:]) / 5], rel=1e-4)


def test_the_last_words_say_what_was_reached_and_what_comes_next(dataset, tmp_path, capsys):
    trainer(dataset, tmp_path / "run").fit()
    error = capsys.readouterr().err
    assert "6 steps done" in error
    assert "ssim" in error
    assert f"silverpoint export {tmp_path / 'run'}" in error


def test_without_validation_pairs_the_samples_are_of_training_pairs(tmp_path):
    data = write_dataset(tmp_path / "data", train=2)
    assert trainer(data, tmp_path / "run").fit() == {}
    assert list((tmp_path / "run" / "samples").iterdir())


def test_a_metric_that_cannot_be_had_is_said_once(dataset, tmp_path, capsys):
    _lpips_on.cache_clear()  # another test of this process may have had it
    trainer(dataset, tmp_path / "run", select="lpips_alex").fit()
    assert capsys.readouterr().err.count("no best checkpoint is kept: lpips_alex") == 1


def test_training_lowers_the_pixel_loss(dataset, tmp_path):
    settings = {"n_epochs": 1, "n_epochs_decay": 59}
    trainer(dataset, tmp_path / "run", settings=settings, save_minutes=60, validate_epochs=60).fit()
    logged = [line["g_l1"] for line in lines_of(tmp_path / "run") if "g_l1" in line]
    assert logged[-1] < 0.6 * logged[0]


# ---- going on after a stop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_at", [0, 3])
def test_an_interrupted_run_resumes_bit_for_bit(
    dataset, finished, tmp_path, monkeypatch, capsys, stop_at, number
):
    update, out = Trainer._update, tmp_path / "run"

    def interrupted(self, stage, step, total, batch):
        if step == stop_at:
            os.kill(os.getpid(), number)  # Ctrl-C, while a step is under way
        return update(self, stage, step, total, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, out, save_minutes=60).fit()
    assert read_checkpoint(out / "checkpoints" / "last.safetensors")[1]["step"] == stop_at + 1
    assert f"silverpoint train small --out {out} --resume" in capsys.readouterr().err
    resumed(out).fit(resume=True)
    assert_same_weights(out, finished)


def test_stages_run_in_order_and_a_stage_keeps_its_last_checkpoint(dataset, tmp_path):
    TwoWay.started.clear()
    trainer(dataset, tmp_path / "run", "twoway").fit()
    assert TwoWay.started == ["photo2sketch", "sketch2photo"]
    sheets = {p.name.split("-")[0] for p in (tmp_path / "run" / "samples").iterdir()}
    assert sheets == {"photo2sketch", "sketch2photo"}
    first, _ = read_checkpoint(tmp_path / "run" / "checkpoints" / "stage-photo2sketch.safetensors")
    last, _ = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")
    key = "method.nets.{}.first.weight"
    assert torch.equal(first[key.format("photo2sketch")], last[key.format("photo2sketch")])
    assert not torch.equal(first[key.format("sketch2photo")], last[key.format("sketch2photo")])
    moments = [any(name.startswith("optimizer/") for name in tensors) for tensors in (first, last)]
    assert moments == [False, True]  # a run goes on from its last checkpoint alone


@pytest.mark.parametrize("stop_at", [("photo2sketch", 3), ("sketch2photo", 0)])
def test_a_run_stopped_in_any_stage_resumes_there(dataset, tmp_path, monkeypatch, stop_at):
    trainer(dataset, tmp_path / "whole", "twoway").fit()
    update = Trainer._update

    def interrupted(self, stage, step, total, batch):
        if (stage.name, step) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, stage, step, total, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, tmp_path / "run", "twoway").fit()
    resumed(tmp_path / "run").fit(resume=True)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_run_is_never_overwritten_and_a_missing_one_not_resumed(dataset, finished, tmp_path):
    with pytest.raises(RunError, match="--resume"):
        trainer(dataset, finished).fit()
    with pytest.raises(RunError, match="not the settings of a run"):
        resumed(tmp_path)


def test_a_resumed_run_takes_what_may_change_and_refuses_the_rest(dataset, finished, tmp_path, capsys):
    out = tmp_path / "run"
    run = trainer(dataset, out)
    run._validate = lambda *_: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    command = ["train", "small", "--out", str(out), "--resume"]
    for flags, name in (
        (["--lr", "0.5"], "lr"),
        (["--epochs", "9"], "n_epochs"),
        (["--seed", "1"], "seed"),
        (["--precision", "bf16-mixed"], "precision"),
    ):
        assert main([*command, *flags]) == 2
        assert f"--{name} is fixed once a run has begun" in capsys.readouterr().err
    assert main(["train", "twoway", "--out", str(out), "--resume"]) == 2
    assert "is a run of small" in capsys.readouterr().err
    assert main([*command, "--lr", "0.01", "--keep", "3", "--save-minutes", "60"]) == 0
    assert yaml.safe_load((out / "settings.yaml").read_text())["run"]["keep"] == 3
    assert_same_weights(out, finished)


def test_a_resumed_run_refuses_other_training_pairs(dataset, finished, tmp_path):
    other, before = write_dataset(tmp_path / "other", train=5), (finished / "settings.yaml").read_text()
    with pytest.raises(RunError, match="other training pairs"):
        resumed(finished, datasets=(str(other),)).fit(resume=True)
    assert (finished / "settings.yaml").read_text() == before


def test_a_run_begins_with_the_networks_of_another(dataset, finished, tmp_path):
    run = trainer(dataset, tmp_path / "run", start_from=str(finished))
    run._run_stage = lambda *_: None
    run.fit()
    theirs = weights(finished)
    assert all(torch.equal(v, theirs[f"method.{k}"]) for k, v in run.method.state_dict().items())
    average = run.averages["photo2sketch"].module.state_dict()
    assert all(torch.equal(v, theirs[f"average/photo2sketch.module.{k}"]) for k, v in average.items())


def test_a_run_begun_before_the_learning_of_a_direction_does_not_draw_in_it(dataset, tmp_path):
    run = trainer(dataset, tmp_path / "run", method="twoway")
    run.fit()
    assert set(load_run(tmp_path / "run")[1]) == {"photo2sketch", "sketch2photo"}
    assert set(load_run(tmp_path / "run", "stage-photo2sketch")[1]) == {"photo2sketch"}
    with pytest.raises(UsageError, match="has no direction sketch2photo; it has photo2sketch"):
        load_synthesizer(tmp_path / "run", "sketch2photo", "stage-photo2sketch")


def test_the_best_of_a_run_is_the_best_of_all_stages_that_draw_alike(dataset, tmp_path, monkeypatch):
    class Again(TwoWay):
        """Learns photo->sketch, and then once more from scratch."""

        directions = ("photo2sketch",)

        def stages(self):
            return [Stage("first", 1), Stage("second", 1)]

        def start_stage(self, stage):
            self.current = "photo2sketch"
            self.nets["photo2sketch"] = SmallNet(3, 1)

        def optimizers(self, stage):
            return {"photo2sketch": OptimizerSpec(list(self.nets["photo2sketch"].parameters()), 1e-2)}

    monkeypatch.setitem(registry._REGISTRY, "again", lambda: Again)
    run = trainer(dataset, tmp_path / "run", method="again")
    scores = iter([0.9, 0.4])  # the second stage does worse
    run._score = lambda *_: {"ssim": next(scores)}
    run.fit()
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")[1]["stage"] == 0
    names = sorted(p.name for p in (tmp_path / "run" / "samples").iterdir())
    assert names == ["photo2sketch-0000002.png", "photo2sketch-0000004.png"]  # none written over


def test_the_frame_of_the_faces_is_the_datasets(dataset, finished, tmp_path):
    assert read_frame(finished) is None  # 64x80, not aligned by anybody
    (tmp_path / "aligned").mkdir()
    for frame in ("cufs", "face96"):
        aligned = write_dataset(tmp_path / frame, train=2)
        (aligned / "dataset.json").write_text(json.dumps({"protocol": "pairs", "alignment": frame}))
        run = trainer(aligned, tmp_path / f"run-{frame}")
        run._run_stage = lambda *_: None
        run.fit()
        assert read_frame(tmp_path / f"run-{frame}") == frame
    released = write_dataset(tmp_path / "released", train=2, size=(200, 250))
    run = trainer(released, tmp_path / "run-released")
    run._run_stage = lambda *_: None
    run.fit()
    assert read_frame(tmp_path / "run-released") == "cufs"


def test_a_run_learns_from_one_subset_where_asked(dataset, tmp_path):
    mixed = write_dataset(tmp_path / "mixed", train=4, val=2)
    rows = (mixed / "pairs.csv").read_text().splitlines()
    other = [row.replace(",mine,", ",other,", 1) if row.startswith(("p0", "p1")) else row for row in rows]
    (mixed / "pairs.csv").write_text("\n".join(other) + "\n")
    run = trainer(mixed, tmp_path / "run", subset="other")
    assert [e.id for e in run._list("train")] == ["p0", "p1"]
    with pytest.raises(DataError, match="subset 'nobody'"):
        trainer(mixed, tmp_path / "run", subset="nobody")._list("train")


def test_a_resumed_run_forgets_what_it_logged_after_its_checkpoint(finished, tmp_path):
    lines = lines_of(finished)
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        (finished / "log.jsonl").read_bytes() + b'{"stage": "main", "st'
    )  # killed while it wrote
    cut_log(path, ["main"], 0, 4)
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept == [line for line in lines if line["step"] <= 4]
    assert 0 < len(kept) < len(lines)


# ---- checkpoints -------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named_with_the_one_before(finished, tmp_path):
    damaged = tmp_path / "last.safetensors"
    damaged.write_bytes((finished / "checkpoints" / "last.safetensors").read_bytes()[:5000])
    with pytest.raises(RunError, match=r"last\.safetensors: not a readable checkpoint"):
        read_checkpoint(damaged)
    (tmp_path / "last-1.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"last-1\.safetensors is the one before"):
        read_checkpoint(damaged)


@pytest.mark.parametrize(
    ("owner", "call", "error"),
    [
        (os, "replace", OSError("disk full")),
        (os, "fsync", OSError("quota is full")),
        (checkpoint, "save_file", SafetensorError("I/O error: the disk is full")),
    ],
)
def test_a_failed_write_keeps_the_checkpoint_before(tmp_path, monkeypatch, owner, call, error):
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})

    def full(*_):
        raise error

    monkeypatch.setattr(owner, call, full)
    with pytest.raises(
        RunError, match=r"last\.safetensors: cannot be written .*full.*; make room, then go on from"
    ):
        write_checkpoint(path, {"a": torch.zeros(2)}, {"step": 2})
    tensors, state = read_checkpoint(path)
    assert state == {"step": 1}
    assert torch.equal(tensors["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize("links", [True, False])
def test_the_last_k_checkpoints_are_kept(tmp_path, monkeypatch, links):
    if not links:  # a file system without hard links
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("not supported")))
    path = tmp_path / "last.safetensors"
    for step in range(5):
        write_checkpoint(path, {"a": torch.full((2,), float(step))}, {"step": step}, keep=3)
    names = ("last", "last-1", "last-2")
    assert {p.name for p in tmp_path.iterdir()} == {f"{name}.safetensors" for name in names}
    assert [read_checkpoint(tmp_path / f"{name}.safetensors")[1]["step"] for name in names] == [4, 3, 2]
    write_checkpoint(path, {"a": torch.ones(1)}, {"step": 5}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_one_tensor_under_two_names_is_written_under_both(tmp_path):
    shared = torch.ones(3)
    write_checkpoint(tmp_path / "c.safetensors", {"a": shared, "b": shared}, {})
    tensors, _ = read_checkpoint(tmp_path / "c.safetensors")
    assert tensors.keys() == {"a", "b"}


# ---- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_loss_that_turns_nan_stops_the_run_and_names_the_last_good_checkpoint(
    dataset, tmp_path, monkeypatch
):
    step_of = SmallGAN.training_step

    def poisoned(self, batch):
        for name, losses in step_of(self, batch):
            bad = math.nan if self.progress > 0.5 else 1.0
            yield name, {key: value * bad for key, value in losses.items()}

    monkeypatch.setattr(SmallGAN, "training_step", poisoned)
    with pytest.raises(RunError, match=r"d_fake, .* not a number by step 5 .*last\.safetensors, of step 4"):
        trainer(dataset, tmp_path / "run").fit()
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "run").values())


def test_weights_that_are_not_numbers_are_never_saved(dataset, tmp_path, monkeypatch):
    update = Trainer._update

    def poisoned(self, stage, step, total, batch):
        losses = update(self, stage, step, total, batch)
        if step == 2:
            with torch.no_grad():
                self.method.generator.first.weight.fill_(math.inf)
        return losses

    monkeypatch.setattr(Trainer, "_update", poisoned)
    with pytest.raises(RunError, match=r"generator\.first\.weight became infinite .* of step 2"):
        trainer(dataset, tmp_path / "run", validate_epochs=99).fit()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("where", ["training_step", "start_stage"])
def test_out_of_memory_says_what_takes_less(dataset, tmp_path, monkeypatch, error, where):
    def full(*_):
        raise error

    monkeypatch.setattr(SmallGAN, where, full)
    with pytest.raises(RunError) as caught:
        trainer(dataset, tmp_path / "run").fit()
    for way in ("--accumulate 2", "--batch_size below 2", "--crop_size below 32", "--precision bf16-mixed"):
        assert way in str(caught.value)
    assert str(caught.value).endswith("No checkpoint had been written")


def test_out_of_memory_names_the_last_good_checkpoint_as_it_is_written(dataset, tmp_path, monkeypatch):
    out, steps = tmp_path / "Anna" / "Run", []

    def full_at_the_third(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            raise MemoryError
        return update(self, *arguments)

    update = Trainer._update
    monkeypatch.setattr(Trainer, "_update", full_at_the_third)
    with pytest.raises(RunError) as caught:
        trainer(dataset, out).fit()
    assert f"The last good checkpoint is {out / 'checkpoints' / 'last.safetensors'}, of step 2" in str(
        caught.value
    )


def test_another_error_of_a_method_is_not_taken_for_memory(dataset, tmp_path, monkeypatch):
    def wrong(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SmallGAN, "training_step", wrong)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer(dataset, tmp_path / "run").fit()


# ---- the step ----------------------------------------------------------------------------------------------------


def test_a_batch_in_parts_makes_the_same_updates(dataset, tmp_path):
    trainer(dataset, tmp_path / "whole", settings={"batch_size": 4}).fit()
    trainer(dataset, tmp_path / "parts", settings={"batch_size": 4}, accumulate=2).fit()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    names = [k for k in whole if k.startswith(("method.generator", "method.discriminator", "average"))]
    for name in names:
        torch.testing.assert_close(whole[name], parts[name], atol=2e-5, rtol=1e-4)
    with pytest.raises(UsageError, match="must divide the batch_size"):
        trainer(dataset, tmp_path / "run", accumulate=3)


def test_the_averaged_network_is_the_moving_average_of_the_trained_one(dataset, tmp_path, monkeypatch):
    history, update = [], Trainer._update

    def recorded(self, *arguments):
        if not history:
            history.append(self.method.generator.first.weight.detach().clone())
        losses = update(self, *arguments)
        history.append(self.method.generator.first.weight.detach().clone())
        return losses

    monkeypatch.setattr(Trainer, "_update", recorded)
    run = trainer(dataset, tmp_path / "run")
    run.fit()
    mean = history[0]
    for count, current in enumerate(history[1:]):
        keep = min(0.9, (1 + count) / (10 + count))
        mean = keep * mean + (1 - keep) * current
    torch.testing.assert_close(run.averages["photo2sketch"].module.first.weight, mean)


def test_without_a_decay_there_is_no_second_copy(dataset, tmp_path):
    run = trainer(dataset, tmp_path / "run", settings={"ema": 0.0})
    run.fit()
    assert run.averages == {}
    assert not any(key.startswith("average") for key in weights(tmp_path / "run"))


def test_every_optimizer_has_its_own_rate_under_one_schedule(dataset, tmp_path, monkeypatch):
    seen, update = [], Trainer._update

    def recorded(self, *arguments):
        losses = update(self, *arguments)
        seen.append({name: o.param_groups[0]["lr"] for name, o in self.optimizers.items()})
        return losses

    monkeypatch.setattr(Trainer, "_update", recorded)
    trainer(
        dataset, tmp_path / "run"
    ).fit()  # one epoch of two steps at full rate, two epochs falling to zero
    factors = [1, 1, 1, 0.75, 0.5, 0.25]
    assert [s["generator"] for s in seen] == pytest.approx([0.01 * f for f in factors])
    assert [s["discriminator"] for s in seen] == pytest.approx([0.005 * f for f in factors])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seed": "one"}, "--seed must be int"),
        ({"keep": 2.5}, "--keep must be int"),
        ({"save_minutes": "ten"}, "--save_minutes must be float"),
        ({"style_weights": "cufs"}, "STYLE=NUMBER"),
        ({"style_weights": {"cufs": -1}}, "must be above 0"),
        ({"style_ink": "cufs=0"}, "--style-ink cufs=0.0: must be above 0"),
    ],
)
def test_run_options_from_a_file_are_typed(values, says):
    with pytest.raises(UsageError, match=says):
        build_options(values)


def test_run_options_are_what_their_fields_say_however_they_are_written():
    options = build_options({"datasets": "cufs/", "keep": "3", "devices": 2, "style_weights": "a=2,b=0.5"})
    assert (options.datasets, options.keep, options.devices) == (("cufs/",), 3, "2")
    assert options.style_weights == {"a": 2.0, "b": 0.5}
    assert changed(options, {"style_weights": "a=2,b=0.5", "keep": 3}) == options  # said again, nothing else


def test_what_is_misspelt_in_a_file_or_among_styles_is_named(dataset, tmp_path, capsys):
    file = tmp_path / "settings.yaml"
    file.write_text("setings: {lr: 0.1}\nrun: {keep: 3}\n")
    command = ["train", "small", str(dataset), "--out", str(tmp_path / "run"), "--accelerator", "cpu"]
    for flags, says in (
        (["--config", str(file)], "no section 'setings'"),
        (["--acumulate", "2"], "did you mean --accumulate?"),
        (["--validate_epochs", "2"], "did you mean --validate-epochs?"),
        (["--style-weights", "mime=2"], "no training pair has the style 'mime'; there are mine"),
        (["--style-ink", "mime=2"], "--style-ink: no training pair has the style 'mime'; there are mine"),
    ):
        assert main([*command, *flags]) == 2
        assert says in capsys.readouterr().err


def test_auto_is_the_precision_the_device_computes_in(monkeypatch):
    monkeypatch.setattr(processes, "processor_has_bf16", lambda: True)
    assert resolve_precision(RunOptions(accelerator="cpu")) == "bf16-mixed"
    assert resolve_precision(RunOptions(accelerator="cpu", precision="32-true")) == "32-true"
    monkeypatch.setattr(processes, "processor_has_bf16", lambda: False)
    assert resolve_precision(RunOptions(accelerator="cpu")) == "32-true"


def test_a_run_in_bf16_keeps_weights_in_32_and_resumes_bit_for_bit(dataset, tmp_path, monkeypatch):
    trainer(dataset, tmp_path / "whole", precision="bf16-mixed").fit()
    update = Trainer._update

    def interrupted(self, stage, step, total, batch):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, stage, step, total, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, tmp_path / "run", precision="bf16-mixed").fit()
    resumed(tmp_path / "run").fit(resume=True)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    kinds = {t.dtype for key, t in weights(tmp_path / "run").items() if key.startswith("method")}
    assert kinds == {torch.float32}


def test_compile_reaches_every_network_and_none_twice(dataset, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    run = trainer(dataset, tmp_path / "run", "twoway", compile=True)
    run.fit()
    nets = run.method.nets
    assert compiled.count(nets["photo2sketch"]) == 1
    assert compiled.count(nets["sketch2photo"]) == 1  # made anew in its stage
    assert not any(isinstance(module, nn.ModuleDict) for module in compiled)


def test_a_step_never_waits_for_the_device(dataset, tmp_path, monkeypatch):
    """Reading a value of a tensor waits for the device; between log lines nobody does, but those who make batches."""
    run, reads = trainer(dataset, tmp_path / "run", save_minutes=60, validate_epochs=99), []
    update, stepping = run._update, get_ident()

    def watch(name):
        original = getattr(torch.Tensor, name)

        def read(self, *arguments, **keywords):
            if get_ident() == stepping:
                reads.append(name)
            return original(self, *arguments, **keywords)

        return read

    def watched(*arguments):
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, watch(name))
            return update(*arguments)

    run._update = watched
    run.fit()
    assert reads == []


# ---- settings ----------------------------------------------------------------------------------------------------


def test_flags_are_typed_and_misspelt_ones_refused_with_the_nearest():
    flags = parse_flags(["--lambda-l1", "3", "--gan_mode=lsgan"])
    settings = build_settings(Pix2PixSettings, flags)
    assert (settings.lambda_l1, settings.gan_mode) == (3.0, "lsgan")
    with pytest.raises(UsageError, match="did you mean --lambda_l1"):
        build_settings(Pix2PixSettings, {"lamda_l1": "3"})
    with pytest.raises(UsageError, match="must be float"):
        build_settings(Pix2PixSettings, {"lr": "fast"})
    with pytest.raises(UsageError, match="must be int"):
        build_settings(Pix2PixSettings, {"batch_size": 1.5})
    with pytest.raises(UsageError, match="needs a value"):
        parse_flags(["--lr"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"lr": 2}, "lr must be between 0 and 1, not 2"),
        ({"lr": "nan"}, "lr must be between 0 and 1, not nan"),
        ({"framing": "oval"}, "framing must be one of crop"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(values, message):
    with pytest.raises(UsageError, match=message):
        build_settings(SmallSettings, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep": 0}, "--keep must be at least 1"),
        ({"save_minutes": -1}, "--save-minutes must be at least 0"),
        ({"select": "beauty"}, "--select must be one of psnr, ssim"),
        ({"presicion": "32-true"}, "did you mean precision"),
    ],
)
def test_an_option_out_of_range_is_refused_with_the_range(values, message):
    with pytest.raises(UsageError, match=message):
        build_options(values)


def test_one_file_holds_settings_and_options_and_flags_win(dataset, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(
        "method: small\nsettings: {n_epochs: 1, n_epochs_decay: 0, lr: 0.5}\n"
        "run: {accelerator: cpu, select: psnr, save_minutes: 60}\n"
    )
    run = tmp_path / "run"
    command = ["train", "small", str(dataset), "--out", str(run), "--config", str(config)]
    assert main([*command, "--lr", "0.25", "--select", "ssim"]) == 0
    written = yaml.safe_load((run / "settings.yaml").read_text())
    assert written["settings"]["lr"] == 0.25
    assert written["settings"]["n_epochs_decay"] == 0
    assert (written["run"]["select"], written["run"]["save_minutes"]) == ("ssim", 60)
    config.write_text("method: pencil\nsettings: {}\n")
    assert main(command) == 2
    assert "settings of pencil, not of small" in capsys.readouterr().err
    config.write_text("run: {devics: 2}\n")
    assert main(command) == 2
    assert "did you mean devices" in capsys.readouterr().err


def test_unpaired_sketches_are_refused_by_a_method_that_would_not_see_them(dataset, tmp_path, capsys):
    command = ["train", "small", str(dataset), "--unpaired", str(dataset), "--out", str(tmp_path / "run")]
    assert main([*command, "--accelerator", "cpu"]) == 2
    assert (
        "small learns from its datasets alone; --unpaired is for cyclegan, dagan" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_of_many_validation_pairs_as_many_are_scored_as_prepare_would_hold_out(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("silverpoint.training.trainer.MOST_HELD_OUT", 1)
    run = trainer(dataset, tmp_path / "run")
    run._run_stage = lambda *_: None
    run.fit()
    assert len(run.val) == 1


def test_an_unknown_method_is_refused_with_the_nearest(capsys, tmp_path):
    assert main(["train", "pix2pixx", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "did you mean pix2pix" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "silverpoint prepare"),
        ([], 2, "name a dataset folder"),
        (["nowhere", "--devices", "many"], 2, "--devices many is not to be had here"),
        (["nowhere", "--accelerator", "abacus"], 2, "--accelerator abacus"),
        (["nowhere", "--epocs", "3"], 2, "did you mean"),
    ],
)
def test_a_run_that_cannot_begin_is_one_clear_line(capsys, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    if "--accelerator" not in arguments:
        arguments = [*arguments, "--accelerator", "cpu"]
    assert main(["train", "small", *arguments, "--out", "run"]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
