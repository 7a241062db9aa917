"""CUT: Contrastive Learning for Unpaired Image-to-Image Translation (Park et al., ECCV 2020).

    Eq. 1    adversarial loss                                  CUT.training_step; least squares, as the authors' code
    Eq. 2-3  one patch: cross-entropy over N patches           losses/contrastive.py
    Eq. 4    PatchNCE over layers and places                   losses/contrastive.py
    Eq. 5    L_GAN + lambda_X NCE(X) + lambda_Y NCE(Y)         CUT.training_step
    3        G = decoder of encoder; H, two-layer heads        nets/antialiased.py, nets/projection.py

The photo and the sketch of a batch are a pair, which no loss of CUT uses. Departures: a sketch has one channel,
three times repeated where it is encoded; the discriminator is the plain 70x70 PatchGAN.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FRAMINGS
from silverpoint.errors import UsageError
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.losses.contrastive import multilayer_nce
from silverpoint.losses.patches import draw_uniform
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.antialiased import ENCODER_DEPTH, AntialiasedResNet9
from silverpoint.nets.init import INITS
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.projection import ProjectionHeads

# resize to 286x286, random 256x256 crop, mirroring: CUT's defaults, on which FSS builds
JITTER = Augmentation(scale=(1.0, 1.0), rotation=0.0, shift=15.0, tone=0.0, background=0.0, skin=0.0)


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = AntialiasedResNet9.size_multiple

    framing: str = setting("resize286", "the authors' code: load_size 286, crop_size 256", choices=FRAMINGS)
    n_epochs: int = setting(200, "the authors' code: constant learning rate", low=0)
    n_epochs_decay: int = setting(200, "the authors' code: linear decay to zero", low=0)
    lr: float = setting(2e-4, "the authors' code", low=0)
    beta1: float = setting(0.5, "the authors' code", low=0, high=0.9999)
    lambda_GAN: float = setting(1.0, "Eq. 5", low=0)
    lambda_NCE: float = setting(1.0, "Eq. 5: lambda_X", low=0)
    nce_idt: bool = setting(True, "Eq. 5: lambda_Y = lambda_X; false: lambda_Y = 0")
    nce_layers: str = setting("0,4,8,12,16", "the authors' code; numbers of nets/antialiased.py")
    nce_T: float = setting(0.07, "Eq. 2: tau", low=1e-3)
    num_patches: int = setting(256, "the authors' code: places per layer", low=2)
    netF_nc: int = setting(256, "the authors' code: dimension of the heads", low=1)
    gan_mode: str = setting("lsgan", "the authors' code", choices=MODES)
    init_type: str = setting("xavier", "the authors' code, with gain 0.02", choices=tuple(INITS))
    ngf: int = setting(64, "the authors' code: width of the generator", low=8)
    ndf: int = setting(64, "the authors' code: width of the discriminator", low=8)
    direction: str = setting("photo2sketch", "ours", choices=("photo2sketch", "sketch2photo"))

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.nce_layers)


class ImageSynthesizer(nn.Module):
    """The generator behind the interface of all synthesizers; a grey source fills its three channels."""

    size_multiple = AntialiasedResNet9.size_multiple

    def __init__(self, net: AntialiasedResNet9) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        return self.net(_rgb(source))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, of the network: training calls it by itself."""
        self.net.compile(*args, **kwargs)


class CUT(Method):
    """Contrastive unpaired translation (Park et al., ECCV 2020): FSS's baseline."""

    name = "cut"
    settings_class = Settings
    directions = ("photo2sketch", "sketch2photo")
    augmentation = JITTER
    # instance norm and reflection padding would copy channels-last features
    memory_format = torch.contiguous_format
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        s = settings
        channels = 1 if s.direction == "photo2sketch" else 3
        self.generator = ImageSynthesizer(AntialiasedResNet9(3, channels, s.ngf))
        self.layers = parse_layers(s.nce_layers)
        self.heads = ProjectionHeads([self.generator.net.tap_channels(n) for n in self.layers], s.netF_nc)
        self.discriminator = PatchGAN(channels, s.ndf)
        INITS[s.init_type](self)

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        generator = [*self.generator.parameters(), *self.heads.parameters()]
        return {
            "discriminator": OptimizerSpec(list(self.discriminator.parameters()), s.lr, (s.beta1, 0.999)),
            "generator": OptimizerSpec(generator, s.lr, (s.beta1, 0.999)),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s, net = self.settings, self.generator.net
        forward = s.direction == "photo2sketch"
        source, target = (batch.photo, batch.sketch) if forward else (batch.sketch, batch.photo)
        inputs = torch.cat([_rgb(source), _rgb(target)]) if s.nce_idt else _rgb(source)
        # the generator's own pass has the keys' features on its way: encoding the source again gives the same
        images, features = net.forward_with_taps(inputs, self.layers)
        fake = images[: len(source)]

        yield "discriminator", discriminator_losses(self.discriminator, fake, target, s.gan_mode)

        losses = {"g_gan": s.lambda_GAN * adversarial(self.discriminator(fake), real=True, mode=s.gan_mode)}
        if s.lambda_NCE:
            drawn = net.encode(_rgb(images), self.layers)
            places = [
                draw_uniform(len(f), (f.shape[2], f.shape[3]), s.num_patches, f.device) for f in features
            ]
            cells, counts = [p.cells(1, 0) for p in places], [p.counts for p in places]
            # over both halves of the batch this is (NCE(photo) + NCE(sketch)) / 2, as in the authors' code
            losses["g_nce"] = s.lambda_NCE * multilayer_nce(
                self.heads, drawn, features, cells, counts, s.nce_T
            )
        yield "generator", losses

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generator


def _rgb(image: Tensor) -> Tensor:
    return image.expand(-1, 3, -1, -1)


def parse_layers(text: str) -> list[int]:
    """The numbers of `nce_layers`; raises UsageError where they are not different layers of the encoder."""
    try:
        layers = [int(number) for number in text.split(",")]
    except ValueError:
        layers = []
    if not layers or not all(0 <= n < ENCODER_DEPTH for n in layers) or len(set(layers)) < len(layers):
        raise UsageError(
            f"nce_layers must be different numbers from 0 to {ENCODER_DEPTH - 1}, such as 0,4,8,12,16, not {text!r}"
        )
    return layers


def discriminator_losses(discriminator: nn.Module, fake: Tensor, real: Tensor, mode: str) -> Losses:
    """Both halves of the discriminator's objective, from one pass; halved, as the authors of CUT do."""
    logits_fake, logits_real = discriminator(torch.cat([fake.detach(), real])).chunk(2)
    return {
        "d_fake": adversarial(logits_fake, real=False, mode=mode) / 2,
        "d_real": adversarial(logits_real, real=True, mode=mode) / 2,
    }
