"""MOST-Net: A Memory Oriented Style Transfer Network for Face Sketch Synthesis (Ji et al., ICPR 2022).

    III-A, Fig. 2   encoders, decoder                   nets/encoders.py
    Fig. 2 M1, M2   style injection                     nets/injection.py
    Eqs. 1-9        memory dictionary                   nets/memory.py
    Eq. 10          adversarial                         MOSTNet.training_step, losses/adversarial.py
    Eq. 11          reconstruction                      MOSTNet.training_step
    Eqs. 12-13      style, content                      losses/feature_distance.py, MOSTNet._look_alike
    Eqs. 14-15      memory refinement                   losses/memory_refinement.py
    Eq. 16          the weights                         Settings

Decisions where the paper is silent, and what we found: docs/methods/mostnet.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FILLS, FRAMINGS
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.losses.feature_distance import feature_mse
from silverpoint.losses.memory_refinement import memory_refinement
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.encoders import FeatureDecoder, FeatureEncoder
from silverpoint.nets.init import normal_init
from silverpoint.nets.injection import InjectionBlock
from silverpoint.nets.memory import MemoryDictionary, attention_entropy, rows, similarity
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.vgg import VGG19, load_vgg19

SCALE = 4  # pixels of a picture per place of its features, each way
INJECTIONS = 3  # section III-A: three style injection blocks
UNUSED = 100  # updates of the memory without its key being chosen, after which we call a slot unused
# Eqs. 12 and 13, and what gives our VGG-19's squared distances the size of torchvision's, for which the paper's
# weights are: ours has activations near one in every channel. Measured against VGG-16: docs/methods/mostnet.md.
STYLE, CONTENT = {"pool1": 0.5, "pool2": 1.0}, {"pool4": 0.125}


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = SCALE

    batch_size: int = setting(16, "section IV-A", low=1)
    n_epochs: int = setting(1000, "section IV-A: more than 1000 epochs", low=0)
    n_epochs_decay: int = setting(0, "section IV-A names no decay", low=0)
    framing: str = setting("pad256", "section IV-B: padded to 256x256, as SCA-GAN does", choices=FRAMINGS)
    fill: str = setting("white", "ours: the colour of paper", choices=FILLS)
    lr: float = setting(4e-4, "section IV-A: of the generator", low=0)
    lr_discriminator: float = setting(1e-3, "section IV-A", low=0)
    beta1: float = setting(0.9, "section IV-A", low=0, high=0.9999)
    lambda_gan: float = setting(1.0, "section IV-A: lambda 1", low=0)
    lambda_rec: float = setting(200.0, "section IV-A: lambda 2", low=0)
    lambda_style: float = setting(40.0, "section IV-A: lambda 3", low=0)
    lambda_content: float = setting(40.0, "section IV-A: lambda 4", low=0)
    lambda_mr: float = setting(10.0, "section IV-A: lambda 5", low=0)
    gan_mode: str = setting("vanilla", "Eq. 10", choices=MODES)
    content_of: str = setting("sketch", "Eq. 13; photo: the sentence before it", choices=("sketch", "photo"))
    width: int = setting(64, "ours, as CycleGAN: a quarter of a slot's length", low=1)
    blocks: int = setting(4, "ours: residual blocks of an encoder, and of the decoder", low=0)
    hidden: int = setting(128, "SPADE, appendix A: channels between style and gamma, beta", low=1)
    slots: int = setting(512, "ours: K of Eq. 1", low=2)
    memory_decay: float = setting(0.999, "section IV-A: alpha of Eq. 6", low=0, high=1)
    temperature: float = setting(1.0, "Eq. 7 has none; of the reading", low=1e-3)
    value_choice: str = setting(
        "own", "section III-B-2: as the keys; key: the slot of the photo feature", choices=("own", "key")
    )
    mr_gradient: str = setting(
        "straight-through", "ours; none: Eqs. 14-15 to the letter", choices=("straight-through", "none")
    )
    mr_temperature: float = setting(1.0, "ours: of the straight-through gradient of Eqs. 14-15", low=1e-3)
    restart_after: int = setting(
        0,
        "ours: updates after which an unused slot is given to a busy one's features; 0: never, the paper",
        low=0,
    )
    discriminator_width: int = setting(64, "pix2pix, section 6.1.2", low=1)


class Synthesizer(nn.Module):
    """photo (B, 3, H, W) in [-1, 1] -> sketch (B, 1, H, W) in [-1, 1], with what the memory says; multiples of 4."""

    size_multiple = SCALE

    def __init__(self, s: Settings) -> None:
        super().__init__()
        channels = 4 * s.width
        self.encoder = FeatureEncoder(3, s.width, s.blocks)
        self.memory = MemoryDictionary(s.slots, channels, s.memory_decay, s.temperature, s.restart_after)
        self.injections = nn.ModuleList(
            InjectionBlock(channels, channels, channels, s.hidden) for _ in range(INJECTIONS)
        )
        self.decoder = FeatureDecoder(1, s.width, s.blocks)

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        features = self.encoder(source)
        return self.draw(features, self.memory(features))

    def draw(self, features: Tensor, read: Tensor) -> Tensor:
        """The sketch from photo features and the sketch features that inject its style, both (B, c, h, w)."""
        for block in self.injections:
            features = block(features, [injection(read) for injection in block.injections])  # type: ignore[union-attr]
        return self.decoder(features)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the networks one by one, for a training step calls them past `forward`."""
        blocks = [part for block in self.injections for part in (block, *block.injections)]  # type: ignore[misc]
        for part in (self.encoder, *blocks, self.decoder):
            part.compile(*args, **kwargs)


