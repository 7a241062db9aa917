"""KT: Face Photo-Sketch Synthesis via Knowledge Transfer (Zhu, Wang, Gao, Li, Li; IJCAI 2019).

    3.2     teachers: VGG-19 to relu3_1, of the photo and of the sketch       nets/vgg.py, KT.teach
    3.2     students: nine dilated SE-residual blocks                         nets/seresnet.py
    3.2     which map learns from which                                       CORRESPONDENCE
    Eq. 1   L_tea-stu, its first sum for Stu-PtoS, its second for Stu-StoP    losses/transfer.py, lambda_teacher
    Eq. 2   L_stu-stu                                                         losses/transfer.py, lambda_student
    Eq. 3   L_rec                                                             KT._losses, reconstruction, lambda_rec
    Eq. 4   their sum                                                         KT._losses

Departure: Eq. 3 is balanced by default. As printed, a sum over 196,608 values beside means, it leaves the transfer
next to nothing to say (docs/methods/kt.md measures it); `reconstruction = sum` is the printed form.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FRAMINGS
from silverpoint.losses.transfer import map_distance
from silverpoint.methods.method import CommonSettings, Losses, Method, OptimizerSpec, Stage, setting
from silverpoint.nets.init import normal_init
from silverpoint.nets.seresnet import NORMS, DilatedSEResNet
from silverpoint.nets.vgg import VGG19, load_vgg19


class Alike(NamedTuple):
    """Three maps of one shape that are to look alike."""

    teacher: str
    layer: str  # the teacher's
    ptos: str  # Stu-PtoS's
    stop: str  # Stu-StoP's


# Section 3.2. Stu-PtoS goes down through the photo's knowledge and up through the sketch's, Stu-StoP the other way.
CORRESPONDENCE = (
    Alike("Teacher-P", "relu1_1", "IC", "UC2"),
    Alike("Teacher-P", "relu2_1", "DC1", "UC1"),
    Alike("Teacher-P", "relu3_1", "DC2", "Block"),
    Alike("Teacher-S", "relu3_1", "Block", "DC2"),
    Alike("Teacher-S", "relu2_1", "UC1", "DC1"),
    Alike("Teacher-S", "relu1_1", "UC2", "IC"),
)


@dataclass(frozen=True)
class Settings(CommonSettings):
    size_multiple = DilatedSEResNet.size_multiple

    lr: float = setting(2e-4, "section 4.1", low=0)
    beta1: float = setting(0.5, "section 4.1", low=0, high=0.9999)
    framing: str = setting("resize256", "section 4.1: scaled to 256x256", choices=FRAMINGS)
    lambda_teacher: float = setting(1.0, "Eq. 4: weight of Eq. 1; 0: without teachers (Table 1)", low=0)
    lambda_student: float = setting(1.0, "Eq. 4: weight of Eq. 2; 0: without each other (Table 1)", low=0)
    reconstruction: str = setting(
        "balanced", "ours: lambda_rec x mean; sum: Eq. 3 as printed", choices=("balanced", "sum")
    )
    lambda_rec: float = setting(10.0, "ours: of the balanced form, see docs/methods/kt.md", low=0)
    alternation: str = setting(
        "joint",
        "ours: both updates from one forward each; fresh: Stu-StoP's sees the updated Stu-PtoS",
        choices=("joint", "fresh"),
    )
    norm: str = setting("instance", "ours: not given; the first author's pix2pix has batch", choices=NORMS)
    mirror: bool = setting(True, "ours: as the first author's pix2pix; the paper names no augmentation")


class Sketching(nn.Module):
    """Stu-PtoS behind the interface of all synthesizers: the three channels it draws (section 4.1) as one grey."""

    size_multiple = DilatedSEResNet.size_multiple

    def __init__(self, student: DilatedSEResNet) -> None:
        super().__init__()
        self.student = student

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        return self.student(source)[0].mean(1, keepdim=True)


class Photographing(nn.Module):
    """Stu-StoP behind the interface of all synthesizers: the grey sketch enters in three channels."""

    size_multiple = DilatedSEResNet.size_multiple

    def __init__(self, student: DilatedSEResNet) -> None:
        super().__init__()
        self.student = student

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        return self.student(source.expand(-1, 3, -1, -1))[0]


class KT(Method):
    """Two teachers, two students, both directions, no discriminator (Zhu et al., IJCAI 2019)."""

    name = "kt"
    settings_class = Settings
    directions = ("photo2sketch", "sketch2photo")
    augmentation = replace(Augmentation.none(), flip=0.5)
    memory_format = torch.contiguous_format  # instance norm would copy channels-last maps
    settings: Settings

    def __init__(self, settings: Settings, styles: tuple[str, ...]) -> None:
        super().__init__(settings, styles)
        self.ptos = DilatedSEResNet(norm=settings.norm)
        self.stop = DilatedSEResNet(norm=settings.norm)
        normal_init(self)
        if not settings.mirror:
            self.augmentation = Augmentation.none()

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        s = self.settings
        return {
            "ptos": OptimizerSpec(list(self.ptos.parameters()), s.lr, (s.beta1, 0.999)),
            "stop": OptimizerSpec(list(self.stop.parameters()), s.lr, (s.beta1, 0.999)),
        }

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        photo, sketch = batch.photo, batch.sketch.expand(-1, 3, -1, -1)
        knowledge = self.teach(photo, sketch) if self.settings.lambda_teacher else []
        drawn, maps = self.ptos(photo)
        photographed, other_maps = self.stop(sketch)
        ptos, stop = in_order(maps, "ptos"), in_order(other_maps, "stop")
        yield "ptos", self._losses("ptos", drawn, sketch, ptos, knowledge, stop)
        if self.settings.alternation == "fresh" and self.settings.lambda_student:
            with torch.no_grad():
                ptos = in_order(self.ptos(photo)[1], "ptos")
        yield "stop", self._losses("stop", photographed, photo, stop, knowledge, ptos)

    def _losses(
        self,
        student: str,
        fake: Tensor,
        real: Tensor,
        maps: Sequence[Tensor],
        knowledge: Sequence[Tensor],
        other: Sequence[Tensor],
    ) -> Losses:
        """Eq. 4 for one student; neither the teachers nor the other student receive a gradient."""
        s = self.settings
        weight = s.lambda_rec if s.reconstruction == "balanced" else fake[0].numel()
        losses = {f"{student}_rec": weight * F.mse_loss(fake.float(), real)}  # Eq. 3
        if s.lambda_teacher:
            losses[f"{student}_teacher"] = s.lambda_teacher * map_distance(maps, knowledge)  # Eq. 1
        if s.lambda_student:
            losses[f"{student}_student"] = s.lambda_student * map_distance(maps, other)  # Eq. 2
        return losses

    @torch.no_grad()
    def teach(self, photo: Tensor, sketch: Tensor) -> list[Tensor]:
        """The teachers' six maps in the order of CORRESPONDENCE. photo and sketch (B, 3, H, W) in [-1, 1].

        Both teachers are the same frozen network, so they look at both pictures in one pass.
        """
        features = self._vgg.to(photo.device)((torch.cat([photo, sketch]) + 1) / 2)
        halves = {
            layer: dict(zip(("Teacher-P", "Teacher-S"), f.contiguous().chunk(2), strict=True))
            for layer, f in features.items()
        }
        return [halves[c.layer][c.teacher] for c in CORRESPONDENCE]

    @cached_property
    def _vgg(self) -> VGG19:
        """Not a part of the checkpoint, and fetched only by who learns from it: synthesis goes without."""
        vgg = load_vgg19(sorted({c.layer for c in CORRESPONDENCE}))
        return vgg.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def maps(self, photo: Tensor, sketch: Tensor) -> dict[str, list[Tensor]]:
        """The maps of Fig. 4 by network, each list in the order of CORRESPONDENCE.

        photo (B, 3, H, W) and sketch (B, 1, H, W) in [-1, 1].
        """
        sketch = sketch.expand(-1, 3, -1, -1)
        return {
            "Teachers": self.teach(photo, sketch),
            "Stu-PtoS": in_order(self.ptos(photo)[1], "ptos"),
            "Stu-StoP": in_order(self.stop(sketch)[1], "stop"),
        }

    def synthesizer(self, direction: str) -> nn.Module:
        return Sketching(self.ptos) if direction == "photo2sketch" else Photographing(self.stop)


def in_order(maps: Mapping[str, Tensor], student: str) -> list[Tensor]:
    """A student's maps in the order of CORRESPONDENCE; `student` is ptos or stop."""
    return [maps[getattr(c, student)] for c in CORRESPONDENCE]
