"""The loop that carries every method: devices, precision, order of updates, checkpoints, logs.

Every step's randomness is a function of (seed, step), so a resumed run repeats an undisturbed one bit for bit on
the same hardware.
"""

import hashlib
import json
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from silverpoint.data.alignment import FRAMES
from silverpoint.data.batches import Batch, Batches
from silverpoint.data.pairs import (
    MOST_HELD_OUT,
    Example,
    StoredExample,
    frame_of,
    list_sketches,
    list_split,
    spread,
)
from silverpoint.errors import DataError, RunError, SilverpointError, UsageError
from silverpoint.methods import method_class, names
from silverpoint.methods.method import CommonSettings, Method, Stage
from silverpoint.synthesis.model import built_in, open_model
from silverpoint.training.average import Average
from silverpoint.training.checkpoint import (
    load_into,
    optimizer_tensors,
    read_checkpoint,
    read_state,
    remove_leftovers,
    restore_optimizer,
    write_checkpoint,
    write_whole,
)
from silverpoint.training.environment import describe_environment
from silverpoint.training.options import METRICS, RunOptions, build_options, changed, flag_of, plain
from silverpoint.training.processes import Agreement, make_fabric, resolve_precision
from silverpoint.training.report import Report, cut_log
from silverpoint.training.settings import build_settings
from silverpoint.training.validation import LOWER_IS_BETTER, inspect_examples, synthesize_examples, validate

# what libraries say in an error's text, lower case
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
CONNECTION_LOST = ("connection closed", "connection reset", "gloo", "nccl")
LOADERS = 4  # threads that prepare batches, where a graphics card computes