@dataclass(frozen=True)
class Recall:
    """What a trained memory makes of pairs; maps are (B, c, h, w), cosines (B h w, K), sketches in [-1, 1]."""

    shown: Tensor  # (B, 1, h, w) bool: where photo or sketch show anything, unlike a white margin
    photo_features: Tensor
    sketch_features: Tensor
    key_cosines: Tensor
    value_cosines: Tensor
    sketch: Tensor
    reading_alone: Tensor  # drawn with photo features of zero: all that the memory says of a photo
    without_reading: Tensor  # drawn with the mean value everywhere: all that is not the memory's

    def agreement(self) -> float:
        """The share of shown places whose photo and sketch features choose one slot: there 1 - L_MR / 2."""
        agree = self.key_cosines.argmax(-1) == self.value_cosines.argmax(-1)
        return float(agree[self.shown.flatten()].float().mean())

    def attention_entropy(self, temperature: float) -> float:
        """Of the shown places: see nets/memory.py."""
        return attention_entropy(self.key_cosines[self.shown.flatten()], temperature)

    def without_reading_l1(self) -> float:
        """How much of the sketch, in [-1, 1], is the memory's: mean absolute difference over shown places."""
        difference = (self.without_reading - self.sketch).abs()
        return float(F.avg_pool2d(difference, SCALE)[self.shown].mean())


