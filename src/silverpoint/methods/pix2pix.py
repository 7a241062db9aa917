"""pix2pix: Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., CVPR 2017).

    Eq. 1-3  conditional GAN, L1                    Pix2Pix.training_step
    Eq. 4    arg min max L_cGAN + lambda L_L1       lambda_l1 = 100
    6.1.1    U-Net-256 generator                    nets/unet.py
    6.1.2    70x70 PatchGAN                         nets/patchgan.py

Departure: one output channel, since sketches are grey.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.init import normal_init
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.unet import UNet256


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = UNet256.size_multiple

    lr: float = setting(2e-4, "section 3.3", low=0)
    beta1: float = setting(0.5, "section 3.3", low=0, high=0.9999)
    lambda_l1: float = setting(100.0, "section 6.1: lambda = 100", low=0)
    gan_mode: str = setting("vanilla", "Eq. 1", choices=MODES)
    direction: str = setting("photo2sketch", "ours", choices=("photo2sketch", "sketch2photo"))


class UNetSynthesizer(nn.Module):
    """The U-Net behind the interface of all synthesizers; pix2pix knows no styles."""

    size_multiple = UNet256.size_multiple

    def __init__(self, unet: UNet256) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        return self.unet(source)


class Pix2Pix(Method):
    """Conditional GAN with a U-Net and L1 (Isola et al., CVPR 2017): the baseline."""

    name = "pix2pix"
    settings_class = Settings
    directions = ("photo2sketch", "sketch2photo")
    # mirroring, and the jitter of 286 -> 256 (section 6.1)
    augmentation = Augmentation(
        scale=(1.0, 1.0), rotation=0.0, shift=15.0, tone=0.0, background=0.0, skin=0.0
    )
    # the gradients of transposed convolutions come in planes: 50 million of them would be copied each step
    memory_format = torch.contiguous_format
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        channels = (3, 1) if settings.direction == "photo2sketch" else (1, 3)
        self.generator = UNetSynthesizer(UNet256(*channels))
        self.discriminator = PatchGAN(in_channels=4, norm="batch")
        normal_init(self.generator)
        normal_init(self.discriminator)

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        return {
            "discriminator": OptimizerSpec(list(self.discriminator.parameters()), s.lr, (s.beta1, 0.999)),
            "generator": OptimizerSpec(list(self.generator.parameters()), s.lr, (s.beta1, 0.999)),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s = self.settings
        forward = s.direction == "photo2sketch"
        source, target = (batch.photo, batch.sketch) if forward else (batch.sketch, batch.photo)
        fake = self.generator(source, batch.style)

        logits_fake = self.discriminator(torch.cat([source, fake.detach()], 1))
        logits_real = self.discriminator(torch.cat([source, target], 1))
        # halved, "which slows down the rate at which D learns relative to G" (section 3.3)
        yield (
            "discriminator",
            {
                "d_fake": adversarial(logits_fake, real=False, mode=s.gan_mode) / 2,
                "d_real": adversarial(logits_real, real=True, mode=s.gan_mode) / 2,
            },
        )

        logits = self.discriminator(torch.cat([source, fake], 1))
        yield (
            "generator",
            {
                "g_gan": adversarial(logits, real=True, mode=s.gan_mode),
                "g_l1": s.lambda_l1 * F.l1_loss(fake.float(), target),
            },
        )

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generator
