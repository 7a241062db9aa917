"""Batches out of memory: which pairs a step sees, and how they look, depends on (seed, step) alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from silverpoint.data.augment import (
    Augmentation,
    background_alone,
    change_tone,
    darken_skin,
    replace_background,
    sample_crop,
    uniform,
)
from silverpoint.data.layout import part_mask
from silverpoint.data.pairs import Example
from silverpoint.data.paper import clear_background, flatten_paper

SKIN = ("skin", "ears", "nose", "neck", "lips", "eyebrows")


@dataclass
class Batch:
    """Aligned pairs. photo (B, 3, H, W) and sketch (B, 1, H, W) float in [-1, 1]; style (B, S) one-hot float.

    `priors` holds what the method asked for by name, each (B, C, H, W).
    """

    photo: Tensor
    sketch: Tensor
    style: Tensor
    ids: list[str] = field(default_factory=list)
    priors: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        priors = {name: p.to(device, non_blocking=True) for name, p in self.priors.items()}
        photo, sketch, style = (
            t.to(device, non_blocking=True) for t in (self.photo, self.sketch, self.style)
        )
        return Batch(photo, sketch, style, self.ids, priors)


class Batches:
    """Training batches of `examples`; batch(step) is a pure function of the step.

    An epoch is len(examples) draws. `style_weights` says how often each style is drawn relative to its share
    (1 each: every example once per epoch). `clean_paper` flattens the sketches' sheets and clears what lies
    behind the person (data/paper.py).
    """

    def __init__(
        self,
        examples: Sequence[Example],
        styles: Sequence[str],
        *,
        batch_size: int,
        crop_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        style_weights: dict[str, float] | None = None,
        clean_paper: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.styles = list(styles)
        self.batch_size, self.crop_size, self.augmentation, self.seed = (
            batch_size,
            crop_size,
            augmentation,
            seed,
        )
        self.rank, self.ranks = rank, ranks
        self.ids = [e.id for e in examples]
        self.style_index = [self.styles.index(e.style) for e in examples]
        self.images = [stack_channels(e, clean_paper) for e in examples]
        self.has_layout = [e.layout is not None for e in examples]
        self.has_saliency = [e.saliency is not None for e in examples]
        weights = np.array([(style_weights or {}).get(e.style, 1.0) for e in examples])
        self.shares = weights / weights.sum() * len(examples)  # expected draws per epoch
        self.steps_per_epoch = max(1, len(examples) // (batch_size * ranks))

    def _epoch_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        draws = np.floor(self.shares + rng.random(len(self.shares))).astype(int)
        order = rng.permutation(np.repeat(np.arange(len(draws)), draws))
        needed = self.steps_per_epoch * self.batch_size * self.ranks
        return np.resize(order, needed)

    def batch(self, step: int) -> Batch:
        epoch, within = divmod(step, self.steps_per_epoch)
        start = (within * self.ranks + self.rank) * self.batch_size
        chosen = self._epoch_order(epoch)[start : start + self.batch_size]
        entropy = np.random.SeedSequence((self.seed, step, self.rank)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy) % 2**63)
        photos, sketches = zip(*(self._example(int(i), generator) for i in chosen), strict=True)
        style = torch.eye(len(self.styles))[[self.style_index[i] for i in chosen]]
        return Batch(torch.stack(photos), torch.stack(sketches), style, [self.ids[i] for i in chosen])

    def _example(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a = self.augmentation
        if uniform(0, 1, generator) < a.plain:
            a = a.only_moved()
        crop = sample_crop(self.images[index].float() / 255, self.crop_size, a, generator).clamp(0, 1)
        photo, sketch, person, skin = crop[:3], crop[3:4], crop[4:5], crop[5:6]
        if self.has_layout[index] and uniform(0, 1, generator) < a.skin:
            photo = darken_skin(photo, skin, generator)
        if self.has_saliency[index] and uniform(0, 1, generator) < a.background:
            other = self.images[int(uniform(0, len(self.images) - 1e-6, generator))].float() / 255
            photo = replace_background(photo, person, background_alone(other[:3], other[4:5]), generator)
        if uniform(0, 1, generator) < a.tone:
            photo = change_tone(photo, generator)
        return photo * 2 - 1, sketch * 2 - 1


def soft_mask(layout: np.ndarray) -> np.ndarray:
    """Where the skin is, without hard edges: (H, W) uint8."""
    return np.asarray(Image.fromarray(part_mask(layout, *SKIN)).filter(ImageFilter.GaussianBlur(1.5)))


def stack_channels(example: Example, clean_paper: bool) -> Tensor:
    """(6, H, W) uint8: photo RGB, sketch, saliency (255 where there is none), skin (0 where there is no layout)."""
    sketch = flatten_paper(example.sketch) if clean_paper else example.sketch
    saliency = example.saliency
    if clean_paper and saliency is not None:
        sketch = clear_background(sketch, saliency)
    if saliency is None:
        saliency = np.full_like(sketch, 255)
    skin = np.zeros_like(sketch) if example.layout is None else soft_mask(example.layout)
    return torch.from_numpy(
        np.concatenate([example.photo.transpose(2, 0, 1), np.stack([sketch, saliency, skin])])
    )
