"""FSS: A facial structure sampling contrastive learning method for sketch facial synthesis (Du et al., Scientific
Reports 15, 2025, doi:10.1038/s41598-025-00574-6).

    Eq. 1-6    region-constrained sampling: maps of hair and face      nets/rcs.py; its training FSS._learn_structure
    Fig. 4     dynamic sampling strategy                               losses/patches.py, FSS.densities
    Eq. 7-8    features of photo and drawing, projected                losses/contrastive.py: multilayer_nce
    Eq. 9-10   patchwise contrastive loss                              losses/contrastive.py: patch_nce
    Eq. 11-14  adversarial, pixel and perceptual losses; their sum     FSS._draw
    Fig. 2     photo and mask in, sketch out                           MaskedSynthesizer

Open in the paper and decided here, with reasons in docs/methods/fss.md: what p_i of Eq. 1-6 is, how the sampling
module is pre-trained, what density and threshold are, what the mask is, and that a drawing is encoded with the mask of
its photo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.batches import Batch
from silverpoint.data.framing import FRAMINGS
from silverpoint.data.layout import PARTS
from silverpoint.losses.adversarial import MODES, adversarial
from silverpoint.losses.contrastive import multilayer_nce
from silverpoint.losses.patches import Samples, draw_by_density
from silverpoint.losses.perceptual import feature_l1
from silverpoint.methods.cut import JITTER, ImageSynthesizer, discriminator_losses, parse_layers
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.antialiased import AntialiasedResNet9
from silverpoint.nets.init import INITS
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.projection import ProjectionHeads
from silverpoint.nets.rcs import RegionConstrainedSampling
from silverpoint.nets.vgg import VGG19, load_vgg19

# The two regions, in the order of the module's maps, and what in a face are its features.
REGIONS = {
    "hair": ("hair",),
    "face": ("skin", "ears", "eyebrows", "eyes", "glasses", "nose", "inner_mouth", "lips"),
}
FEATURES = REGIONS["face"][2:]
# Eq. 13: phi_0 .. phi_4 and omega_0 .. omega_4
PERCEPTUAL = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = AntialiasedResNet9.size_multiple

    batch_size: int = setting(1, "implementation details", low=1)
    framing: str = setting("resize286", "256x256 (datasets), with CUT's jitter", choices=FRAMINGS)
    n_epochs: int = setting(200, "implementation details: constant learning rate", low=0)
    n_epochs_decay: int = setting(200, "implementation details: linear decay to zero", low=0)
    lr: float = setting(2e-4, "implementation details", low=0)
    beta1: float = setting(0.5, "implementation details", low=0, high=0.9999)
    lambda_GAN: float = setting(1.0, "Eq. 14", low=0)
    lambda_l1: float = setting(100.0, "Eq. 14: alpha (implementation details)", low=0)
    lambda_NCE: float = setting(1.0, "Eq. 14: beta; its value is CUT's", low=0)
    lambda_perceptual: float = setting(1.0, "Eq. 14: gamma (implementation details, as beta)", low=0)
    gan_mode: str = setting("vanilla", "Eq. 11", choices=MODES)
    mask: str = setting("layout", "Fig. 2; its source is ours", choices=("layout", "saliency", "none"))
    structure: str = setting("rcs", "Eq. 1-6; layout: the parser's regions", choices=("rcs", "layout"))
    rcs_features: str = setting(
        "stem", "ours: p_i of Eq. 1-6; pixels: as printed", choices=("stem", "pixels")
    )
    rcs_epochs: int = setting(10, "ours: pre-training of the sampling module", low=1)
    rcs_lr: float = setting(2e-3, "ours", low=0)
    rcs_plain: float = setting(
        0.7, "ours: density of plain hair and skin, where that of facial features is 1", low=0.1, high=1
    )
    num_face: int = setting(256, "implementation details", low=1)
    num_hair: int = setting(128, "implementation details", low=1)
    dss: bool = setting(True, "dynamic sampling strategy; false: evenly within a region, each place once")
    dss_quantile: float = setting(0.75, "ours: the threshold of Fig. 4", low=0, high=1)
    nce_layers: str = setting("0,4,8,12,16", "Eq. 7")
    nce_T: float = setting(0.07, "Eq. 9: tau; its value is CUT's", low=1e-3)
    netF_nc: int = setting(256, "CUT: dimension of the heads", low=1)
    init_type: str = setting("xavier", "CUT's code, with gain 0.02", choices=tuple(INITS))
    ngf: int = setting(64, "CUT: width of the generator", low=8)
    ndf: int = setting(64, "CUT: width of the discriminator", low=8)

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.nce_layers)


class MaskedSynthesizer(nn.Module):
    """The generator and its mask, made from one prior of the photo: layout or saliency."""

    size_multiple = AntialiasedResNet9.size_multiple

    def __init__(self, net: AntialiasedResNet9, prior: str) -> None:
        super().__init__()
        self.net = net
        self.priors = (prior,)

    def forward(self, photo: Tensor, style: Tensor, prior: Tensor) -> Tensor:
        return self.net(self.with_mask(photo, prior))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, of the network: training calls it by itself."""
        self.net.compile(*args, **kwargs)

    def with_mask(self, image: Tensor, prior: Tensor) -> Tensor:
        """image (B, 3 or 1, H, W) and the photo's prior -> (B, 4, H, W): RGB and the mask, all in [-1, 1]."""
        # every part but the background is foreground
        mask = 1 - prior[:, :1] if self.priors == ("layout",) else prior
        return torch.cat([image.expand(-1, 3, -1, -1), 2 * mask - 1], 1)


