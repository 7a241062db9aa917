import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import silverpoint.methods.method as registry
from drawn import write_pair_folders
from silverpoint.cli.main import main
from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch, Batches
from silverpoint.data.prepare import prepare
from silverpoint.errors import RunError, UsageError
from silverpoint.methods import method_class, names
from silverpoint.methods.method import CommonSettings, Method, OptimizerSpec, Stage, setting
from silverpoint.methods.pix2pix import Pix2Pix
from silverpoint.methods.pix2pix import Settings as Pix2PixSettings
from silverpoint.training.checkpoint import read_checkpoint, write_checkpoint
from silverpoint.training.export import export, load_run
from silverpoint.training.settings import build_settings, parse_flags
from silverpoint.training.trainer import RunOptions, Trainer, resumed

TINY = {"batch_size": 2, "crop_size": 48, "lambda_perceptual": 0.0, "discriminator_width": 8}
NARROW = {"ngf": 8, "ndf": 8}  # widths of the methods that have such a setting


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare("pairs", write_pair_folders(root / "mine", 6, (64, 80)), root / "dataset", val=0.34)
    return root / "dataset"


@pytest.fixture(scope="module", autouse=True)
def _no_downloads(tmp_path_factory):
    """Validation goes without LPIPS where its weights are not at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SILVERPOINT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SILVERPOINT_OFFLINE", "1")
        yield


def trainer(dataset, out, epochs=3, method="pencil", save_minutes=0.0, **changes):
    values = TINY | {"n_epochs": 1, "n_epochs_decay": epochs - 1} | changes
    settings = build_settings(method_class(method).settings_class, values)
    options = RunOptions((str(dataset),), accelerator="cpu", save_minutes=save_minutes, select="ssim")
    return Trainer(method, settings, options, out)


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


def test_a_run_folder_holds_what_the_design_says(finished):
    assert yaml.safe_load((finished / "settings.yaml").read_text())["settings"]["crop_size"] == 48
    assert json.loads((finished / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert {"d_real", "g_l1"} <= lines[-2].keys() | lines[-1].keys() | lines[0].keys()
    assert any("validation" in line and line["ssim"] is not None for line in lines)
    assert list((finished / "samples").glob("*.png"))
    assert (finished / "checkpoints" / "best.safetensors").is_file()
    assert list((finished / "tensorboard").iterdir())


@pytest.mark.parametrize("stop_at", [1, 4])
def test_an_interrupted_run_resumes_bit_for_bit(dataset, finished, tmp_path, monkeypatch, stop_at):
    original, out = Batches.batch, tmp_path / "run"

    def interrupted(self, step):
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, while a step is under way
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, out, save_minutes=60).fit()
    resumed(out).fit(resume=True)
    assert_same_weights(out, finished)


def test_a_killed_run_resumes_bit_for_bit(dataset, finished, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "silverpoint", "train", "pencil", str(dataset), "--out", str(out)]
    command += ["--accelerator", "cpu", "--save-minutes", "0", "--select", "ssim"]
    command += [
        word
        for name, value in (TINY | {"n_epochs": 1, "n_epochs_decay": 2}).items()
        for word in (f"--{name}", str(value))
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    )
    last = out / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    resumed(out).fit(resume=True)
    assert_same_weights(out, finished)


def test_a_run_is_never_overwritten_and_a_missing_one_not_resumed(dataset, finished, tmp_path):
    with pytest.raises(RunError, match="--resume"):
        trainer(dataset, finished).fit()
    with pytest.raises(RunError, match="not the settings of a run"):
        resumed(tmp_path)


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    damaged = tmp_path / "last.safetensors"
    damaged.write_bytes((finished / "checkpoints" / "last.safetensors").read_bytes()[:5000])
    with pytest.raises(RunError, match=r"last\.safetensors"):
        read_checkpoint(damaged)


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(path, {"a": torch.zeros(2)}, {"step": 2})
    tensors, state = read_checkpoint(path)
    assert state == {"step": 1}
    assert torch.equal(tensors["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_training_lowers_the_pixel_loss(dataset, tmp_path):
    run = trainer(dataset, tmp_path / "run", epochs=40, save_minutes=60, lambda_gan=0.0)
    first, last = [], []
    update = Trainer._update

    def recorded(self, stage, step, total, batch):
        losses = update(self, stage, step, total, batch)
        (first if step < 8 else last if step >= total - 8 else []).append(float(losses["g_l1"]))
        return losses

    run._update = recorded.__get__(run)
    run.fit()
    assert sum(last) < 0.6 * sum(first)


# ---- what every method promises --------------------------------------------------------------------------------


def some_batch(styles=2, size=64, count=2):
    torch.manual_seed(1)
    photo, sketch = torch.rand(count, 3, size, size) * 2 - 1, torch.rand(count, 1, size, size) * 2 - 1
    unpaired = torch.rand(count, 1, size, size) * 2 - 1
    return Batch(photo, sketch, torch.eye(styles)[:count], ["a", "b"][:count], unpaired=unpaired)


def small_method(name):
    settings = build_settings(
        method_class(name).settings_class, {k: v for k, v in (TINY | NARROW).items() if k in fields(name)}
    )
    return method_class(name)(settings, ("x", "y"))


def fields(name):
    return method_class(name).settings_class.__dataclass_fields__


@pytest.mark.parametrize("name", names())
def test_every_step_reaches_every_parameter_of_its_optimizer_and_no_other(name):
    method = small_method(name)
    batch = some_batch(size=256 if name == "pix2pix" else 64)
    specs = method.optimizers(method.stages()[0])
    named = []
    for optimizer, losses in method.training_step(batch):
        named.append(optimizer)
        method.zero_grad()
        torch.stack(list(losses.values())).sum().backward(inputs=specs[optimizer].parameters)
        assert all(p.grad is not None for p in specs[optimizer].parameters)
        mine = {id(p) for p in specs[optimizer].parameters}
        assert all(p.grad is None for p in method.parameters() if id(p) not in mine)
        assert all(torch.isfinite(v) for v in losses.values())
    assert set(named) == set(specs)


@pytest.mark.parametrize("name", names())
def test_every_setting_says_where_it_comes_from(name):
    assert all(f.metadata.get("source") for f in fields(name).values())


def test_the_discriminator_step_leaves_the_generator_alone():
    method = small_method("pencil")
    optimizer, losses = next(method.training_step(some_batch()))
    assert optimizer == "discriminator"
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in method.generator.parameters())


def test_pix2pix_weighs_the_pixel_loss_as_the_paper():
    method = Pix2Pix(Pix2PixSettings(), ("x",)).eval()
    batch = some_batch(styles=1, size=256, count=1)
    with torch.no_grad():
        steps = list(method.training_step(batch))
        fake = method.generator(batch.photo, batch.style)
    torch.testing.assert_close(steps[1][1]["g_l1"], 100 * (fake - batch.sketch).abs().mean())


def test_batch_statistics_are_fixed_towards_the_end():
    method = small_method("pencil").train()
    norms = [m for m in method.generator.modules() if isinstance(m, nn.BatchNorm2d)]
    for progress, training in ((0.2, True), (0.9, False)):
        method.progress = progress
        next(method.training_step(some_batch()))
        assert all(m.training is training for m in norms)


def test_the_schedule_is_constant_then_linear_to_zero():
    method = small_method("pix2pix")
    stage = method.stages()[0]
    factors = []
    for method.progress in (0.0, 0.5, 0.75, 1.0):
        factors.append(method.lr_factor(stage))
    assert factors == [1.0, 1.0, 0.5, 0.0]


# ---- a method with stages and two directions, as five of them will have ------------------------------------------


@dataclass(frozen=True)
class TwoWaySettings(CommonSettings):
    batch_size: int = setting(2, "test")
    crop_size: int = setting(32, "test")
    n_epochs: int = setting(1, "test")
    n_epochs_decay: int = setting(0, "test")


class Pointwise(nn.Module):
    size_multiple = 1

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 1)

    def forward(self, source, style):
        return torch.tanh(self.conv(source))


class TwoWay(Method):
    """Trains photo->sketch in its first stage and sketch->photo in its second, from the first one's output."""

    name = "twoway"
    settings_class = TwoWaySettings
    directions = ("photo2sketch", "sketch2photo")
    augmentation = Augmentation.none()
    started: ClassVar[list[str]] = []

    def __init__(self, settings, styles):
        super().__init__(settings, styles)
        self.nets = nn.ModuleDict({"photo2sketch": Pointwise(3, 1), "sketch2photo": Pointwise(1, 3)})

    def stages(self):
        return [Stage("photo2sketch", 2), Stage("sketch2photo", 1)]

    def start_stage(self, stage):
        self.started.append(stage.name)
        self.current = stage.name

    def optimizers(self, stage):
        return {stage.name: OptimizerSpec(list(self.nets[stage.name].parameters()), 1e-2)}

    def training_step(self, batch):
        source, target = (
            (batch.photo, batch.sketch) if self.current == "photo2sketch" else (batch.sketch, batch.photo)
        )
        yield self.current, {"l1": (self.nets[self.current](source, batch.style) - target).abs().mean()}

    def synthesizer(self, direction):
        return self.nets[direction]


