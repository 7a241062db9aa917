"""DA-GAN: Domain-Adaptive Generative Adversarial Networks for Sketch-to-Photo Inversion (Liu et al., ICIP 2018).

    Table 1      Inv-Net, a variational autoencoder; DA-Net on its latent     nets/invnet.py
    Eq. 4        perceptual loss at VGG-19 conv3_4                            DAGAN._invert
    Eq. 5        total variation                                              losses/total_variation.py
    Eq. 6        KL to the standard normal                                    losses/variational.py
    Eq. 7        lambda_vae (Eq. 4 + KL) + lambda_tv Eq. 5                    DAGAN._invert
    Eq. 8        the game about the latent's domain                           losses/domain.py
    Algorithm 1  Inv-Net, then its encoder, then DA-Net                       DAGAN.training_step

Pairs are the source domain (simulated sketches and photos), `Batch.unpaired` the target (hand-drawn sketches, whose
photos are never seen). Departures, in docs/methods/dagan.md: the terms of Eq. 7 are means where the paper has sums, the
KL has a weight of its own, and DA-Net descends a bounded loss, not Eq. 8 as printed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.errors import UsageError
from silverpoint.losses.domain import MODES, confuse_domains, tell_domains_apart
from silverpoint.losses.total_variation import total_variation
from silverpoint.losses.variational import gaussian_kl, sample_gaussian
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.init import he_init, normal_init
from silverpoint.nets.invnet import NORMS, SLOPE, WIDTH, DomainNet, InvNet
from silverpoint.nets.vgg import load_vgg19

PHI = "relu3_4"  # conv3_4 (section 2.3)


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = InvNet.size_multiple

    batch_size: int = setting(8, "section 3.1", low=1)
    crop_size: int = setting(96, "Table 1; any other multiple of 16 is ours", low=32)
    lr: float = setting(2e-4, "ours: Adam's rate for Inv-Net is not given", low=0)
    lr_G: float = setting(1e-4, "ours: at a fifth of it DA-Net ran away from the encoder in 360 steps", low=0)
    lr_D: float = setting(2e-4, "ours", low=0)
    beta1: float = setting(0.5, "ours: the habit of GANs", low=0, high=0.9999)
    itrs_inv: int = setting(1, "Algorithm 1, line 2; number ours", low=1)
    itrs_G: int = setting(1, "Algorithm 1, line 4; number ours. 0: no adaptation", low=0)
    itrs_D: int = setting(1, "Algorithm 1, line 6; number ours. 0, with itrs_G 0: no target", low=0)
    lambda_vae: float = setting(1.0, "Eq. 7; value ours", low=0)
    lambda_perceptual: float = setting(1.0, "Eq. 6", low=0)
    lambda_kl: float = setting(1e-2, "ours: Eq. 6 has 1, of a sum (docs/methods/dagan.md)", low=0)
    lambda_tv: float = setting(0.1, "Eq. 7; value ours", low=0)
    lambda_pixel: float = setting(0.0, "ours: mean absolute difference; the paper has none", low=0)
    gan_mode: str = setting("vanilla", "Eq. 8 with a D that is bounded; minimax: as printed", choices=MODES)
    ema: float = setting(0.0, "ours: decay of the averaged Inv-Net, which draws; 0: none", low=0, high=0.9999)
    norm: str = setting("batch", "ours: not given", choices=tuple(NORMS))
    width: int = setting(WIDTH, "Table 1: Res. 512; the latent has half of it", low=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.itrs_G and not self.itrs_D:
            raise UsageError(
                "itrs_G without itrs_D would push the encoder by a domain network that learns nothing"
            )

    @property
    def needs_unpaired(self) -> bool:
        """Whether the target's sketches are in the batches; with itrs_G 0 the encoder learns nothing from them."""
        return self.itrs_D > 0


