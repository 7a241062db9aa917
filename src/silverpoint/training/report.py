"""What a person and a script see of a run: a progress line, log.jsonl, TensorBoard, sample sheets."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from silverpoint.errors import RunError
from silverpoint.image import write_image
from silverpoint.training.checkpoint import write_whole

LOG_SECONDS = 20.0  # between log lines; reading a loss waits for the device, so not every step does


class Report:
    """Writes nothing unless `active` (one process of a distributed run). `total` is the steps of all stages."""

    def __init__(self, out: Path, active: bool, total: int, device: torch.device) -> None:
        self.out, self.active, self.total, self.device = out, active, total, device
        self.bar: tqdm | None = None
        self.sums: dict[str, Tensor] = {}  # of the losses since they were last read, on the device
        self.steps = self.images = self.done = 0
        self.said: set[str] = set()

    def __enter__(self) -> "Report":
        if self.active:
            self.log_file = (self.out / "log.jsonl").open("a", encoding="utf-8")
            self.board: SummaryWriter | None = SummaryWriter(str(self.out / "tensorboard"))
        self.begun = self.logged = time.monotonic()
        # its name, and the step and the time at which it began here
        self.stage: tuple[str, int, float] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            if self.bar is not None:
                self.bar.close()
            with suppress(OSError):  # a full disk has been told of
                self.log_file.close()
            self._show("close")

    # ---- losses, which stay on the device until somebody looks ---------------------------------------------------

    def count(self, stage: str, done: int, losses: Mapping[str, Tensor], images: int) -> None:
        """Step number `done` of the whole run is through, with these losses."""
        if self.bar is None and self.active and sys.stderr.isatty():
            self.bar = tqdm(total=self.total, initial=done - 1, unit="step")
        if self.stage is None or self.stage[0] != stage:
            self.stage = stage, done - 1, self.logged  # the last stage ended with a log line
        self.done = done
        self.steps += 1
        self.images += images
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        if self.bar is not None:
            self.bar.set_description(stage, refresh=False)
            self.bar.update()

    def due(self) -> bool:
        """Whether a log line is: at the first step of a stage, and then every so often."""
        first = self.stage is not None and self.done - self.stage[1] == 1
        return first or time.monotonic() - self.logged >= LOG_SECONDS

    def means(self) -> dict[str, float]:
        """The mean losses since the last log line. Waits for the device."""
        if not self.sums:
            return {}
        values = torch.stack([s / self.steps for s in self.sums.values()]).tolist()
        return dict(zip(self.sums, values, strict=True))

    def log(self, stage: str, step: int, steps: int, rates: Mapping[str, float]) -> None:
        """A line about the stage's `step` of `steps`; `rates` are the optimizers' learning rates."""
        means = self.means()
        now = time.monotonic()
        speed = self.images / max(now - self.logged, 1e-9)
        _, first, begun = self.stage or ("", 0, self.begun)
        left = (now - begun) / (self.done - first) * (self.total - self.done)  # at this stage's pace
        self.sums, self.steps, self.images = {}, 0, 0
        self.logged = now
        if not self.active:
            return
        memory = _memory(self.device)
        values = {name: float(f"{value:.5g}") for name, value in means.items()}
        self._write(
            {
                "stage": stage,
                "step": step,
                "images_per_second": round(speed, 3),
                "memory_gb": memory,
                "learning_rate": {name: float(f"{rate:.5g}") for name, rate in rates.items()},
                **values,
            }
        )
        extra = {"images_per_second": speed, "memory_gb": memory}
        extra |= {f"learning_rate/{name}": rate for name, rate in rates.items()}
        for name, value in (values | extra).items():
            if value is not None:
                self._show("add_scalar", f"{stage}/{name}", value, step)
        losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        lr = "/".join(f"{rate:.2g}" for rate in dict.fromkeys(rates.values()))
        line = f"{losses}  lr {lr}  {speed:.1f} images/s" + ("" if memory is None else f"  {memory:.1f} GB")
        if self.bar is not None:
            self.bar.set_postfix_str(line, refresh=False)
        else:
            left_text = timedelta(seconds=round(left))
            print(f"{stage} {step}/{steps}  {line}  {left_text} left", file=sys.stderr, flush=True)

    # ---- validation ----------------------------------------------------------------------------------------------

    def validation(self, stage: str, step: int, of: str, metrics: Mapping[str, float]) -> None:
        """What validation found of a direction, or of the method."""
        if not self.active:
            return
        values = {name: round(value, 4) for name, value in metrics.items()}
        geometry = {"geometry": "native"} if of in ("photo2sketch", "sketch2photo") else {}
        self._write({"stage": stage, "step": step, "validation": of, **geometry, **values})
        for name, value in values.items():
            self._show("add_scalar", f"{stage}/validation/{of}/{name}", value, step)
        self.say(f"{stage} {step}  {of}  " + "  ".join(f"{n} {v:.4f}" for n, v in values.items()))

    def samples(self, name: str, rows: Sequence[Sequence[np.ndarray]]) -> None:
        """A sheet of up to 12 examples, each a column, each row one kind of image; numbered by the run's steps."""
        if not self.active or not rows[0]:
            return
        chosen = np.linspace(0, len(rows[0]) - 1, min(12, len(rows[0]))).astype(int)
        sheet = np.concatenate([np.concatenate([_tile(row[i]) for i in chosen], axis=1) for row in rows])
        write_image(sheet, self.out / "samples" / f"{name}-{self.done:07d}.png")
        self._show("add_image", name, sheet, self.done, dataformats="HWC")

    def end(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """The last words of a run that reached its end."""
        took = timedelta(seconds=round(time.monotonic() - self.begun))
        lines = [f"{self.total} steps done, {took} since this start"]
        lines += [
            f"{direction}  " + "  ".join(f"{n} {v:.4f}" for n, v in found.items())
            for direction, found in metrics.items()
        ]
        if (self.out / "checkpoints" / "best.safetensors").is_file():
            lines.append(f"best by validation: {self.out / 'checkpoints' / 'best.safetensors'}")
        lines.append(f"next: silverpoint export {self.out} --out model.onnx")
        for line in lines:
            self.say(line)

    def say_once(self, line: str) -> None:
        if line not in self.said:
            self.say(line)
        self.said.add(line)

    def say(self, line: str) -> None:
        if self.active:
            tqdm.write(line, file=sys.stderr)

    def _show(self, method: str, *what: Any, **how: Any) -> None:
        """Something for TensorBoard, which a run can do without."""
        if self.board is not None:
            try:
                getattr(self.board, method)(*what, **how)
            except OSError as error:
                self.board = None
                self.say(f"{self.out / 'tensorboard'}: cannot be written ({error}); the run goes on without")

    def _write(self, record: Mapping[str, object]) -> None:
        try:
            self.log_file.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")
            self.log_file.flush()
        except OSError as error:
            raise RunError(
                f"{self.log_file.name}: cannot be written ({error.strerror}); make room, then go on with --resume"
            ) from error


def _memory(device: torch.device) -> float | None:
    """The most this process has held, in GB: on the graphics card, else in all; None where nobody counts."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)


def _tile(image: np.ndarray, width: int = 200, height: int = 250) -> np.ndarray:
    """Fit an image in a white tile (height, width, 3)."""
    from PIL import Image, ImageOps

    fitted = ImageOps.pad(Image.fromarray(image).convert("RGB"), (width, height), color="white")
    return np.asarray(fitted)


def cut_log(path: Path, stages: Sequence[str], stage: int, step: int) -> None:
    """Take from log.jsonl what came after the checkpoint of `step` of stage number `stage`, and half a line."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        with suppress(ValueError, KeyError):
            entry = json.loads(line)
            if (stages.index(entry["stage"]), entry["step"]) <= (stage, step):
                kept.append(line)
    write_whole(path, "".join(kept).encode())
