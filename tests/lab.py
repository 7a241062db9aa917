"""Small things to train: a dataset folder of drawn faces, and methods that take milliseconds a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import silverpoint.methods.method as registry
from drawn import draw_pair
from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.methods.cyclegan import ImagePool
from silverpoint.methods.method import CommonSettings, Method, OptimizerSpec, Stage, setting


def write_dataset(
    root: Path, train: int, val: int = 0, size: tuple[int, int] = (64, 80), masks: bool = False
) -> Path:
    """A dataset folder as `silverpoint prepare` makes it.

    With `masks` every photo has a person in its left half, every sketch in its upper half.
    """
    for folder in ("photos", "sketches"):
        (root / folder).mkdir(parents=True)
    priors = ("saliency", "sketch_saliency") if masks else ()
    rows = [",".join(["id,subset,split,photo,sketch,style", *priors])]
    for name, half in zip(priors, (np.s_[:, : size[0] // 2], np.s_[: size[1] // 2]), strict=False):
        mask = np.zeros(size[::-1], np.uint8)
        mask[half] = 255
        Image.fromarray(mask).save(root / f"{name}.png")
    for i in range(train + val):
        for folder, image in zip(("photos", "sketches"), draw_pair(i, size), strict=True):
            Image.fromarray(image).save(root / folder / f"p{i}.png")
        split = "train" if i < train else "val"
        row = f"p{i},mine,{split},photos/p{i}.png,sketches/p{i}.png,mine"
        rows.append(",".join([row, *(f"{name}.png" for name in priors)]))
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return root


@dataclass(frozen=True)
class SmallSettings(CommonSettings):
    batch_size: int = setting(2, "test", low=1)
    crop_size: int = setting(32, "test")
    n_epochs: int = setting(1, "test", low=0)
    n_epochs_decay: int = setting(2, "test", low=0)
    lr: float = setting(1e-2, "test", low=0, high=1)
    ema: float = setting(0.9, "test", low=0, high=1)


class SmallNet(nn.Module):
    size_multiple = 1

    def __init__(self, inside: int = 3, outside: int = 1, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, width, 3, 1, 1, bias=False)  # the norm takes a bias away again
        self.norm = nn.InstanceNorm2d(width, affine=True)
        self.second = nn.Conv2d(width, outside, 3, 1, 1)

    def forward(self, source, style):
        return torch.tanh(self.second(torch.relu(self.norm(self.first(source)))))


class SmallGAN(Method):
    """Two optimizers a step, an averaged generator, and a memory that moves outside autograd.

    Every norm is of one image, every loss a mean over the batch and no step draws random numbers, so that a batch
    may be divided among processes or parts without any difference but rounding.
    """

    name = "small"
    settings_class = SmallSettings
    augmentation = Augmentation(background=0.0, skin=0.0)

    def __init__(self, settings, styles):
        super().__init__(settings, styles)
        self.generator, self.discriminator = SmallNet(), SmallNet(4, 1)
        self.register_buffer("memory", torch.zeros(1))

    def optimizers(self, stage):
        lr = self.settings.lr
        return {
            "discriminator": OptimizerSpec(list(self.discriminator.parameters()), lr / 2),
            "generator": OptimizerSpec(list(self.generator.parameters()), lr),
        }

    def training_step(self, batch):
        fake = self.generator(batch.photo, batch.style)
        self.memory.lerp_(self.reduce(fake.detach().float().mean()), 0.1)

        def judge(sketch):
            return self.discriminator(torch.cat([batch.photo, sketch], 1), batch.style)

        yield (
            "discriminator",
            {
                "d_fake": (judge(fake.detach()) + 1).square().mean(),
                "d_real": (judge(batch.sketch) - 1).square().mean(),
            },
        )
        yield (
            "generator",
            {"g_gan": (judge(fake) - 1).square().mean(), "g_l1": (fake - batch.sketch).abs().mean()},
        )

    def synthesizer(self, direction):
        return self.generator

    def average_decay(self):
        return self.settings.ema or None


class Seeing(SmallGAN):
    """The same, with more to show in a validation, and a discriminator that sees drawings of this process's past."""

    name = "seeing"
    own = ("pool.images",)

    def __init__(self, settings, styles):
        super().__init__(settings, styles)
        self.pool = ImagePool(3)

    def training_step(self, batch):
        fake = self.pool(self.generator(batch.photo, batch.style))
        seen = torch.cat([batch.photo, fake], 1)
        yield "discriminator", {"d_past": (self.discriminator(seen, batch.style) + 1).square().mean()}
        yield from super().training_step(batch)

    def inspect(self, batch):
        return {"brightness": float(batch.photo.mean())}, [batch.photo]


class TwoWay(Method):
    """Trains photo->sketch in its first stage and sketch->photo, made anew, in its second."""

    name = "twoway"
    settings_class = SmallSettings
    directions = ("photo2sketch", "sketch2photo")
    augmentation = Augmentation.none()
    started: ClassVar[list[str]] = []

    def __init__(self, settings, styles):
        super().__init__(settings, styles)
        self.nets = nn.ModuleDict({"photo2sketch": SmallNet(3, 1), "sketch2photo": SmallNet(1, 3)})

    def stages(self):
        return [Stage("photo2sketch", 2), Stage("sketch2photo", 1)]

    def start_stage(self, stage):
        self.started.append(stage.name)
        self.current = stage.name
        if stage.name == "sketch2photo":
            self.nets["sketch2photo"] = SmallNet(1, 3)

    def optimizers(self, stage):
        return {stage.name: OptimizerSpec(list(self.nets[stage.name].parameters()), 1e-2)}

    def training_step(self, batch):
        source, target = batch.photo, batch.sketch
        if self.current == "sketch2photo":
            source, target = target, source
        yield self.current, {"l1": (self.nets[self.current](source, batch.style) - target).abs().mean()}

    def synthesizer(self, direction):
        return self.nets[direction]


def noting(runs: list[int]):
    """A backend of torch.compile: what it is given runs as it is, and each time is noted."""

    def backend(graph, _inputs):
        def run(*tensors):
            runs.append(1)
            return graph(*tensors)

        return run

    return backend


# devices on which looking at what was computed fails: "meta" computes nothing, "cuda" is told to refuse
UNSEEING = (
    "meta",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    ),
)


def take_step_unseeing(method: Method, batch: Batch) -> None:
    """One step's losses and gradients, on a device of UNSEEING, without the host's waiting for any of it."""

    def step() -> None:
        for _, losses in method.training_step(batch):
            torch.stack(list(losses.values())).sum().backward()

    if batch.photo.device.type == "meta":
        with patch("torch.autocast"):  # which does not know the device
            return step()
    step()  # what is loaded once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def register_small_methods() -> None:
    """In a process of its own; a test replaces the registry's entries by monkeypatch."""
    registry._REGISTRY.update(small=lambda: SmallGAN, seeing=lambda: Seeing, twoway=lambda: TwoWay)
