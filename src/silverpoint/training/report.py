"""What a person and a script see of a run: a progress line, log.jsonl, TensorBoard, sample sheets."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from silverpoint.image import write_image

LOG_SECONDS = 20.0  # between log lines; reading a loss waits for the device, so not every step does


class Report:
    """Writes nothing unless `active` (one process of a distributed run)."""

    def __init__(self, out: Path, active: bool) -> None:
        self.out, self.active = out, active
        self.bar: tqdm | None = None

    def __enter__(self) -> "Report":
        if self.active:
            self.log = (self.out / "log.jsonl").open("a", encoding="utf-8")
            self.board = SummaryWriter(str(self.out / "tensorboard"))
        self.logged, self.logged_images, self.images = time.monotonic(), 0, 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            if self.bar is not None:
                self.bar.close()
            self.log.close()
            self.board.close()

    def step(self, stage: str, step: int, total: int, losses: Mapping[str, Tensor], images: int) -> None:
        if not self.active:
            return
        self.images += images
        if self.bar is None and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=step - 1, desc=stage, unit="step")
        if self.bar is not None:
            self.bar.update()
        now = time.monotonic()
        if now - self.logged < LOG_SECONDS and step != total:
            return
        values = {name: round(float(value), 5) for name, value in losses.items()}
        rate = (self.images - self.logged_images) / max(now - self.logged, 1e-9)
        self.logged, self.logged_images = now, self.images
        left = timedelta(seconds=round((total - step) * images / max(rate, 1e-9)))
        self._write({"stage": stage, "step": step, "images_per_second": round(rate, 3), **values})
        for name, value in values.items():
            self.board.add_scalar(f"{stage}/{name}", value, step)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(shown)
        else:
            print(
                f"{stage} {step}/{total}  {shown}  {rate:.1f} images/s  {left} left",
                file=sys.stderr,
                flush=True,
            )

    def validation(self, stage: str, step: int, direction: str, metrics: Mapping[str, float]) -> None:
        values = {name: round(value, 4) for name, value in metrics.items()}
        self._write({"stage": stage, "step": step, "validation": direction, **values})
        for name, value in values.items():
            self.board.add_scalar(f"{stage}/validation/{direction}/{name}", value, step)
        self.say(f"{stage} {step}  validation  " + "  ".join(f"{n} {v:.4f}" for n, v in values.items()))

    def samples(self, step: int, name: str, rows: Sequence[Sequence[np.ndarray]]) -> None:
        """A sheet of up to 12 examples of the validation set: each a column, each row one kind of image."""
        chosen = np.linspace(0, len(rows[0]) - 1, min(12, len(rows[0]))).astype(int)
        sheet = [np.concatenate([_tile(row[i]) for i in chosen], axis=1) for row in rows]
        write_image(np.concatenate(sheet), self.out / "samples" / f"{name}-{step:07d}.png")

    def say(self, line: str) -> None:
        if self.active:
            tqdm.write(line, file=sys.stderr)

    def _write(self, record: Mapping[str, object]) -> None:
        self.log.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")
        self.log.flush()


def _tile(image: np.ndarray, width: int = 200, height: int = 250) -> np.ndarray:
    """Fit an image in a white tile (height, width, 3)."""
    from PIL import Image, ImageOps

    fitted = ImageOps.pad(Image.fromarray(image).convert("RGB"), (width, height), color="white")
    return np.asarray(fitted)