class Inverter(nn.Module):
    """Inv-Net behind the interface of all synthesizers: the photo of the latent's mean; it knows no styles."""

    size_multiple = InvNet.size_multiple

    def __init__(self, net: InvNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        return self.net(source)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, of encoder and decoder: training calls them by themselves."""
        self.net.encoder.compile(*args, **kwargs)
        self.net.decoder.compile(*args, **kwargs)


class DAGAN(Method):
    """Sketches of any hand into photos: a VAE with domain-adapted latents (Liu et al., ICIP 2018)."""

    name = "dagan"
    settings_class = Settings
    directions = ("sketch2photo",)
    takes_unpaired = True
    augmentation = replace(Augmentation.none(), flip=0.5)
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        self.inverter = Inverter(InvNet(settings.norm, settings.width))
        self.domain = DomainNet(settings.width // 2) if settings.needs_unpaired else None
        if settings.norm == "none":
            he_init(self.inverter, SLOPE)
        else:
            normal_init(self.inverter)
        if self.domain is not None:
            he_init(self.domain, SLOPE)
        self.vgg = (
            [load_vgg19([PHI]).to(memory_format=torch.channels_last)]  # type: ignore[call-overload]
            if settings.lambda_vae * settings.lambda_perceptual
            else []
        )  # in a list: not part of the checkpoint

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s, betas, net = self.settings, (self.settings.beta1, 0.999), self.inverter.net
        specs = {"inversion": OptimizerSpec(list(net.parameters()), s.lr, betas)}
        if s.itrs_G:  # moments of its own: Adam would otherwise weigh this small gradient by the inversion's
            specs["adaptation"] = OptimizerSpec(list(net.encoder.parameters()), s.lr_G, betas)
        if s.itrs_D and self.domain is not None:
            specs["domain"] = OptimizerSpec(list(self.domain.parameters()), s.lr_D, betas)
        return specs

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        s = self.settings
        target = batch.unpaired if s.needs_unpaired else None
        with torch.no_grad():
            real_features = self._phi(batch.photo) if self.vgg else None
        for _ in range(s.itrs_inv):
            yield "inversion", self._invert(batch, target, real_features)
        if self.domain is None:
            return
        assert target is not None  # the trainer has refused a run without
        for _ in range(s.itrs_G):
            of_source, of_target = self.domain(sample_gaussian(*self._encode(batch.sketch, target))).chunk(2)
            yield "adaptation", {"g_domain": confuse_domains(of_source, of_target, s.gan_mode)}
        if s.itrs_D:
            with torch.no_grad():  # D's gradient ends at the latents
                moments = self._encode(batch.sketch, target)
        for _ in range(s.itrs_D):
            of_source, of_target = self.domain(sample_gaussian(*moments)).chunk(2)
            yield "domain", {"d_domain": tell_domains_apart(of_source, of_target, s.gan_mode)}

    def _invert(self, batch: Batch, target: Tensor | None, real_features: Tensor | None) -> Losses:
        s = self.settings
        # Batch norm has to see both domains here, too: its running statistics, and so synthesis, know no other mixture.
        joint = target if s.norm == "batch" else None
        mean, log_variance = (m[: len(batch.sketch)] for m in self._encode(batch.sketch, joint))
        fake = self.inverter.net.decode(sample_gaussian(mean, log_variance)).float()
        losses = {
            "kl": s.lambda_vae * s.lambda_kl * gaussian_kl(mean, log_variance),  # Eq. 6
            "tv": s.lambda_tv * total_variation(fake),  # Eq. 5
        }
        if real_features is not None:
            perceptual = F.mse_loss(self._phi(fake), real_features)  # Eq. 4
            losses["perceptual"] = s.lambda_vae * s.lambda_perceptual * perceptual
        if s.lambda_pixel:
            losses["pixel"] = s.lambda_pixel * F.l1_loss(fake, batch.photo)
        return losses  # Eq. 7

    def _phi(self, image: Tensor) -> Tensor:
        image = ((image + 1) / 2).contiguous(memory_format=torch.channels_last)
        return self.vgg[0].to(image.device)(image)[PHI].float()

    def _encode(self, source: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, the source's before the target's, from one pass of the encoder."""
        sketches = source if target is None else torch.cat([source, target])
        mean, log_variance = self.inverter.net.encode(sketches)
        return mean.float(), log_variance.float()

    def synthesizer(self, direction: str) -> nn.Module:
        return self.inverter

    def average_decay(self) -> float | None:
        return self.settings.ema or None