class MOSTNet(Method):
    """MOST-Net (Ji et al., ICPR 2022): a key-value memory that maps photo features to sketch features."""

    name = "mostnet"
    settings_class = Settings
    memory_format = (
        torch.contiguous_format
    )  # instance norm and reflection padding would copy channels-last maps
    # mirroring, and the shift of a random crop out of a wider border, as SCA-GAN
    augmentation = replace(Augmentation.none(), flip=0.5, shift=15.0)
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        self.generator = Synthesizer(settings)
        self.sketch_encoder = FeatureEncoder(1, settings.width, settings.blocks)
        self.discriminator = PatchGAN(4, settings.discriminator_width, norm="batch")  # as in pix2pix
        normal_init(self)
        # Slots move by Eq. 6 alone, so no other loss than the refinement reaches the features that move the values.
        self.sketch_encoder.requires_grad_(
            settings.lambda_mr > 0 and settings.mr_gradient == "straight-through"
        )
        self._vgg: list[VGG19] = []  # loaded by the first step; not part of the checkpoint

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s, betas = self.settings, (self.settings.beta1, 0.999)
        drawing = [*self.generator.parameters(), *self.sketch_encoder.parameters()]
        return {
            "discriminator": OptimizerSpec(list(self.discriminator.parameters()), s.lr_discriminator, betas),
            "generator": OptimizerSpec([p for p in drawing if p.requires_grad], s.lr, betas),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s = self.settings
        features = self.generator.encoder(batch.photo)
        refinement = self._remember(features, batch.sketch)
        fake = self.generator.draw(features, self.generator.memory(features))

        logits_fake = self.discriminator(torch.cat([batch.photo, fake.detach()], 1))
        logits_real = self.discriminator(torch.cat([batch.photo, batch.sketch], 1))
        yield (
            "discriminator",
            {
                "d_fake": adversarial(logits_fake, real=False, mode=s.gan_mode),
                "d_real": adversarial(logits_real, real=True, mode=s.gan_mode),
            },
        )

        logits = self.discriminator(torch.cat([batch.photo, fake], 1))
        losses = {
            "g_gan": s.lambda_gan * adversarial(logits, real=True, mode=s.gan_mode),  # Eq. 10
            "g_rec": s.lambda_rec * F.l1_loss(fake.float(), batch.sketch),  # Eq. 11
            "g_mr": s.lambda_mr * refinement,  # Eq. 15
        }
        if s.lambda_style or s.lambda_content:
            losses |= self._look_alike(fake, batch)
        yield "generator", losses

    def _remember(self, features: Tensor, sketch: Tensor) -> Tensor:
        """Move the memory toward a batch (Eqs. 4-6); returns how unlike the choices were before it moved (Eq. 15)."""
        s, memory = self.settings, self.generator.memory
        learned = any(p.requires_grad for p in self.sketch_encoder.parameters())
        # Similarities near one need more than bfloat16's three digits to be told apart.
        with torch.set_grad_enabled(learned and torch.is_grad_enabled()):
            sketch_rows = rows(self.sketch_encoder(sketch)).float()
            photo_rows = rows(features).float()
            with torch.autocast(features.device.type, enabled=False):
                key_cosines = similarity(photo_rows, memory.keys)
                value_cosines = similarity(sketch_rows, memory.values)
                refinement = memory_refinement(key_cosines, value_cosines, s.mr_temperature)
                key_choice = key_cosines.argmax(-1)  # Eq. 5
                value_choice = key_choice if s.value_choice == "key" else value_cosines.argmax(-1)
                memory.update(photo_rows, sketch_rows, key_choice, value_choice, self.reduce)
        return refinement

    def _look_alike(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Style and content (Eqs. 12-13) from one pass of VGG-19 each for the fake and its targets."""
        s = self.settings
        style, content = STYLE if s.lambda_style else {}, CONTENT if s.lambda_content else {}
        if not self._vgg:
            vgg = load_vgg19([*STYLE, *CONTENT])
            self._vgg.append(vgg.to(fake.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        [vgg] = self._vgg
        with torch.no_grad():
            of_photo = content if s.content_of == "photo" else {}
            of_sketch = [tap for tap in (*style, *content) if tap not in of_photo]
            real = {
                tap: feature
                for image, taps in ((batch.sketch, of_sketch), (batch.photo, of_photo))
                if taps
                for tap, feature in vgg((image + 1) / 2, taps).items()
            }
        seen = vgg((fake + 1) / 2, (*style, *content))
        losses = {}
        if style:
            losses["g_style"] = s.lambda_style * feature_mse(seen, real, style)
        if content:
            losses["g_content"] = s.lambda_content * feature_mse(seen, real, content)
        return losses

    @torch.no_grad()
    def recall(self, batch: Batch) -> Recall:
        """How the memory serves the pairs of a batch, for whoever wants to know whether it works as one."""
        generator, memory = self.generator, self.generator.memory
        photo, sketch = generator.encoder(batch.photo), self.sketch_encoder(batch.sketch)
        read, mean = memory(photo), memory.values.mean(0)[:, None, None].expand_as(photo)
        blank = F.avg_pool2d(torch.cat([batch.photo, batch.sketch], 1).amin(1, keepdim=True), SCALE) == 1
        return Recall(
            ~blank,
            photo,
            sketch,
            similarity(rows(photo), memory.keys),
            similarity(rows(sketch), memory.values),
            generator.draw(photo, read),
            generator.draw(torch.zeros_like(photo), read),
            generator.draw(photo, mean),
        )

    def inspect(self, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
        """The memory at work on a held-out pair; the pictures are drawn by reading alone, and without reading."""
        recall = self.recall(batch)
        figures = {
            "agreement": recall.agreement(),
            "attention_entropy": recall.attention_entropy(self.settings.temperature),
            "sketch_without_reading_l1": recall.without_reading_l1(),
            "unused_slots": float((self.generator.memory.idle >= UNUSED).sum()),
        }
        pictures = [p.expand(-1, 3, -1, -1) for p in (recall.reading_alone, recall.without_reading)]
        return figures, pictures

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generator