@pytest.fixture
def two_way(monkeypatch):
    monkeypatch.setitem(registry._REGISTRY, "twoway", lambda: TwoWay)
    monkeypatch.setattr(TwoWay, "started", [])


def two_way_trainer(dataset, out):
    options = RunOptions((str(dataset),), accelerator="cpu", save_minutes=0.0, select="ssim")
    return Trainer("twoway", TwoWaySettings(), options, out)


@pytest.mark.usefixtures("two_way")
def test_stages_run_in_order_and_both_directions_are_sampled_and_exported(dataset, tmp_path):
    two_way_trainer(dataset, tmp_path / "run").fit()
    assert TwoWay.started == ["photo2sketch", "sketch2photo"]
    sheets = {p.name.split("-")[0] for p in (tmp_path / "run" / "samples").iterdir()}
    assert sheets == {"photo2sketch", "sketch2photo"}
    for direction in TwoWay.directions:
        assert export(tmp_path / "run", tmp_path / "m.onnx", direction=direction, half=False) < 1e-5
        model = onnx.load(tmp_path / "m.onnx")
        assert json.loads(model.metadata_props[0].value)["direction"] == direction


@pytest.mark.usefixtures("two_way")
def test_a_run_stopped_in_its_second_stage_resumes_there(dataset, tmp_path, monkeypatch):
    two_way_trainer(dataset, tmp_path / "whole").fit()
    update = Trainer._update

    def interrupted(self, stage, step, total, batch):
        if stage.name == "sketch2photo" and step == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, stage, step, total, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            two_way_trainer(dataset, tmp_path / "run").fit()
    TwoWay.started.clear()
    resumed(tmp_path / "run").fit(resume=True)
    assert TwoWay.started == ["sketch2photo"]
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


