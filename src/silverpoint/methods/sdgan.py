"""SDGAN: Biphasic Face Photo-Sketch Synthesis via Semantic-Driven Generative Adversarial Network (Qi et al. 2022).

    III-B, Fig. 2   U-Net with statistics injection     nets/injection.py
    Eqs. 1-5        representational graphs             losses/graphs.py
    Eqs. 6-8        adversarial, content, perceptual    SDGAN._train
    Eq. 9           parsing                             losses/parsing.py
    Eqs. 10-11      IAG, ITG                            losses/graphs.py
    Eq. 12, Alg. 1  iterative cycle training            SDGAN.start_stage, SDGAN._cycle
    Eq. 13          the weights                         Settings

Decisions where the paper is silent, and what each costs: docs/methods/sdgan.md.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FILLS, FRAMINGS
from silverpoint.faces.layout import PART_OF_CLASS, PARTS
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.losses.graphs import Graphs, graphs, inter_class_loss, intra_class_loss
from silverpoint.losses.parsing import log_odds, parsing_loss
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.bisenet import BiSeNet, load_bisenet
from silverpoint.nets.init import normal_init
from silverpoint.nets.injection import NORMS, ConstantInjection, InjectionUNet
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.vgg import load_vgg19

CHANNELS = {"photo2sketch": (3, 1), "sketch2photo": (1, 3)}
CYCLE_LEVELS = 5  # of the decoder's seven, the finest (Eq. 12)
# What gives the squared distances at pool1 and pool2 the size they have in torchvision's VGG, to which the paper's
# weight belongs (measured: docs/methods/sdgan.md); our network's activations are near one in every channel.
PERCEPTUAL = {"pool1": 0.46, "pool2": 0.89}
GRAPH_SCALE = 12.0  # divides the graphs' features, so that ITG has the size it has on the images themselves
# of Eq. 11 on features: whole, it is met by spots of colour that no face has (docs/methods/sdgan.md)
ITG_SHARE = 0.1
GRAPH_TAP = "relu2_2"


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = InjectionUNet.size_multiple

    framing: str = setting("pad256", "section IV-B: padded to 256x256, as SCA-GAN does", choices=FRAMINGS)
    fill: str = setting("white", "ours: the colour of paper", choices=FILLS)
    lr: float = setting(2e-4, "section IV-A", low=0)
    beta1: float = setting(0.5, "section IV-A", low=0, high=0.9999)
    stages: int = setting(3, "Table VI: stages after the initial one; the paper tries up to 4", low=0)
    saliency: bool = setting(True, "section III-B; false for CUFSF (section IV-F-1)")
    injection: bool = setting(True, "section III-B; false: gamma and beta are learned constants")
    norm: str = setting("instance", "section IV-A; batch: section III-B", choices=tuple(NORMS))
    lambda_content: float = setting(100.0, "section IV-A: alpha", low=0)
    lambda_perceptual: float = setting(10.0, "section IV-A: lambda", low=0)
    lambda_bce: float = setting(15.0, "section IV-A: delta", low=0)
    lambda_iag: float = setting(100.0, "section IV-A: eta", low=0)
    lambda_itg: float = setting(100.0, "section IV-A: tau", low=0)
    lambda_ict: float = setting(5.0, "section IV-A: xi", low=0)
    graph_features: str = setting(
        "vgg", "ours: relu2_2 of VGG-19; image: section III-C to the letter", choices=("vgg", "image")
    )
    outside: float = setting(
        0.0, "ours: Eq. 2 over a part's own pixels; 1: as printed, over all of them", low=0, high=1
    )
    parser_size: int = setting(256, "ours: side at which the parser sees the image for Eq. 9", low=32)
    gan_mode: str = setting("vanilla", "Eq. 6", choices=MODES)
    width: int = setting(64, "pix2pix, section 6.1.1", low=1)
    hidden: int = setting(128, "SPADE, appendix A: channels between layout and gamma, beta", low=1)
    discriminator_width: int = setting(64, "pix2pix, section 6.1.2", low=1)


@dataclass(frozen=True)
class Side:
    """One of the two images of a pair, with its priors: what the paper calls X, M, S."""

    image: Tensor
    saliency: Tensor | None
    layout: Tensor | None

    def seen_by_generator(self) -> Tensor:
        """The image and, where there is one, its saliency map: (B, C, H, W)."""
        return self.image if self.saliency is None else torch.cat([self.image, self.saliency], 1)


@dataclass(frozen=True)
class Impression:
    """What the frozen networks make of an image; None is what no loss asks for."""

    features: dict[str, Tensor]
    graphs: Graphs | None
    parts: Tensor | None  # log odds of the 12 parts


class Synthesizer(nn.Module):
    """The generator behind the interface of all synthesizers. The method knows no styles."""

    size_multiple = InjectionUNet.size_multiple

    def __init__(self, direction: str, settings: Settings) -> None:
        super().__init__()
        channels, result = CHANNELS[direction]
        self.priors = _priors(settings)
        parts = len(PARTS) if settings.injection else 0
        s = settings
        self.net = InjectionUNet(channels + s.saliency, result, parts, s.width, s.hidden, s.norm)

    # two priors at most, by position: the exporter names its inputs one by one, and cannot name those of *priors
    def forward(
        self, source: Tensor, style: Tensor, prior: Tensor | None = None, other: Tensor | None = None
    ) -> Tensor:
        given = dict(zip(self.priors, (prior, other), strict=False))
        side = Side(source, given.get("saliency"), given.get("layout"))
        return self.net(side.seen_by_generator(), side.layout)


class SDGAN(Method):
    """Biphasic SDGAN (Qi et al. 2022): layouts injected into the decoder, graph losses, cycle training."""

    name = "sdgan"
    settings_class = Settings
    directions = ("photo2sketch", "sketch2photo")
    augmentation = replace(Augmentation.none(), flip=0.5)
    memory_format = torch.contiguous_format  # instance norm computes in planes; a fifth faster on a CPU
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        asked = _batch_priors(settings)
        self.priors = (*asked, *(f"sketch_{name}" for name in asked))
        self.generators = nn.ModuleDict({d: Synthesizer(d, settings) for d in self.directions})
        self.discriminators = nn.ModuleDict(
            {d: PatchGAN(4 + settings.saliency, settings.discriminator_width) for d in self.directions}
        )
        self._begin_anew()
        # generators of the stage before, by the direction that learns from them
        self.teachers = nn.ModuleDict()
        self._observers: dict[str, nn.Module] = {}  # not part of the checkpoint
        # which of the parser's 19 classes each part takes in
        groups = torch.tensor(PART_OF_CLASS) == torch.arange(len(PARTS))[:, None]
        self.register_buffer("groups", groups, persistent=False)
        self.groups: Tensor

    # ---- stages ------------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """The initial one and the iterations of the cycle, as Table VI counts them."""
        epochs = self.settings.n_epochs + self.settings.n_epochs_decay
        names = ["initial", *(f"cycle{i + 1}" for i in range(self.settings.stages))]
        return [Stage(name, epochs) for name in names]

    def start_stage(self, stage: Stage) -> None:
        """Algorithm 1: the nets of the stage before become the teachers, and new ones begin from scratch."""
        if stage.name == "initial":
            return
        teachers = {d: deepcopy(self.generators[_reverse(d)]) for d in self.directions}
        self.teachers = nn.ModuleDict(teachers).requires_grad_(False)
        self._begin_anew()

    def _begin_anew(self) -> None:
        normal_init(self.generators)
        normal_init(self.discriminators)
        for module in self.generators.modules():
            if isinstance(module, (ConstantInjection, nn.BatchNorm2d)):
                module.reset_parameters()

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        return {
            f"{kind}/{direction}": OptimizerSpec(list(nets[direction].parameters()), s.lr, (s.beta1, 0.999))
            for direction in self.directions
            for kind, nets in (("discriminator", self.discriminators), ("generator", self.generators))
        }

    # ---- one step ----------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        given = batch.priors.get
        photo = Side(batch.photo, given("saliency"), given("layout"))
        sketch = Side(batch.sketch, given("sketch_saliency"), given("sketch_layout"))
        yield from self._train("photo2sketch", photo, sketch, batch.style)
        yield from self._train("sketch2photo", sketch, photo, batch.style)

    def _train(
        self, direction: str, source: Side, target: Side, style: Tensor
    ) -> Iterator[tuple[str, Losses]]:
        s, discriminator = self.settings, self.discriminators[direction]
        generator = cast(Synthesizer, self.generators[direction])
        condition = source.seen_by_generator()
        fake = generator(source.image, style, *(getattr(source, name) for name in generator.priors))

        logits_fake = discriminator(torch.cat([condition, fake.detach()], 1))
        logits_real = discriminator(torch.cat([condition, target.image], 1))
        yield (  # Eq. 6, halved as in pix2pix, section 3.3
            f"discriminator/{direction}",
            {
                f"{direction}/d_fake": adversarial(logits_fake, real=False, mode=s.gan_mode) / 2,
                f"{direction}/d_real": adversarial(logits_real, real=True, mode=s.gan_mode) / 2,
            },
        )

        logits = discriminator(torch.cat([condition, fake], 1))
        losses = {
            "gan": adversarial(logits, real=True, mode=s.gan_mode),
            "content": s.lambda_content * F.l1_loss(fake.float(), target.image),  # Eq. 7
        }
        masks = self._masks(source.layout)  # the source's for either image (Fig. 3)
        with torch.no_grad():
            real = self._look(target.image, masks)
        losses |= self._compare(self._look(fake, masks), real)
        if s.lambda_ict and self.teachers:
            losses["ict"] = s.lambda_ict * self._cycle(direction, fake, target)
        yield f"generator/{direction}", {f"{direction}/{name}": loss for name, loss in losses.items()}

    def _masks(self, layout: Tensor | None) -> Tensor | None:
        """The layout at the size of what the graphs are of; None where no loss asks for graphs."""
        s = self.settings
        if layout is None or not (s.lambda_iag or s.lambda_itg):
            return None
        return halved(layout) if s.graph_features == "vgg" else layout

    def _look(self, image: Tensor, masks: Tensor | None) -> Impression:
        """One pass of each frozen network serves every loss; graphs are of the parts that `masks` show."""
        s, seen = self.settings, (image.float() + 1) / 2
        taps = [*PERCEPTUAL] if s.lambda_perceptual else []
        if masks is not None and s.graph_features == "vgg":
            taps.append(GRAPH_TAP)
        features = self._observer("vgg", image)(seen, taps) if taps else {}
        graph = parts = None
        if masks is not None:
            what = features[GRAPH_TAP].float() / GRAPH_SCALE if GRAPH_TAP in features else image
            graph = graphs(what, masks, s.outside)
        if s.lambda_bce:
            size = (s.parser_size, s.parser_size)
            if seen.shape[2:] != size:
                seen = F.interpolate(seen, size, mode="bilinear", align_corners=False, antialias=True)
            parser = cast(BiSeNet, self._observer("parser", image))
            logits = parser.coarse(seen.expand(-1, 3, -1, -1))
            parts = log_odds(logits, self.groups)
        return Impression(features, graph, parts)

    def _compare(self, fake: Impression, real: Impression) -> dict[str, Tensor]:
        s, losses = self.settings, {}
        if s.lambda_perceptual:  # Eq. 8
            squares = [
                weight * F.mse_loss(fake.features[tap].float(), real.features[tap].float())
                for tap, weight in PERCEPTUAL.items()
            ]
            losses["perceptual"] = s.lambda_perceptual * torch.stack(squares).sum()
        if fake.parts is not None and real.parts is not None:
            losses["bce"] = s.lambda_bce * parsing_loss(fake.parts, real.parts)  # Eq. 9
        if fake.graphs is not None and real.graphs is not None:
            if s.lambda_iag:
                losses["iag"] = s.lambda_iag * intra_class_loss(fake.graphs, real.graphs)  # Eq. 10
            if s.lambda_itg:
                share = ITG_SHARE if s.graph_features == "vgg" else 1.0
                losses["itg"] = s.lambda_itg * share * inter_class_loss(fake.graphs, real.graphs)  # Eq. 11
        return losses

    def _cycle(self, direction: str, fake: Tensor, target: Side) -> Tensor:
        """Eq. 12: what the other direction's net of the stage before makes of the fake and of the real target."""
        teacher = cast(Synthesizer, self.teachers[direction]).net.eval()
        with torch.no_grad():
            modulations = teacher.modulations(target.layout)
            from_real = teacher.levels(target.seen_by_generator(), modulations)
        from_fake = teacher.levels(replace(target, image=fake).seen_by_generator(), modulations)
        pairs = list(zip(from_fake, from_real, strict=True))[-CYCLE_LEVELS - 1 :]  # the last is the image
        return torch.stack([F.l1_loss(f.float(), r.float()) for f, r in pairs]).sum()

    def _observer(self, name: str, image: Tensor) -> nn.Module:
        """A frozen network, loaded when it is first needed: synthesis and export need none."""
        if name not in self._observers:
            net = load_bisenet() if name == "parser" else load_vgg19([*PERCEPTUAL, GRAPH_TAP])
            self._observers[name] = net.to(image.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._observers[name]

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generators[direction]

    def adopt(self, tensors: dict[str, Tensor], styles: tuple[str, ...]) -> dict[str, Tensor]:
        """Without the teachers of the other run's last stage: this one begins with the first, which has none."""
        return {name: t for name, t in tensors.items() if not name.startswith("method.teachers.")}


def halved(layout: Tensor) -> Tensor:
    """layout (B, K, H, W), one-hot -> (B, K, H // 2, W // 2): four pixels become one of the rarest part among them.

    A closed mouth of one row stays, of which nearest neighbour would keep all or nothing.
    """
    rarity = layout / layout.sum((2, 3), keepdim=True).clamp_min(1)
    rarest = F.max_pool2d(rarity, 2).argmax(1)
    return F.one_hot(rarest, layout.shape[1]).movedim(3, 1).to(layout.dtype)


def _reverse(direction: str) -> str:
    return "sketch2photo" if direction == "photo2sketch" else "photo2sketch"


def _priors(settings: Settings) -> tuple[str, ...]:
    """The priors of its source that a generator takes in."""
    return ("saliency",) * settings.saliency + ("layout",) * settings.injection


def _batch_priors(settings: Settings) -> tuple[str, ...]:
    """The priors of a photo, or of a sketch, that training takes in: the graphs need a layout, too."""
    layout = settings.injection or settings.lambda_iag > 0 or settings.lambda_itg > 0
    return ("saliency",) * settings.saliency + ("layout",) * layout
