"""The loop that carries every method: devices, precision, order of updates, checkpoints, logs.

Every step's randomness is a function of (seed, step), so a resumed run repeats an undisturbed one bit for bit on
the same hardware.
"""

import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, current_thread, main_thread

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from silverpoint.data.batches import Batch, Batches
from silverpoint.data.pairs import Example, read_split
from silverpoint.errors import DataError, RunError
from silverpoint.methods import method_class
from silverpoint.methods.method import CommonSettings, Method, Stage
from silverpoint.training.checkpoint import (
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from silverpoint.training.environment import describe_environment
from silverpoint.training.report import Report
from silverpoint.training.settings import build_settings
from silverpoint.training.validation import inspect_examples, synthesize_examples, validate


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, as opposed to what is trained (the method's Settings)."""

    datasets: tuple[str, ...]
    seed: int = 0
    precision: str = "32-true"  # any of Lightning Fabric's, e.g. bf16-mixed
    accelerator: str = "auto"
    devices: str = "1"
    save_minutes: float = 5.0  # between checkpoints
    validate_epochs: int = 1  # between validations
    select: str = "lpips_alex"  # validation metric that chooses `best`
    style_weights: dict[str, float] = field(default_factory=dict)
    unpaired: tuple[str, ...] = ()  # datasets whose sketches a batch carries besides its pairs
    start_from: str | None = None  # another run, whose networks this one begins with


class Trainer:
    """One run folder: `Trainer(...).fit()` trains to the end, or goes on from the last checkpoint."""

    def __init__(self, method: str, settings: CommonSettings, options: RunOptions, out: Path) -> None:
        self.method_name, self.settings, self.options, self.out = method, settings, options, out
        self.loaded: dict[str, Tensor] = {}  # a checkpoint's tensors, until the optimizers have taken theirs
        self.fabric = Fabric(
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,  # type: ignore[arg-type]
        )

    def fit(self, resume: bool = False) -> dict[str, float]:
        """Train; returns the last validation's metrics. Raises RunError for an unusable run folder."""
        self.fabric.launch()
        self._open_folder(resume)
        torch.manual_seed(self.options.seed)
        train, val = self._read("train"), self._read("val")
        unpaired = [e for d in self.options.unpaired for e in read_split(Path(d), "train")]
        styles = tuple(sorted({e.style for e in train}))
        with self.fabric.init_module():
            self.method: Method = method_class(self.method_name)(self.settings, styles)
        self.method.to(device=self.fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averages = {d: self._average(self.method.synthesizer(d)) for d in self._directions()}
        self.batches = Batches(
            train,
            styles,
            batch_size=self.settings.batch_size,
            crop_size=self.settings.crop_size,
            augmentation=self.method.augmentation,
            seed=self.options.seed,
            style_weights=self.options.style_weights,
            clean_paper=self.method.clean_paper,
            framing=self.settings.framing,
            fill=self.settings.fill,
            priors=self.method.priors,
            unpaired=unpaired,
            rank=self.fabric.global_rank,
            ranks=self.fabric.world_size,
        )
        self.val, self.best = val, math.inf
        self.metrics: dict[str, float] = {}
        stage, step = self._load() if resume else self._begin()
        stages = self.method.stages()
        with Report(self.out, self.fabric.is_global_zero) as self.report:
            for number in range(stage, len(stages)):
                self._run_stage(number, stages[number], step)
                step = 0
        return self.metrics

    # ---- the loop ----------------------------------------------------------------------------------------------

    def _run_stage(self, number: int, stage: Stage, first: int) -> None:
        method, per_epoch = self.method, self.batches.steps_per_epoch
        total = stage.epochs * per_epoch
        method.start_stage(stage)
        self.optimizers = self._make_optimizers(stage)
        saved = time.monotonic()
        with ThreadPoolExecutor(1) as loader, _interrupt_between_steps() as asked_to_stop:
            upcoming = deque([loader.submit(self.batches.batch, first)])
            for step in range(first, total):
                batch = upcoming.popleft().result().to(self.fabric.device)
                upcoming.append(loader.submit(self.batches.batch, step + 1))
                losses = self._update(stage, step, total, batch)
                self.report.step(stage.name, step + 1, total, losses, len(batch.ids) * self.fabric.world_size)
                ended = (step + 1) % per_epoch == 0
                if ended and (
                    (step + 1) // per_epoch % self.options.validate_epochs == 0 or step + 1 == total
                ):
                    self._validate(number, stage, step + 1)
                if time.monotonic() - saved > 60 * self.options.save_minutes or step + 1 == total:
                    self._save(number, step + 1)
                    saved = time.monotonic()
                if asked_to_stop.is_set():
                    self._stop(number, step + 1)

    def _update(self, stage: Stage, step: int, total: int, batch: Batch) -> dict[str, Tensor]:
        method = self.method
        method.train()
        method.progress = step / total
        torch.manual_seed(int(np.random.SeedSequence((self.options.seed, step)).generate_state(1)[0]))
        updates = method.training_step(batch)
        reported: dict[str, Tensor] = {}
        while True:
            with self.fabric.autocast():
                update = next(updates, None)
            if update is None:
                break
            name, losses = update
            optimizer, spec = self.optimizers[name], self.specs[name]
            for group in optimizer.param_groups:
                group["lr"] = spec.lr * method.lr_factor(stage)
            optimizer.zero_grad(set_to_none=True)
            # `inputs` keeps a generator's loss from also filling the discriminator's gradients
            self.fabric.backward(torch.stack(list(losses.values())).sum(), inputs=spec.parameters)
            self._average_gradients(spec.parameters)
            optimizer.step()
            reported |= {k: v.detach() for k, v in losses.items()}
        for direction, average in self.averages.items():
            average.update_parameters(method.synthesizer(direction))
        return reported

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """One all-reduce per update. Several forwards and optimizers a step are what DDP's hooks handle badly."""
        if self.fabric.world_size == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
        pieces = flat.split([p.numel() for p in parameters])  # type: ignore[union-attr]
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    # ---- what a stage needs ------------------------------------------------------------------------------------

    def _make_optimizers(self, stage: Stage) -> dict[str, torch.optim.Optimizer]:
        self.specs = self.method.optimizers(stage)
        optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(spec.parameters, lr=spec.lr, betas=spec.betas, fused=True)
            for name, spec in self.specs.items()
        }
        for name, optimizer in optimizers.items():
            restore_optimizer(f"optimizer/{name}", optimizer, self.loaded)
        self.loaded = {}
        return optimizers

    def _directions(self) -> tuple[str, ...]:
        chosen = getattr(self.settings, "direction", None)
        return (chosen,) if chosen else self.method.directions

    def _average(self, net: nn.Module) -> AveragedModel:
        """The moving average of a synthesizer; with no decay set, simply its latest weights."""
        decay = self.method.average_decay() or 0.0
        return AveragedModel(net, multi_avg_fn=_warmed_up_average(decay), use_buffers=True)

    def _read(self, split: str) -> list[Example]:
        examples: list[Example] = []
        for dataset in self.options.datasets:
            try:
                examples += read_split(Path(dataset), split)
            except DataError:
                if split == "train":
                    raise
        return examples

    # ---- the run folder ----------------------------------------------------------------------------------------

    def _open_folder(self, resume: bool) -> None:
        last = self.out / "checkpoints" / "last.safetensors"
        if resume:
            if not last.is_file():
                raise RunError(f"{last}: nothing to resume; start the run without --resume")
            return
        if last.exists():
            raise RunError(f"{self.out}: holds a run already; add --resume or choose another --out")
        if not self.fabric.is_global_zero:
            return
        (self.out / "checkpoints").mkdir(parents=True, exist_ok=True)
        (self.out / "samples").mkdir(exist_ok=True)
        settings = {
            "method": self.method_name,
            "settings": asdict(self.settings),
            "run": _plain(self.options),
        }
        (self.out / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        environment = describe_environment(self.fabric.device)
        (self.out / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")

    def _save(self, stage: int, step: int, name: str = "last") -> None:
        if not self.fabric.is_global_zero:
            return
        tensors = {f"method.{k}": v for k, v in self.method.state_dict().items()}
        for direction, average in self.averages.items():
            tensors |= {f"average/{direction}.{k}": v for k, v in average.state_dict().items()}
        for key, optimizer in self.optimizers.items():
            tensors |= optimizer_tensors(f"optimizer/{key}", optimizer)
        state = {
            "stage": stage,
            "step": step,
            "styles": self.method.styles,
            "best": self.best if math.isfinite(self.best) else None,
            "metrics": self.metrics,
        }
        write_checkpoint(self.out / "checkpoints" / f"{name}.safetensors", tensors, state)

    def _begin(self) -> tuple[int, int]:
        """The networks of another run, where one is named, under a schedule that starts at its first step."""
        if self.options.start_from:
            tensors, _ = read_checkpoint(Path(self.options.start_from) / "checkpoints" / "last.safetensors")
            load_into(self.method, "method", tensors)
            for direction, average in self.averages.items():
                load_into(average.module, f"average/{direction}.module", tensors)
        return 0, 0

    def _load(self) -> tuple[int, int]:
        """Restore the last checkpoint; returns its stage and step."""
        self.loaded, state = read_checkpoint(self.out / "checkpoints" / "last.safetensors")
        load_into(self.method, "method", self.loaded)
        for direction, average in self.averages.items():
            load_into(average, f"average/{direction}", self.loaded)
        self.best = math.inf if state["best"] is None else state["best"]
        self.metrics = state["metrics"]
        return state["stage"], state["step"]

    def _stop(self, stage: int, step: int) -> None:
        self._save(stage, step)
        self.report.say(f"stopped at step {step}; go on with --resume")
        raise KeyboardInterrupt

    def _validate(self, number: int, stage: Stage, step: int) -> None:
        if not self.val or not self.fabric.is_global_zero:
            return
        figures, pictures = inspect_examples(self.method, self.val, self.fabric.device)
        if figures:
            self.report.validation(stage.name, step, self.method_name, figures)
        if not stage.draws:
            return self.report.samples(step, stage.name, [[e.photo for e in self.val], *pictures])
        for direction, average in self.averages.items():
            fakes = synthesize_examples(self.method, average.module, self.val, direction, self.fabric.device)
            source, target = [e.photo for e in self.val], [e.sketch for e in self.val]
            rows = [source, fakes, target] if direction == "photo2sketch" else [target, fakes, source]
            self.report.samples(step, direction, [*rows, *pictures])
            self.metrics = validate(self.val, fakes, direction)
            self.report.validation(stage.name, step, direction, self.metrics)
        value = self.metrics.get(self.options.select)
        if value is not None:
            value = value if self.options.select in ("lpips_alex", "lpips_vgg", "fid", "kid") else -value
            if value < self.best:
                self.best = value
                self._save(number, step, "best")


def _warmed_up_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The exponential moving average, over a shorter past at first: the initial weights are soon forgotten."""

    @torch.no_grad()
    def update(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for a, c in zip(average, current, strict=True):
            if a.is_floating_point():
                a.lerp_(c.to(a.dtype), weight)
            else:
                a.copy_(c)

    return update


@contextmanager
def _interrupt_between_steps() -> Iterator[Event]:
    """An event that Ctrl-C sets, so that a step is never left half done; a second Ctrl-C acts at once."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    if current_thread() is not main_thread():  # only the main thread receives signals
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def load_into(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Load the tensors named <prefix>.<key> into a module; RunError when they do not fit."""
    state = {k[len(prefix) + 1 :]: t for k, t in tensors.items() if k.startswith(prefix + ".")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(f"the checkpoint does not fit the method's networks: {error}") from error


def _plain(options: RunOptions) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(options).items()}


def resumed(out: Path) -> Trainer:
    """A Trainer with the method, settings and options that the run folder `out` was started with."""
    settings, options, method = read_run(out)
    return Trainer(method, settings, options, out)


def read_run(out: Path) -> tuple[CommonSettings, RunOptions, str]:
    """Settings, options and method name of a run folder; RunError when it is none."""
    path = out / "settings.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        method, values, run = content["method"], content["settings"], content["run"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the settings of a run ({error})") from error
    run |= {name: tuple(run.get(name, ())) for name in ("datasets", "unpaired")}
    return build_settings(method_class(method).settings_class, values), RunOptions(**run), method