# ---- settings ----------------------------------------------------------------------------------------------------


def test_flags_are_typed_and_misspelt_ones_refused_with_the_nearest():
    flags = parse_flags(["--lambda-l1", "3", "--gan_mode=lsgan"])
    settings = build_settings(Pix2PixSettings, flags)
    assert (settings.lambda_l1, settings.gan_mode) == (3.0, "lsgan")
    with pytest.raises(UsageError, match="did you mean --lambda_l1"):
        build_settings(Pix2PixSettings, {"lamda_l1": "3"})
    with pytest.raises(UsageError, match="must be float"):
        build_settings(Pix2PixSettings, {"lr": "fast"})
    with pytest.raises(UsageError, match="at least 1"):
        build_settings(Pix2PixSettings, {"batch_size": "0"})
    with pytest.raises(UsageError, match="vanilla"):
        build_settings(Pix2PixSettings, {"gan_mode": "hinge"})
    with pytest.raises(UsageError, match="needs a value"):
        parse_flags(["--lr"])


def test_an_unknown_method_is_refused_with_the_nearest(capsys, tmp_path):
    assert main(["train", "pix2pixx", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "did you mean pix2pix" in capsys.readouterr().err


def test_a_run_without_data_is_one_clear_line(capsys, tmp_path):
    assert (
        main(
            [
                "train",
                "pencil",
                str(tmp_path / "nowhere"),
                "--out",
                str(tmp_path / "run"),
                "--accelerator",
                "cpu",
            ]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "silverpoint prepare" in error
    assert "Traceback" not in error


# ---- export ------------------------------------------------------------------------------------------------------


def test_the_model_file_agrees_with_torch_and_says_what_it_is(finished, tmp_path):
    full = export(finished, tmp_path / "full.onnx", half=False)
    half = export(finished, tmp_path / "half.onnx", about={"licence": "research"})
    assert full < 1e-4
    assert half < 2e-2
    sizes = [(tmp_path / f"{n}.onnx").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    metadata = json.loads(onnx.load(tmp_path / "half.onnx").metadata_props[0].value)
    assert metadata["licence"] == "research"
    assert metadata["direction"] == "photo2sketch"
    assert metadata["size_multiple"] == 16


def test_the_model_file_draws_batches_of_any_size(finished, tmp_path):
    import onnxruntime

    export(finished, tmp_path / "m.onnx", half=False)
    _, nets = load_run(finished)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    photo, style = torch.rand(3, 3, 64, 112) * 2 - 1, torch.eye(1).repeat(3, 1)
    with torch.no_grad():
        expected = nets["photo2sketch"](photo, style).numpy()
    drawn = session.run(None, {"photo": photo.numpy(), "style": style.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(drawn), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_a_direction_the_run_does_not_have_is_refused(finished, tmp_path):
    with pytest.raises(UsageError, match="sketch2photo"):
        export(finished, tmp_path / "m.onnx", direction="sketch2photo")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_every_image_of_a_split_by_its_id(dataset, finished, tmp_path):
    assert (
        main(["synthesize", str(finished), str(dataset), "--split", "val", "--out", str(tmp_path / "fakes")])
        == 0
    )
    assert sorted(p.stem for p in (tmp_path / "fakes").iterdir()) == sorted(
        line.split(",")[0] for line in (dataset / "pairs.csv").read_text().splitlines() if ",val," in line
    )
