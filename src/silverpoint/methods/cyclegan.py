"""CycleGAN: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., ICCV 2017).

    Eq. 1       adversarial loss, least squares in training (section 4)       losses/adversarial.py
    Eq. 2       cycle consistency                                             cycle_A, cycle_B
    Eq. 3-4     the sum, lambda = 10                                          lambda_A, lambda_B
    section 4   history of 50 generated images                                ImagePool
    section 5.2 identity mapping loss                                         lambda_identity
    7.2         ResNet-9, 70x70 PatchGAN                                      nets/resnet.py, nets/patchgan.py

A are photos, B sketches; names of settings and losses are those of the authors' code. No loss compares a photo with its
sketch. The sketches are `Batch.unpaired` where the run names such datasets, else those of the batch.

Departure: grey sketches enter as three equal channels, as image readers give them to the authors' code, and the three
that come out are averaged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FRAMINGS
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.init import normal_init
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.resnet import ResNet9


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = ResNet9.size_multiple

    framing: str = setting("resize286", "authors' code: load_size 286, crop_size 256", choices=FRAMINGS)
    lr: float = setting(2e-4, "section 4", low=0)
    beta1: float = setting(0.5, "authors' code", low=0, high=0.9999)
    lambda_A: float = setting(10.0, "section 4: weight of photo -> sketch -> photo", low=0)
    lambda_B: float = setting(10.0, "section 4: weight of sketch -> photo -> sketch", low=0)
    lambda_identity: float = setting(0.5, "section 5.2: 0.5 lambda; 0 saves a third of the step", low=0)
    gan_mode: str = setting("lsgan", "section 4", choices=MODES)
    pool_size: int = setting(50, "section 4", low=0)
    ngf: int = setting(64, "section 7.2: c7s1-64", low=1)
    ndf: int = setting(64, "section 7.2: C64", low=1)


class ImagePool(nn.Module):
    """A history of generated images for the discriminator (Shrivastava et al. 2017); part of the method's state.

    The first `size` images are kept and returned. After that an image is returned as it is, or, half of the time,
    kept in exchange for one drawn from the history. Draws come from torch's generator of the CPU.
    """

    images: Tensor  # (n, C, H, W), n up to size

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.empty(0))

    @torch.compiler.disable  # coins and a history that grows
    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) new ones -> (B, C, H, W) to judge, without gradient."""
        if not self.size:
            return images.detach()
        return torch.stack([self._exchange(image) for image in images.detach().float().contiguous()])

    def _exchange(self, image: Tensor) -> Tensor:
        if self.images.shape[1:] != image.shape:  # nothing yet, or another run's, of another size
            self.images = image.new_empty(0, *image.shape)
        if len(self.images) < self.size:
            self.images = torch.cat([self.images, image[None]])
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        old = self.images[place].clone()
        self.images[place] = image
        return old

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:  # type: ignore[no-untyped-def]
        if prefix + "images" in state_dict:  # the history has grown since the pool was made
            self.images = torch.empty_like(state_dict[prefix + "images"], device=self.images.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Generator(nn.Module):
    """ResNet-9 behind the interface of all synthesizers; CycleGAN knows no styles."""

    size_multiple = ResNet9.size_multiple

    def __init__(self, net: ResNet9, grey: bool) -> None:
        super().__init__()
        self.net, self.grey = net, grey

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        image = self.net(source.expand(-1, 3, -1, -1))
        return image.mean(1, keepdim=True) if self.grey else image

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, of the network: training calls it by itself."""
        self.net.compile(*args, **kwargs)


class CycleGAN(Method):
    """Unpaired translation, both directions at once, held together by cycles (Zhu et al., ICCV 2017): the baseline."""

    name = "cyclegan"
    settings_class = Settings
    directions = ("photo2sketch", "sketch2photo")
    takes_unpaired = True
    augmentation = Augmentation(scale=(1.0, 1.0), rotation=0.0, tone=0.0, background=0.0, skin=0.0)
    memory_format = (
        torch.contiguous_format
    )  # instance norm wants planes: 6 % less time a step on a CPU, 12 % in bf16
    own = ("fake_A_pool.images", "fake_B_pool.images")
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        self.G_A = Generator(ResNet9(3, 3, settings.ngf), grey=True)  # photo -> sketch
        self.G_B = Generator(ResNet9(3, 3, settings.ngf), grey=False)  # sketch -> photo
        self.D_A = PatchGAN(3, settings.ndf)  # judges sketches
        self.D_B = PatchGAN(3, settings.ndf)  # judges photos
        self.fake_B_pool, self.fake_A_pool = ImagePool(settings.pool_size), ImagePool(settings.pool_size)
        normal_init(self)

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        lr, betas = self.settings.lr, (self.settings.beta1, 0.999)
        generators = [*self.G_A.parameters(), *self.G_B.parameters()]
        discriminators = [*self.D_A.parameters(), *self.D_B.parameters()]
        return {
            "generator": OptimizerSpec(generators, lr, betas),
            "discriminator": OptimizerSpec(discriminators, lr, betas),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s = self.settings
        sketch = batch.sketch if batch.unpaired is None else batch.unpaired
        real_A, real_B = batch.photo, sketch.expand(-1, 3, -1, -1)
        # Instance norm keeps images apart, so the two inputs of a generator share a pass.
        identity = s.lambda_identity > 0
        fake_B, *idt_A = self._translate(self.G_A, [real_A, real_B] if identity else [real_A])
        fake_A, *idt_B = self._translate(self.G_B, [real_B, real_A] if identity else [real_B])
        rec_A, rec_B = self.G_B.net(fake_B), self.G_A.net(fake_A)
        losses = {
            "G_A": adversarial(self.D_A(fake_B), real=True, mode=s.gan_mode),  # Eq. 1
            "G_B": adversarial(self.D_B(fake_A), real=True, mode=s.gan_mode),
            "cycle_A": s.lambda_A * F.l1_loss(rec_A.float(), real_A),  # Eq. 2
            "cycle_B": s.lambda_B * F.l1_loss(rec_B.float(), real_B),
        }
        if identity:
            losses["idt_A"] = s.lambda_identity * s.lambda_B * F.l1_loss(idt_A[0].float(), real_B)
            losses["idt_B"] = s.lambda_identity * s.lambda_A * F.l1_loss(idt_B[0].float(), real_A)
        yield "generator", losses

        yield (
            "discriminator",
            {
                "D_A": self._judge(self.D_A, real_B, self.fake_B_pool(fake_B)),
                "D_B": self._judge(self.D_B, real_A, self.fake_A_pool(fake_A)),
            },
        )

    @staticmethod
    def _translate(generator: Generator, images: list[Tensor]) -> tuple[Tensor, ...]:
        return generator.net(torch.cat(images)).chunk(len(images))

    def _judge(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss, halved (section 4), from one pass over the real images and the generated ones."""
        logits_real, logits_fake = discriminator(torch.cat([real, fake.to(real)])).chunk(2)
        mode = self.settings.gan_mode
        return (adversarial(logits_real, True, mode) + adversarial(logits_fake, False, mode)) / 2

    def synthesizer(self, direction: str) -> nn.Module:
        return self.G_A if direction == "photo2sketch" else self.G_B
