"""pencil: the light student that ships with silverpoint. Ours, not a paper's.

A small prior-free generator conditioned on the hand it draws in (nets/pencil.py), trained on real pairs with
L1, VGG-19 perceptual and least-squares adversarial terms, on photographs whose light, colour and
background are varied so that the drawing does not depend on them (data/augment.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import training_side
from silverpoint.data.paper import WHITE
from silverpoint.errors import UsageError
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.losses.perceptual import feature_l1
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.pencil import PencilNet
from silverpoint.nets.vgg import load_vgg19

# The normalised VGG-19 has activations near one in every layer, so the deeper, sparser taps need no large weights.
STROKES = {"relu1_1": 0.25, "relu2_1": 0.5, "relu3_1": 1.0}
# What a stroke belongs to is judged at half resolution: a wider view at a quarter of the cost.
FORMS = {"relu2_1": 0.5, "relu4_1": 1.0}


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = PencilNet.size_multiple

    batch_size: int = setting(8, "ours", low=1)
    n_epochs: int = setting(25, "ours", low=0)
    n_epochs_decay: int = setting(25, "ours", low=0)
    crop_size: int = setting(
        176, "ours: the largest crop that leaves a 200-pixel frame room to be scaled", low=32
    )
    lr: float = setting(5e-4, "ours", low=0)
    lr_discriminator: float = setting(5e-4, "ours", low=0)
    lambda_l1: float = setting(8.0, "ours", low=0)
    lambda_perceptual: float = setting(4.0, "ours", low=0)
    stroke_window: int = setting(
        112, "ours: side of the random window in which strokes are compared; 0: the whole crop", low=0
    )
    lambda_gan: float = setting(20.0, "ours", low=0)
    lambda_background: float = setting(
        0.0, "ours: for a run that begins with another; needs saliency or layout", low=0
    )
    background_style: str = setting(
        "", "ours: the hand of that term; that of another pair where none is named"
    )
    paper_weight: float = setting(
        10.0,
        "ours: what a pixel beyond the person counts in that term, where one of the person counts 1",
        low=0,
    )
    gan_mode: str = setting("lsgan", "ours", choices=MODES)
    discriminator_width: int = setting(48, "ours", low=8)
    discriminator_scales: int = setting(2, "ours: one at full resolution, one at half", low=1)
    ema: float = setting(0.999, "ours: decay of the averaged generator", low=0)
    freeze_norm: float = setting(
        0.7, "ours: fraction of the training after which batch statistics are fixed", low=0
    )

    @property
    def needs_start(self) -> bool:
        return self.lambda_background > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        least = PatchGAN.least * 2 ** (self.discriminator_scales - 1)
        if training_side(self.framing, self.crop_size) < least:
            raise UsageError(
                f"crop_size must be at least {least} with discriminator_scales {self.discriminator_scales}, "
                f"not {self.crop_size}"
            )


def around(person: Tensor, margin: int = 8) -> Tensor:
    """1 where ink may be, 0 where paper is bare; person and result (B, 1, H, W) in [0, 1].

    Ink may be `margin` pixels around the person, for a map leaves out strands of hair, and fades over 8 about there.
    """
    near = F.max_pool2d(person, 2 * margin + 1, 1, margin)
    return F.avg_pool2d(near, 9, 1, 4, count_include_pad=False)


class Pencil(Method):
    """The light student that ships with silverpoint: small, styled, for any photo."""

    name = "pencil"
    settings_class = Settings
    augmentation = Augmentation(plain=0.4, scale=(0.8, 1.8))
    styled = True
    clean_paper = True
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        self.priors = ("person",) if settings.lambda_background else ()
        self.generator = PencilNet(len(styles))
        # what the run began with, by which the background's term goes
        self.beginning = PencilNet(len(styles)).requires_grad_(False) if settings.lambda_background else None
        self.discriminators = nn.ModuleList(
            PatchGAN(len(styles) + 1, width=settings.discriminator_width, norm="none")
            for _ in range(settings.discriminator_scales)
        )
        self.vgg = (
            [load_vgg19({**STROKES, **FORMS})] if settings.lambda_perceptual else []
        )  # in a list: not part of the checkpoint

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        return {
            "discriminator": OptimizerSpec(list(self.discriminators.parameters()), s.lr_discriminator),
            "generator": OptimizerSpec(list(self.generator.parameters()), s.lr),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s = self.settings
        # Small batches make noisy statistics; finishing on the ones that synthesis will use removes the mismatch.
        for module in self.generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(self.progress < s.freeze_norm)
        fake = self.generator(batch.photo, batch.style)
        yield (
            "discriminator",
            {
                "d_fake": self._adversarial(fake.detach(), batch.style, real=False) / 2,
                "d_real": self._adversarial(batch.sketch, batch.style, real=True) / 2,
            },
        )

        losses = {
            "g_gan": s.lambda_gan * self._adversarial(fake, batch.style, real=True),
            "g_l1": s.lambda_l1 * F.l1_loss(fake.float(), batch.sketch),
        }
        if s.lambda_background:
            losses["g_background"] = s.lambda_background * self._background(batch)
        if self.vgg:
            losses["g_perceptual"] = s.lambda_perceptual * self._perceptual(fake, batch.sketch)
        yield "generator", losses

    def _adversarial(self, sketch: Tensor, style: Tensor, real: bool) -> Tensor:
        """Mean over the discriminators.

        None of them sees the photo: of few pairs they are to learn the hand, and not the pairs. Nor have they a norm,
        which would hide from them how dark a patch is.
        """
        judged = torch.cat([style[:, :, None, None].expand(-1, -1, *sketch.shape[2:]), sketch], 1)
        loss = sketch.new_zeros((), dtype=torch.float32)
        for scale, discriminator in enumerate(self.discriminators):
            logits = discriminator(F.avg_pool2d(judged, 2**scale))
            loss = loss + adversarial(logits, real=real, mode=self.settings.gan_mode)
        return loss / len(self.discriminators)

    def _background(self, batch: Batch) -> Tensor:
        """L1 to what the networks that the run began with draw of the same person before white, where they are sure.

        In `background_style`, or in the hand of another pair, for no sketch says what that hand makes of this place:
        studio pairs have white grounds alone. Beyond the person the target is bare paper.
        """
        assert self.beginning is not None
        person, hand = batch.priors["person"], batch.style.roll(1, 0)
        if style := self.settings.background_style:
            if style not in self.styles:
                raise UsageError(
                    f"background_style: no pair is of {style!r}; choose from {', '.join(self.styles)}"
                )
            hand = torch.eye(len(self.styles), device=hand.device)[[self.styles.index(style)] * len(hand)]
        near = around(person)
        with torch.no_grad():
            drawn = self.beginning.eval()(batch.photo * person + (1 - person), hand)
            target = near * drawn.float() + (1 - near) * (WHITE / 127.5 - 1)
        weight = near + (1 - near) * self.settings.paper_weight
        return (weight * (self.generator(batch.photo, hand).float() - target).abs()).mean()

    def _perceptual(self, fake: Tensor, real: Tensor) -> Tensor:
        vgg = self.vgg[0].to(fake.device)
        loss = fake.new_zeros((), dtype=torch.float32)
        window = self._stroke_window(fake)
        for taps, scale, seen in ((STROKES, 1, window), (FORMS, 2, (...,))):
            fake_scaled, real_scaled = (F.avg_pool2d((x[seen] + 1) / 2, scale) for x in (fake, real))
            with torch.no_grad():
                target = vgg(real_scaled, taps)
            loss = loss + feature_l1(vgg(fake_scaled, taps), target, taps)
        return loss

    def _stroke_window(self, image: Tensor) -> tuple[slice | EllipsisType, ...]:
        """Strokes are local: a window, drawn anew each step, gives the same mean gradient at under half the cost."""
        side = self.settings.stroke_window
        if not side:
            return (...,)
        starts = [int(torch.randint(max(1, n - side + 1), ())) for n in image.shape[2:]]
        return (..., *(slice(start, start + side) for start in starts))

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generator

    def adopt(self, tensors: dict[str, Tensor], styles: tuple[str, ...]) -> dict[str, Tensor]:
        """A hand that the run did not know begins as the mean of those it knew; averaged weights are the beginning."""
        tensors = {k: t for k, t in tensors.items() if not k.startswith("method.beginning.")}
        if self.beginning is not None:
            # the average where there is one: it comes last
            for source in ("method.generator.", "average/photo2sketch.module."):
                own = {k: t for k, t in tensors.items() if k.startswith(source)}
                tensors |= {k.replace(source, "method.beginning."): t for k, t in own.items()}
        if styles == self.styles:
            return tensors
        known = torch.eye(len(styles))
        named = {style: known[i] for i, style in enumerate(styles)}
        columns = torch.stack([named.get(s, known.mean(0)) for s in self.styles], 1)  # (their styles, ours)

        def widened(name: str, tensor: Tensor) -> Tensor:
            if name.endswith("modulation.weight"):  # (2C, styles)
                return tensor @ columns
            if "discriminators" in name and name.endswith("layers.0.weight"):  # (C, styles + sketch, k, k)
                planes, sketch = tensor.split([len(styles), 1], 1)
                return torch.cat([torch.einsum("ospq,sn->onpq", planes, columns), sketch], 1)
            return tensor

        return {name: widened(name, t) for name, t in tensors.items() if not name.startswith("optimizer/")}

    def average_decay(self) -> float | None:
        return self.settings.ema or None
