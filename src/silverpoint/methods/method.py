"""What every method is: networks, losses and settings, with nothing about files, devices, epochs or logging."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batch
from silverpoint.data.framing import FILLS, FRAMINGS, training_side
from silverpoint.errors import UsageError

Losses = Mapping[str, Tensor]  # scalars, already weighted: their sum is what the optimizer descends


@dataclass(frozen=True)
class OptimizerSpec:
    """Adam over `parameters`; the trainer multiplies `lr` by the method's schedule."""

    parameters: list[nn.Parameter]
    lr: float
    betas: tuple[float, float] = (0.5, 0.999)


@dataclass(frozen=True)
class Stage:
    """A part of the training with optimizers of its own; `epochs` are passes over the training pairs."""

    name: str
    epochs: int


def setting(
    default: Any,
    source: str,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of a `Settings` dataclass: its default, where that comes from, and what values are allowed."""
    return field(default=default, metadata={"source": source, "choices": choices, "low": low, "high": high})


def allowed(metadata: Mapping[str, Any]) -> str:
    """What a setting's values may be, in words, from its metadata; nothing where anything goes."""
    low, high, choices = (metadata.get(key) for key in ("low", "high", "choices"))
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    if low is not None and high is not None:
        return f"between {low} and {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


@dataclass(frozen=True)
class CommonSettings:
    """Settings every method has. The schedule is constant, then falls linearly to zero (pix2pix, CUT)."""

    size_multiple: ClassVar[int] = 1  # what the side of the squares that training sees must be divisible by
    batch_size: int = setting(1, "pix2pix, section 3.3", low=1)
    n_epochs: int = setting(100, "pix2pix: constant learning rate", low=0)
    n_epochs_decay: int = setting(100, "pix2pix: linear decay to zero", low=0)
    crop_size: int = setting(256, "pix2pix, section 6.1; of the framing `crop`", low=32)
    framing: str = setting("crop", "ours: random squares of crop_size", choices=FRAMINGS)
    fill: str = setting("edge", "ours: what lies around a padded picture", choices=FILLS)

    @property
    def needs_unpaired(self) -> bool:
        """Whether the method cannot learn without `Batch.unpaired`."""
        return False

    @property
    def needs_start(self) -> bool:
        """Whether a run can only begin with the networks of another."""
        return False

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, choices = getattr(self, f.name), f.metadata.get("choices")
            low, high = f.metadata.get("low"), f.metadata.get("high")
            inside = (low is None or value >= low) and (high is None or value <= high)
            finite = not isinstance(value, float) or math.isfinite(value)
            if not (inside and finite) or (choices and value not in choices):
                raise UsageError(f"{f.name} must be {allowed(f.metadata) or 'finite'}, not {value}")
        if self.n_epochs + self.n_epochs_decay < 1:
            raise UsageError("n_epochs and n_epochs_decay are both 0: train at least one epoch")
        side = training_side(self.framing, self.crop_size)
        if side % self.size_multiple:
            raise UsageError(f"crop_size must be a multiple of {self.size_multiple}, not {side}")


class Method(nn.Module):
    """Base of the methods. A subclass sets the class attributes and implements the four functions below."""

    name: ClassVar[str]
    settings_class: ClassVar[type[CommonSettings]]
    directions: ClassVar[tuple[str, ...]] = ("photo2sketch",)
    priors: tuple[str, ...] = ()  # names of the dataset's priors a batch must carry
    takes_unpaired: ClassVar[bool] = False  # whether it learns from `Batch.unpaired`
    augmentation: Augmentation = Augmentation.none()
    # of the weights, and so of the features
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    # names of the buffers that differ between the processes of a distributed run, though not in their shape
    own: ClassVar[tuple[str, ...]] = ()
    styled: ClassVar[bool] = False  # whether it draws in several hands, of which one is asked for
    clean_paper: ClassVar[bool] = False  # whether sketches are cleaned of tints, smudges and scanner corners

    def __init__(self, settings: CommonSettings, styles: tuple[str, ...]) -> None:
        super().__init__()
        self.settings = settings
        self.styles = styles
        self.progress = 0.0  # fraction of the stage's training that is done; the trainer keeps it
        # Mean of a tensor over the processes of a distributed run, for what a step updates outside autograd.
        self.reduce: Callable[[Tensor], Tensor] = _alone  # the trainer sets it where there are several

    def stages(self) -> list[Stage]:
        return [Stage("main", self.settings.n_epochs + self.settings.n_epochs_decay)]

    def start_stage(self, stage: Stage) -> None:
        """Called when `stage` begins, before its optimizers are made.

        When a run is resumed or loaded it is called for every stage up to the checkpoint's, in order and before the
        weights are loaded: what it makes must depend on the stage alone, and what it copies is overwritten.
        """

    def optimizers(self, stage: Stage) -> dict[str, OptimizerSpec]:
        raise NotImplementedError

    def training_step(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        """Yields (optimizer name, losses) in the order of the updates.

        The trainer descends the sum of each before it asks for the next, so what is computed after a `yield`
        sees the updated weights. Only the named optimizer's parameters receive gradients.
        """
        raise NotImplementedError

    def synthesizer(self, direction: str) -> nn.Module:
        """The module that synthesis needs, and nothing else: what is averaged (EMA), sampled and exported.

        Its class attributes are `size_multiple`, what height and width must be divisible by, and `priors`, the names
        of the source image's priors that it needs (none when absent); a local network says in `receptive_margin` beyond
        how many pixels nothing changes a pixel. Its forward(source, style, *priors) takes the
        photo or sketch, the style one-hot and those priors, in their order, and returns an image in [-1, 1].
        """
        raise NotImplementedError

    def inspect(self, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
        """What else validation shows of a held-out pair: figures by name, and pictures (1, 3, H, W) in [-1, 1].

        The figures are averaged over the pairs; the pictures come below the pair in the sample sheet.
        """
        return {}, []

    def trained_directions(self) -> tuple[str, ...]:
        """The directions this run trains: that of the setting `direction`, where the method has one."""
        chosen = getattr(self.settings, "direction", None)
        return (chosen,) if chosen else self.directions

    def lr_factor(self, stage: Stage) -> float:
        """Constant for n_epochs, then linear to zero over n_epochs_decay."""
        total = self.settings.n_epochs + self.settings.n_epochs_decay
        done = self.progress * total
        if done <= self.settings.n_epochs:
            return 1.0
        return max(0.0, (total - done) / max(1, self.settings.n_epochs_decay))

    def adopt(self, tensors: dict[str, Tensor], styles: tuple[str, ...]) -> dict[str, Tensor]:
        """A checkpoint's tensors, of a run that knew `styles`, as a run with this method's styles begins with them."""
        return tensors

    def average_decay(self) -> float | None:
        """Decay of the exponential moving average of the synthesizer, or None for no averaging."""
        return None


def _alone(tensor: Tensor) -> Tensor:
    return tensor


def source_priors(synthesizer: nn.Module, direction: str) -> tuple[str, ...]:
    """A batch's names of the priors a synthesizer needs: the sketch's where the sketch is its source."""
    names: tuple[str, ...] = getattr(synthesizer, "priors", ())
    return names if direction == "photo2sketch" else tuple(f"sketch_{name}" for name in names)


_REGISTRY: dict[str, Callable[[], type[Method]]] = {}


def register(name: str, load: Callable[[], type[Method]]) -> None:
    _REGISTRY[name] = load


def names() -> list[str]:
    return sorted(_REGISTRY)


def method_class(name: str) -> type[Method]:
    """The class of a registered method; raises UsageError naming the nearest match."""
    if name not in _REGISTRY:
        from difflib import get_close_matches

        near = get_close_matches(name, _REGISTRY, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names())}"
        raise UsageError(f"there is no method {name!r}; {hint}")
    return _REGISTRY[name]()