class Trainer:
    """One run folder: `Trainer(...).fit()` trains to the end, or goes on from the last checkpoint."""

    def __init__(self, method: str, settings: CommonSettings, options: RunOptions, out: Path) -> None:
        options = replace(options, precision=resolve_precision(options))
        self.method_name, self.settings, self.options, self.out = method, settings, options, out
        self.checkpoints = out / "checkpoints"
        self.fabric = make_fabric(options)
        self.best = math.inf  # of the validation's chosen metric
        self.trained: list[str] = []  # directions, of the stage that runs
        if settings.batch_size % options.accumulate:
            raise UsageError(
                f"--accumulate {options.accumulate} must divide the batch_size, which is {settings.batch_size}"
            )
        if options.unpaired and not method_class(method).takes_unpaired:
            others = ", ".join(name for name in names() if method_class(name).takes_unpaired)
            raise UsageError(f"{method} learns from its datasets alone; --unpaired is for {others}")
        if settings.needs_unpaired and not options.unpaired:
            raise UsageError(
                f"{method} adapts to sketches without photos: name datasets of them with --unpaired; "
                f"`silverpoint methods {method}` lists the settings that do without"
            )
        if settings.needs_start and not options.start_from:
            raise UsageError(
                f"{method} with these settings learns from what it began with: name a run or a model file with "
                f"--start-from; `silverpoint methods {method}` lists the settings that do without"
            )

    def fit(self, resume: bool = False) -> dict[str, dict[str, float]]:
        """Train; returns the last validation's metrics, by direction. Raises RunError for an unusable run folder."""
        if self.options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = not self.options.deterministic  # crops are of one size
        self.fabric.launch()
        self.all = Agreement(self.fabric)
        last = self._last(resume)
        self._build()
        loaded, state = read_checkpoint(last) if resume else ({}, {})
        if resume:
            self._refuse_another_run(state)
        self._write_folder()
        stages = self.method.stages()
        first, step = (state["stage"], state["step"]) if resume else (0, 0)
        per_epoch = self.batches.steps_per_epoch
        totals = [stage.epochs * per_epoch for stage in stages]
        self.metrics: dict[str, dict[str, float]] = {}
        if resume and self.fabric.is_global_zero:
            cut_log(self.out / "log.jsonl", [s.name for s in stages], first, step)
        with Report(self.out, self.fabric.is_global_zero, sum(totals), self.fabric.device) as self.report:
            for number, stage in enumerate(stages):
                with self._explained():
                    self._enter(number, stage)
                    if resume and number == first:
                        self._restore(loaded, state)
                        loaded = {}
                    elif not resume and number == 0:
                        self._start_from()
                    if number >= first:
                        begin = step if number == first else 0
                        self._run_stage(number, stage, begin, totals[number], sum(totals[:number]))
                        if len(stages) > 1:
                            self._save(number, totals[number], f"stage-{stage.name}")
            self.report.end(self.metrics)
        return self.metrics

    def _build(self) -> None:
        """The data and the method, alike in every process."""
        options = self.options
        train = self._list("train")
        self.val = [e.load() for e in spread(self._list("val"), MOST_HELD_OUT)]
        self._check_styles({e.style for e in train})
        unpaired = [e for d in options.unpaired for e in list_sketches(Path(d), "train")]
        styles = tuple(sorted({e.style for e in train}))
        torch.manual_seed(options.seed)
        with self.fabric.init_module():
            self.method: Method = method_class(self.method_name)(self.settings, styles)
        self.method.reduce = self.all.mean
        self.averages: dict[str, Average] = {}
        self.compiled: WeakSet[nn.Module] = WeakSet()
        self.batches = Batches(
            train,
            styles,
            batch_size=self.settings.batch_size,
            crop_size=self.settings.crop_size,
            augmentation=self.method.augmentation,
            seed=options.seed,
            style_weights=options.style_weights,
            clean_paper=self.method.clean_paper,
            style_ink=options.style_ink,
            framing=self.settings.framing,
            fill=self.settings.fill,
            size_multiple=self.settings.size_multiple,
            priors=self.method.priors,
            unpaired=unpaired,
            rank=self.fabric.global_rank,
            ranks=self.fabric.world_size,
        )
        # without validation pairs the samples are of training pairs
        self.shown = self.val or [e.load() for e in train[:12]]

    # ---- the loop ----------------------------------------------------------------------------------------------

    def _run_stage(self, number: int, stage: Stage, first: int, total: int, before: int) -> None:
        """Steps `first` to `total` of a stage that `before` steps of other stages precede."""
        per_epoch = self.batches.steps_per_epoch
        saved = time.monotonic()
        with _prepared(self.batches, first, total, self.fabric.device) as upcoming, _stop_asked() as asked:
            for step in range(first, total):
                batch = next(upcoming).to(self.fabric.device)
                losses = self._update(stage, step, total, batch)
                done, ended = step + 1, (step + 1) % per_epoch == 0
                self.report.count(stage.name, before + done, losses, len(batch.ids) * self.fabric.world_size)
                stop, log, save = self.all.any(
                    [
                        asked.is_set(),
                        self.report.due() or done == total,
                        time.monotonic() - saved > 60 * self.options.save_minutes or done == total,
                    ]
                )
                check = ended and (
                    (step + 1) // per_epoch % self.options.validate_epochs == 0 or done == total
                )
                if log or save or check or stop:  # the only moments that wait for the device
                    self._refuse_nonfinite(stage, done)
                began = time.monotonic()
                if log:
                    self.report.log(stage.name, done, total, self._rates(stage))
                if check:
                    self._validate(number, stage, done)
                if save or stop:
                    self._save(number, done)
                    saved = time.monotonic()
                self.report.logged += time.monotonic() - began  # images per second are of the training alone
                if stop:
                    self.report.say(
                        f"stopped at step {done} of {stage.name}; go on with: {self._command()} --resume"
                    )
                    self.all.any([True])  # who starts processes ends them all when the first of them ends
                    raise KeyboardInterrupt

    def _update(self, stage: Stage, step: int, total: int, batch: Batch) -> dict[str, Tensor]:
        """One training step; returns its losses, still on the device."""
        method, parts = self.method, self.options.accumulate
        method.train()
        method.progress = step / total
        _seed(self.options.seed, step, self.fabric.global_rank)
        running = [method.training_step(part) for part in batch.parts(parts)]
        factor = method.lr_factor(stage)
        reported: dict[str, Tensor] = {}
        while True:
            sums: Tensor | None = None
            # All parts come to an update before it is made: what is computed after it sees the new weights.
            for part in running:
                with self.fabric.autocast():
                    update = next(part, None)
                if update is None:
                    break
                name, losses = update
                spec = self.specs[name]
                if sums is None:
                    self.optimizers[name].zero_grad(set_to_none=True)
                values = torch.stack([v.float() for v in losses.values()]) / parts
                # `inputs` keeps a generator's loss from also filling the discriminator's gradients
                self.fabric.backward(values.sum(), inputs=spec.parameters)
                sums = values.detach() if sums is None else sums + values.detach()
            if sums is None:
                break
            sums = self.all.average_gradients(spec.parameters, sums)
            for group in self.optimizers[name].param_groups:
                group["lr"] = spec.lr * factor
            self.fabric.strategy.optimizer_step(self.optimizers[name])
            reported |= zip(losses, sums, strict=True)
        self.all.average_statistics(method)
        for direction in self.trained:
            if direction in self.averages:
                self.averages[direction].update(step)
        return reported

    def _rates(self, stage: Stage) -> dict[str, float]:
        factor = self.method.lr_factor(stage)
        return {name: spec.lr * factor for name, spec in self.specs.items()}

    # ---- what a stage needs ------------------------------------------------------------------------------------

    def _enter(self, number: int, stage: Stage) -> None:
        """Networks, averages and optimizers of a stage, as they are at its first step."""
        method = self.method
        _seed(self.options.seed, number, 0, 1)
        with self.fabric.init_module():
            method.start_stage(stage)
        method.to(device=self.fabric.device, memory_format=method.memory_format)  # type: ignore[call-overload]
        self.specs = method.optimizers(stage)
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(
                spec.parameters,
                lr=spec.lr,
                betas=spec.betas,
                fused=self.fabric.device.type in ("cpu", "cuda"),
            )
            for name, spec in self.specs.items()
        }
        before = self.trained
        learning = {id(p) for spec in self.specs.values() for p in spec.parameters}
        self.trained = [
            d
            for d in method.trained_directions()
            if any(id(p) in learning for p in method.synthesizer(d).parameters())
        ]
        decay = method.average_decay()
        if decay is not None:
            self.averages |= {d: Average(method.synthesizer(d), decay) for d in self.trained}
        if self.trained != before:
            self.best = math.inf  # metrics of other directions are not to be compared with
        if self.options.compile:
            _compile(method, self.compiled)

    def _synthesizer(self, direction: str) -> nn.Module:
        average = self.averages.get(direction)
        return average.module if average else self.method.synthesizer(direction)

    def _list(self, split: str) -> list[StoredExample]:
        if not self.options.datasets:
            raise UsageError("name a dataset folder, as `silverpoint prepare` makes it, after the method")
        examples: list[StoredExample] = []
        for dataset in self.options.datasets:
            try:
                examples += list_split(Path(dataset), split, self.options.subset)
            except DataError:
                if split == "train":
                    raise
        return examples

    def _check_styles(self, styles: set[str]) -> None:
        known = ", ".join(sorted(styles))
        for name in ("style_weights", "style_ink"):
            for style in sorted(getattr(self.options, name).keys() - styles):
                raise UsageError(
                    f"{flag_of(name)}: no training pair has the style {style!r}; there are {known}"
                )

    def _command(self) -> str:
        launcher = "torchrun ... -m " if torch.distributed.is_torchelastic_launched() else ""
        return f"{launcher}silverpoint train {self.method_name} --out {self.out}"

    # ---- what is wrong, and the way out --------------------------------------------------------------------------

    def _refuse_nonfinite(self, stage: Stage, step: int) -> None:
        bad = [name for name, value in self.report.means().items() if not math.isfinite(value)]
        if bad:
            raise RunError(
                f"{self.out}: {', '.join(bad)} became infinite or not a number by step {step} of {stage.name}; "
                f"{self._last_good()}. A lower learning rate or precision 32-true may help"
            )

    def _last_good(self) -> str:
        last = self.checkpoints / "last.safetensors"
        if not last.exists():
            return "no checkpoint had been written"
        return f"the last good checkpoint is {last}, of step {read_state(last)['step']}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Out of memory, said with the settings that help; and what befell one process, by that process."""
        try:
            yield
        except SilverpointError:  # agreed on by all
            raise
        except Exception as error:
            text = str(error)
            memory = isinstance(error, MemoryError) or any(w in text.lower() for w in OUT_OF_MEMORY)
            if memory:
                good = self._last_good()
                text = f"{self.out}: out of memory; what takes less: {self._smaller()}. {good[:1].upper()}{good[1:]}"
            elif not self.fabric.is_global_zero:
                text = f"{type(error).__name__}: {text}"
            elif self.all.count > 1 and any(w in text.lower() for w in CONNECTION_LOST):
                raise RunError(
                    f"{self.out}: another process of the run has ended; it has said why"
                ) from error
            if not self.fabric.is_global_zero:  # what befalls this one alone, nobody else can tell
                print(f"silverpoint: process {self.fabric.global_rank}: {text}", file=sys.stderr, flush=True)
            if memory:
                raise RunError(text) from error
            raise

    def _smaller(self) -> str:
        """The settings that take less memory."""
        s, o = self.settings, self.options
        ways = [f"--accumulate {2 * o.accumulate}"] if s.batch_size % (2 * o.accumulate) == 0 else []
        ways += [f"a --batch_size below {s.batch_size}"] if s.batch_size > 1 else []
        smaller = s.framing == "crop" and s.crop_size > s.size_multiple
        ways += [f"a --crop_size below {s.crop_size}"] if smaller else []
        ways += ["--precision bf16-mixed"] if o.precision == "32-true" else []
        return ", ".join(ways) or "another method"

    # ---- the run folder ------------------------------------------------------------------------------------------

    def _last(self, resume: bool) -> Path:
        """The path of the last checkpoint, which must be there if the run is resumed, and not else."""
        last = self.checkpoints / "last.safetensors"
        if resume and not last.is_file():
            raise RunError(f"{last}: nothing to resume; start the run without --resume")
        if last.exists() and not resume:
            raise RunError(f"{self.out}: holds a run already; add --resume or choose another --out")
        return last

    def _write_folder(self) -> None:
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            (self.out / "samples").mkdir(exist_ok=True)
            remove_leftovers(self.checkpoints)
            settings = {
                "method": self.method_name,
                "frame": self._frame(),
                "settings": asdict(self.settings),
                "run": plain(self.options),
            }
            environment = describe_environment(self.fabric.device)
            write_whole(self.out / "settings.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
            write_whole(self.out / "environment.json", json.dumps(environment, indent=2).encode() + b"\n")

    def _frame(self) -> str | None:
        """The frame the pairs are aligned to: a key of FRAMES. A dataset that is in none has no say."""
        frames = {frame for d in self.options.datasets if (frame := frame_of(Path(d)))}
        if len(frames) == 1:
            return frames.pop()
        # what is of the field's own size is in its frame
        return "cufs" if not frames and self.shown[0].photo.shape[1::-1] == FRAMES["cufs"].size() else None

    def _save(self, stage: int, step: int, name: str = "last") -> None:
        """The first process writes; the others go on, or end, when it has."""
        failed: RunError | None = None
        own = {name: self.all.gather(self.method.get_buffer(name)) for name in self.method.own}
        if self.fabric.is_global_zero:
            try:
                self._write_checkpoint(stage, step, name, own)
            except RunError as error:
                failed = error
        if self.all.any([failed is not None])[0]:
            raise failed or RunError(f"{self.out}: the first process could not save")

    def _write_checkpoint(self, stage: int, step: int, name: str, own: dict[str, list[Tensor]]) -> None:
        tensors = {f"method.{k}": v for k, v in self.method.state_dict().items()}
        tensors |= {f"process{r}.{k}": v for k, each in own.items() for r, v in enumerate(each) if r}
        for direction, average in self.averages.items():
            tensors |= {f"average/{direction}.module.{k}": v for k, v in average.module.state_dict().items()}
        for k, v in tensors.items():
            if v.is_floating_point() and not torch.isfinite(v).all():
                raise RunError(f"{self.out}: {k} became infinite or not a number; {self._last_good()}")
        if name == "last":  # a run goes on from no other, and moments are twice the size of what they move
            for key, optimizer in self.optimizers.items():
                tensors |= optimizer_tensors(f"optimizer/{key}", optimizer)
        state = {
            "stage": stage,
            "step": step,
            "styles": self.method.styles,
            "best": self.best if math.isfinite(self.best) else None,
            "metrics": self.metrics,
            "processes": self.fabric.world_size,
            "data": self._fingerprint(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        keep = self.options.keep if name == "last" else 1
        write_checkpoint(self.checkpoints / f"{name}.safetensors", tensors, state, keep)

    def _refuse_another_run(self, state: dict[str, Any]) -> None:
        """A checkpoint goes on with the processes and pairs it began with: batches and steps would differ."""
        if state.get("processes", 1) != self.fabric.world_size:
            raise RunError(
                f"{self.out}: began with {state['processes']} processes and goes on with as many, not "
                f"{self.fabric.world_size}"
            )
        if state.get("data", self._fingerprint()) != self._fingerprint():
            raise RunError(
                f"{self.out}: began with other training pairs or sketches than are in "
                f"{', '.join(self.options.datasets + self.options.unpaired)} now; "
                "begin a new run with --start-from"
            )

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """The stage's networks, averages and optimizers as a checkpoint has them."""
        own = {f"method.{k}": f"process{self.fabric.global_rank}.{k}" for k in self.method.own}
        mine = {key: tensors[name] for key, name in own.items() if name in tensors}
        load_into(self.method, "method", tensors | mine)
        for direction, average in self.averages.items():
            load_into(average.module, f"average/{direction}.module", tensors)
        for name, optimizer in self.optimizers.items():
            restore_optimizer(f"optimizer/{name}", optimizer, tensors)
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        self.best = math.inf if state["best"] is None else state["best"]
        self.metrics = state["metrics"]

    def _start_from(self) -> None:
        """The networks of another run or of a model file, where one is named, under a schedule that starts at its first
        step.
        """
        name = self.options.start_from
        if not name:
            return
        if name.endswith(".onnx") or name in built_in():
            from silverpoint.training.unfold import (
                unfold,  # it needs onnx, and reads what is exported of a run
            )

            tensors, styles = unfold(open_model(name, threads=1), self.method, self.batches.batch(0))
        else:
            tensors, state = read_checkpoint(Path(name) / "checkpoints" / "last.safetensors")
            styles = tuple(state["styles"])
        tensors = self.method.adopt(tensors, styles)
        load_into(self.method, "method", tensors)
        for direction, average in self.averages.items():
            load_into(average.module, f"average/{direction}.module", tensors)

    def _fingerprint(self) -> str:
        """Of the training pairs by name and style, and of the unpaired: a run that is resumed must find the same."""
        found = self.batches
        named = [*zip(found.ids, found.style_index, strict=True), found.unpaired_ids or 0]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]

    def _validate(self, number: int, stage: Stage, step: int) -> None:
        """Every process draws and scores its share of the pairs."""
        device = self.fabric.device
        share = self.shown[self.fabric.global_rank :: self.fabric.world_size]
        photos, sketches = [e.photo for e in share], [e.sketch for e in share]
        # a process without a share looks at one all the same: the others wait for its sums
        figures, pictures = inspect_examples(self.method, share or self.shown[:1], device)
        if not share:
            figures, pictures = dict.fromkeys(figures, 0.0), []
        if figures:
            means = {n: t / len(self.shown) for n, t in self.all.sum(figures).items()}
            self.report.validation(stage.name, step, self.method_name, means)
        if not self.trained:  # nothing that draws is learning
            self.report.samples(stage.name, [photos, *pictures])
        chosen = []
        for direction in self.trained:
            fakes = synthesize_examples(self.method, self._synthesizer(direction), share, direction, device)
            source, target = (photos, sketches) if direction == "photo2sketch" else (sketches, photos)
            self.report.samples(direction, [source, fakes, target, *pictures])
            if self.val:
                found = self._score(share, fakes, direction)
                self.metrics[direction] = found
                self.report.validation(stage.name, step, direction, found)
                if self.options.select in found:
                    sign = 1 if self.options.select in LOWER_IS_BETTER else -1
                    chosen.append(sign * found[self.options.select])
        if chosen and sum(chosen) / len(chosen) < self.best:
            self.best = sum(chosen) / len(chosen)
            self._save(number, step, "best")

    def _score(self, share: list[Example], fakes: list[np.ndarray], direction: str) -> dict[str, float]:
        sums, reasons = validate(share, fakes, direction, self.fabric.device)
        had = self.all.any([name in sums for name in METRICS])
        totals = self.all.sum({name: sums.get(name, 0.0) for name in METRICS})
        found = {n: totals[n] / len(self.val) for n, h in zip(METRICS, had, strict=True) if h}
        if self.options.select not in found:
            self.report.say_once(
                f"no best checkpoint is kept: {self.options.select} cannot be computed "
                f"({reasons.get(self.options.select, 'unknown')}); --select chooses another metric"
            )
        return found


@contextmanager
def _prepared(batches: Batches, first: int, total: int, device: torch.device) -> Iterator[Iterator[Batch]]:
    """Batches made ahead by threads; for a graphics card by several, in memory it can copy from by itself."""
    cuda = device.type == "cuda"

    def make(step: int) -> Batch:
        batch = batches.batch(step)
        return batch.pinned() if cuda else batch

    def deliver() -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        for step in range(first, total):
            while len(waiting) < ahead and step + len(waiting) < total:
                waiting.append(pool.submit(make, step + len(waiting)))
            yield waiting.popleft().result()

    ahead = 2 * LOADERS if cuda else 2
    with ThreadPoolExecutor(LOADERS if cuda else 1) as pool:
        try:
            yield deliver()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _stop_asked() -> Iterator[Event]:
    """An event that Ctrl-C or a terminating cluster sets: no step is left half done. A second one acts at once."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    if current_thread() is not main_thread():  # only the main thread receives signals
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seed(*entropy: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def _compile(module: nn.Module, done: WeakSet[nn.Module]) -> None:
    """Compile the networks of a method; those that are `done` stay as they are in its next stage."""
    for child in module.children():
        if isinstance(child, (nn.ModuleDict, nn.ModuleList)):
            _compile(child, done)
        elif child not in done:
            child.compile()
            done.add(child)


def resumed(out: Path, **options: Any) -> Trainer:
    """A Trainer with the method, settings and options that the run folder `out` was started with.

    `options` are those given anew; UsageError for one that is fixed once a run has begun.
    """
    settings, before, method = read_run(out)
    return Trainer(method, settings, changed(before, options), out)


def read_frame(out: Path) -> str | None:
    """The frame of the faces that the run `out` was trained on, as its folder says."""
    frame = yaml.safe_load((out / "settings.yaml").read_text(encoding="utf-8")).get("frame", "cufs")
    return frame if frame in FRAMES else None


def read_run(out: Path) -> tuple[CommonSettings, RunOptions, str]:
    """Settings, options and method name of a run folder; RunError when it is none."""
    path = out / "settings.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        method, values, run = content["method"], content["settings"], content["run"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the settings of a run ({error})") from error
    return build_settings(method_class(method).settings_class, values), build_options(run), method