class FSS(Method):
    """Facial structure sampling (Du et al., 2025): contrastive translation that looks where the face is."""

    name = "fss"
    settings_class = Settings
    priors: tuple[str, ...] = ("layout",)
    augmentation = JITTER
    # instance norm and reflection padding would copy channels-last features
    memory_format = torch.contiguous_format
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        s = settings
        if s.mask == "saliency":
            self.priors = ("layout", "saliency")
        # made first: every row of the ablation begins with the same one, whatever the generator takes in
        self.rcs = RegionConstrainedSampling(s.rcs_features) if s.structure == "rcs" else None
        net = AntialiasedResNet9(3 if s.mask == "none" else 4, 1, s.ngf)
        self.generator: ImageSynthesizer | MaskedSynthesizer
        self.generator = ImageSynthesizer(net) if s.mask == "none" else MaskedSynthesizer(net, s.mask)
        self.layers = parse_layers(s.nce_layers)
        self.heads = ProjectionHeads([net.tap_channels(n) for n in self.layers], s.netF_nc)
        self.discriminator = PatchGAN(1, s.ndf)
        for drawing in (self.generator, self.heads, self.discriminator):
            INITS[s.init_type](drawing)
        self.stage = self.stages()[0].name

    def stages(self) -> list[Stage]:
        first = [Stage("rcs", self.settings.rcs_epochs)] if self.settings.structure == "rcs" else []
        return [*first, *super().stages()]

    def start_stage(self, stage: Stage) -> None:
        self.stage = stage.name

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        if stage.name == "rcs":
            assert self.rcs is not None
            return {"rcs": OptimizerSpec(list(self.rcs.parameters()), s.rcs_lr, (0.9, 0.999))}
        generator = [*self.generator.parameters(), *self.heads.parameters()]
        return {
            "discriminator": OptimizerSpec(list(self.discriminator.parameters()), s.lr, (s.beta1, 0.999)),
            "generator": OptimizerSpec(generator, s.lr, (s.beta1, 0.999)),
        }

    def lr_factor(self, stage: Stage) -> float:
        return 1 - self.progress if stage.name == "rcs" else super().lr_factor(stage)

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        return self._learn_structure(batch) if self.stage == "rcs" else self._learn_to_draw(batch)

    def _learn_structure(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        assert self.rcs is not None
        if self.settings.lambda_perceptual:
            _ = self._vgg  # fetched already: what is missing is said before this stage is spent
        logits, target = self.rcs(batch.photo), self.parsed_densities(batch)
        maps = torch.sigmoid(logits)
        # Milletari et al. 2016: with squares below, a soft target is the optimum
        overlap, sizes = (maps * target).sum((2, 3)), (maps.square() + target.square()).sum((2, 3))
        yield (
            "rcs",
            {
                "rcs_bce": F.binary_cross_entropy_with_logits(logits, target),
                "rcs_dice": (1 - (2 * overlap + 1) / (sizes + 1)).mean(),
            },
        )

    def _learn_to_draw(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s, photo, sketch = self.settings, batch.photo, batch.sketch
        # the generator's own pass has the photo's features on its way: encoding it again would give the same
        fake, photo_features = self.generator.net.forward_with_taps(self._encoded(photo, batch), self.layers)

        yield "discriminator", discriminator_losses(self.discriminator, fake, sketch, s.gan_mode)  # Eq. 11

        losses = {"g_gan": s.lambda_GAN * adversarial(self.discriminator(fake), real=True, mode=s.gan_mode)}
        if s.lambda_NCE:
            samples = self.sample(batch)
            cells = [samples.cells(*self.generator.net.tap_geometry(n)) for n in self.layers]
            losses["g_nce"] = s.lambda_NCE * multilayer_nce(
                self.heads,
                self.generator.net.encode(self._encoded(fake, batch), self.layers),
                photo_features,
                cells,
                [samples.counts] * len(cells),
                s.nce_T,
            )
        if s.lambda_l1:
            losses["g_l1"] = s.lambda_l1 * F.l1_loss(fake.float(), sketch)  # Eq. 12
        if s.lambda_perceptual:
            losses["g_perceptual"] = s.lambda_perceptual * self._perceptual(fake, sketch)
        yield "generator", losses  # Eq. 14

    def _encoded(self, image: Tensor, batch: Batch) -> Tensor:
        """What the encoder sees of a photo, or of a drawing of it: three channels, and the photo's mask."""
        if isinstance(self.generator, MaskedSynthesizer):
            return self.generator.with_mask(image, batch.priors[self.settings.mask])
        return image.expand(-1, 3, -1, -1)

    def _perceptual(self, fake: Tensor, sketch: Tensor) -> Tensor:
        vgg = self._vgg.to(fake.device)
        with torch.no_grad():
            target = vgg((sketch + 1) / 2)
        return feature_l1(vgg((fake + 1) / 2), target, PERCEPTUAL)  # Eq. 13

    @cached_property
    def _vgg(self) -> VGG19:
        """Fetched by the first step that needs it; a cached property is no submodule, and not in the checkpoint."""
        return load_vgg19(PERCEPTUAL).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def parsed_densities(self, batch: Batch) -> Tensor:
        """(B, 2, H, W): rcs_plain where the parser sees hair, or face; at strands up to 1, at features 1; else 0."""
        layout, plain = batch.priors["layout"], self.settings.rcs_plain
        hair, face, features = (part_plane(layout, parts) for parts in (*REGIONS.values(), FEATURES))
        strands = contrast_within(hair, batch.photo)
        return torch.stack([r * (plain + (1 - plain) * d) for r, d in ((hair, strands), (face, features))], 1)

    @torch.no_grad()
    def densities(self, batch: Batch) -> Tensor:
        """(B, 2, H, W): how densely hair and face are sampled where; zero outside their regions."""
        maps = self.parsed_densities(batch) if self.rcs is None else torch.sigmoid(self.rcs(batch.photo))
        regions = (maps > self.settings.rcs_plain / 2).float()
        return maps * regions if self.settings.dss else regions

    def sample(self, batch: Batch) -> Samples:
        """Places in the photos: num_hair of hair, then num_face of the face."""
        s = self.settings
        quantile = s.dss_quantile if s.dss else None
        return draw_by_density(self.densities(batch), (s.num_hair, s.num_face), quantile)

    @torch.no_grad()
    def inspect(self, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
        """In the first stage the maps (Fig. 3) and their IoU with the parser's regions, then the samples (Fig. 4)."""
        if self.stage != "rcs":
            return {}, [mark_samples(batch.photo, self.sample(batch), self.settings.num_hair)]
        assert self.rcs is not None
        maps, target = torch.sigmoid(self.rcs(batch.photo)), self.parsed_densities(batch)
        iou = intersection_over_union(maps > self.settings.rcs_plain / 2, target > 0)
        red = maps.new_tensor([1.0, -1.0, -1.0])[:, None, None]
        heat = [batch.photo.lerp(red, 0.8 * attention[:, None]) for attention in maps.unbind(1)]
        return {f"iou_{name}": float(value) for name, value in zip(REGIONS, iou.mean(0), strict=True)}, heat

    def synthesizer(self, direction: str) -> nn.Module:
        return self.generator


def part_plane(layout: Tensor, parts: Sequence[str]) -> Tensor:
    """layout (B, 12, H, W) one-hot -> (B, H, W): 1 on the named parts."""
    # one by one: an index list would be copied to the device, which the host would wait for
    return torch.stack([layout[:, list(PARTS).index(part)] for part in parts]).sum(0)


def contrast_within(region: Tensor, photo: Tensor) -> Tensor:
    """region (B, H, W) of 0 and 1, photo (B, 3, H, W) in [-1, 1] -> (B, H, W) in [0, 1]: the range of grey in 9x9.

    1 is the 95th percentile in the photo, or a grey level where that is less. 0 outside and along the outline, where
    the contrast is with what lies beyond.
    """
    red, green, blue = photo.float().unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    inside = F.max_pool2d(1 - region, 13, 1, 6) == 0  # two pixels more than the window: edges are soft
    spread = F.max_pool2d(luma, 9, 1, 4) + F.max_pool2d(-luma, 9, 1, 4)
    known = spread.masked_fill(~inside, torch.nan).flatten(1)
    full = torch.nanquantile(known, 0.95, dim=1)[:, None, None].clamp(min=2 / 255)
    return torch.where(inside, (spread / full).clamp(max=1), 0.0)


def intersection_over_union(a: Tensor, b: Tensor) -> Tensor:
    """a, b (B, R, H, W) bool -> (B, R); 1 where both are empty."""
    both, either = (a & b).sum((2, 3)), (a | b).sum((2, 3))
    return torch.where(either == 0, 1.0, both / either.clamp(min=1))


def mark_samples(photo: Tensor, samples: Samples, num_hair: int) -> Tensor:
    """photo (B, 3, H, W), paled, with 3x3 dots at the samples: hair blue, face orange; doubled, dark blue and red."""
    picture = (photo + 1) / 2
    hair, twice = torch.arange(samples.rows.shape[1], device=photo.device) < num_hair, samples.counts > 1
    kinds = (
        (hair & ~twice, (-0.8, 0.4, 1.0)),
        (~hair & ~twice, (1.0, 0.3, -1.0)),
        (hair & twice, (-1.0, -1.0, 0.6)),
        (~hair & twice, (0.9, -1.0, -1.0)),
    )
    for kind, colour in kinds:
        image, which = (kind & (samples.counts > 0)).nonzero(as_tuple=True)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                y = (samples.rows[image, which] + dy).clamp(0, photo.shape[2] - 1)
                x = (samples.columns[image, which] + dx).clamp(0, photo.shape[3] - 1)
                picture[image, :, y, x] = picture.new_tensor(colour)
    return picture
