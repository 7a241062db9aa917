"""Batches out of memory: which pairs a step sees, and how they look, depends on (seed, step) alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from silverpoint.data.augment import (
    Augmentation,
    background_alone,
    change_tone,
    darken_skin,
    draw_crop,
    replace_background,
    take_crop,
    uniform,
)
from silverpoint.data.framing import SIDE, frame, training_canvas, training_side
from silverpoint.data.layout import PARTS, part_mask
from silverpoint.data.pairs import Example
from silverpoint.data.paper import clear_background, flatten_paper
from silverpoint.errors import DataError

SKIN = ("skin", "ears", "nose", "neck", "lips", "eyebrows")
MAPS = ("saliency", "sketch_saliency")  # priors that are grey values
LABELS = ("layout", "sketch_layout")  # priors that are class numbers
PRIORS = (*MAPS, *LABELS)


@dataclass
class Batch:
    """Aligned pairs. photo (B, 3, H, W) and sketch (B, 1, H, W) float in [-1, 1]; style (B, S) one-hot float.

    `priors` holds what the method asked for, by name: saliency and sketch_saliency (B, 1, H, W) in [0, 1], of the
    photo and of the sketch; layout and sketch_layout (B, 12, H, W) one-hot float in the order of layout.PARTS.
    `unpaired` (B, 1, H, W) are sketches of another dataset, drawn independently of the pairs.
    """

    photo: Tensor
    sketch: Tensor
    style: Tensor
    ids: list[str] = field(default_factory=list)
    priors: dict[str, Tensor] = field(default_factory=dict)
    unpaired: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=True)

        priors = {name: move(p) for name, p in self.priors.items()}
        unpaired = None if self.unpaired is None else move(self.unpaired)
        return Batch(move(self.photo), move(self.sketch), move(self.style), self.ids, priors, unpaired)

    def pinned(self) -> "Batch":
        """The same in memory that a graphics card copies from by itself."""
        priors = {name: p.pin_memory() for name, p in self.priors.items()}
        unpaired = None if self.unpaired is None else self.unpaired.pin_memory()
        photo, sketch, style = (t.pin_memory() for t in (self.photo, self.sketch, self.style))
        return Batch(photo, sketch, style, self.ids, priors, unpaired)

    def parts(self, count: int) -> "list[Batch]":
        """The batch in `count` parts of one size; ValueError where it does not divide."""
        size, rest = divmod(len(self.photo), count)
        if rest or not size:
            raise ValueError(f"a batch of {len(self.photo)} has no {count} equal parts")
        if count == 1:
            return [self]
        return [self._part(slice(start, start + size)) for start in range(0, len(self.photo), size)]

    def _part(self, of: slice) -> "Batch":
        priors = {name: p[of] for name, p in self.priors.items()}
        unpaired = None if self.unpaired is None else self.unpaired[of]
        return Batch(self.photo[of], self.sketch[of], self.style[of], self.ids[of], priors, unpaired)


class Batches:
    """Training batches of `examples`; batch(step) is a pure function of the step.

    An epoch is len(examples) draws. `style_weights` says how often each style is drawn relative to its share
    (1 each: every example once per epoch). `clean_paper` flattens the sketches' sheets and clears what lies
    behind the person (data/paper.py). `framing` and `fill` are of data/framing.py; crop_size is of the framing
    `crop` alone. `priors` names what a batch carries, `unpaired` whose sketches it carries besides. Raises
    DataError for an example that lacks a prior or does not fit the framing.
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
        framing: str = "crop",
        fill: str = "edge",
        priors: Sequence[str] = (),
        unpaired: Sequence[Example] = (),
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.styles, self.priors = list(styles), tuple(priors)
        self.batch_size, self.augmentation, self.seed = batch_size, augmentation, seed
        self.crop_size = training_side(framing, crop_size)
        self.rank, self.ranks = rank, ranks
        self.ids = [e.id for e in examples]
        self.style_index = [self.styles.index(e.style) for e in examples]
        self.images = [_canvas(stack_channels(e, clean_paper, priors), e.id, framing, fill) for e in examples]
        self.labels = [_canvas(stack_labels(e, priors), e.id, framing, fill, labels=True) for e in examples]
        self.unpaired = [
            _canvas(
                torch.from_numpy(_prepared_sketch(e, clean_paper)[None].copy()), e.id, framing, fill, first=3
            )
            for e in unpaired
        ]
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
        rows = [
            self._example(int(i), _generator(self.seed, draw))
            for i, draw in zip(chosen, self._draws(step), strict=True)
        ]
        return Batch(
            torch.stack([row["photo"] for row in rows]),
            torch.stack([row["sketch"] for row in rows]),
            torch.eye(len(self.styles))[[self.style_index[i] for i in chosen]],
            [self.ids[i] for i in chosen],
            {name: torch.stack([row[name] for row in rows]) for name in self.priors},
            self._unpaired(step) if self.unpaired else None,
        )

    def _draws(self, step: int) -> range:
        """The numbers, in the whole run, of the draws this batch holds: how a draw looks depends on nothing else.

        Two processes of batch b therefore see together what one of batch 2b sees.
        """
        first = (step * self.ranks + self.rank) * self.batch_size
        return range(first, first + self.batch_size)

    def _example(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        a = self.augmentation
        if uniform(0, 1, generator) < a.plain:
            a = a.only_moved()
        images, labels = self.images[index], self.labels[index]
        where = draw_crop(images.shape[1], images.shape[2], self.crop_size, a, generator)
        crop = take_crop(images.float() / 255, where).clamp(0, 1)
        photo, sketch, person, skin = crop[:3], crop[3:4], crop[4:5], crop[5:6]
        row = {"saliency": person, "sketch_saliency": crop[6:7]}
        if len(labels):
            numbers = take_crop(labels.float(), where, labels=True)
            asked = [name for name in LABELS if name in self.priors]
            row |= {name: one_hot(n) for name, n in zip(asked, numbers, strict=True)}
        if self.has_layout[index] and uniform(0, 1, generator) < a.skin:
            photo = darken_skin(photo, skin, generator)
        if self.has_saliency[index] and uniform(0, 1, generator) < a.background:
            other = self.images[int(uniform(0, len(self.images) - 1e-6, generator))].float() / 255
            photo = replace_background(photo, person, background_alone(other[:3], other[4:5]), generator)
        if uniform(0, 1, generator) < a.tone:
            photo = change_tone(photo, generator)
        return row | {"photo": photo * 2 - 1, "sketch": sketch * 2 - 1}

    def _unpaired(self, step: int) -> Tensor:
        """Each of the other sketches once before any comes again, in an order of their own."""
        count, crops = len(self.unpaired), []
        for draw in self._draws(step):
            turn, place = divmod(draw, count)
            image = self.unpaired[np.random.default_rng((self.seed, turn, 1)).permutation(count)[place]]
            generator = _generator(self.seed, draw, 1)
            where = draw_crop(image.shape[1], image.shape[2], self.crop_size, self.augmentation, generator)
            crops.append(take_crop(image.float() / 255, where).clamp(0, 1))
        return torch.stack(crops) * 2 - 1


def still(
    example: Example,
    styles: Sequence[str],
    *,
    priors: Sequence[str] = (),
    framing: str = "crop",
    fill: str = "edge",
    multiple: int = 1,
) -> tuple[Batch, Callable[[Tensor], Tensor]]:
    """One example as synthesis sees it, unmoved, and the function that takes the result to the picture's size.

    `multiple` is the network's size_multiple. Raises DataError when the example lacks a prior.
    """

    def place(planes: Tensor, values: Sequence[int], labels: bool = False) -> Tensor:
        border = [float(v) if fill == "white" else None for v in values]
        framed = [
            frame(p[None, None].float(), framing, multiple, value=v, labels=labels)[0]
            for p, v in zip(planes, border, strict=True)
        ]
        return torch.cat(framed, 1)

    grey = stack_channels(example, False, priors)
    images = place(grey, _borders(len(grey)))
    numbers = stack_labels(example, priors)
    found = {"saliency": images[:, 4:5] / 255, "sketch_saliency": images[:, 6:7] / 255}
    if len(numbers):
        asked = [name for name in LABELS if name in priors]
        placed = place(numbers, [0] * len(numbers), labels=True)[0]
        found |= {name: one_hot(n)[None] for name, n in zip(asked, placed, strict=True)}
    style = torch.zeros(1, len(styles))
    style[0, list(styles).index(example.style)] = 1
    batch = Batch(
        images[:, :3] / 127.5 - 1,
        images[:, 3:4] / 127.5 - 1,
        style,
        [example.id],
        {name: found[name] for name in priors},
    )
    _, undo = frame(torch.empty(1, 1, *example.photo.shape[:2]), framing, multiple)
    return batch, undo


def one_hot(numbers: Tensor) -> Tensor:
    """(H, W) numbers of PARTS -> (12, H, W) float."""
    return F.one_hot(numbers.long(), len(PARTS)).permute(2, 0, 1).float()


def soft_mask(layout: np.ndarray) -> np.ndarray:
    """Where the skin is, without hard edges: (H, W) uint8."""
    return np.asarray(Image.fromarray(part_mask(layout, *SKIN)).filter(ImageFilter.GaussianBlur(1.5)))


def stack_channels(example: Example, clean_paper: bool = False, priors: Sequence[str] = ()) -> Tensor:
    """(6, H, W) uint8: photo RGB, sketch, saliency (255 where there is none), skin (0 where there is no layout);
    and the sketch's saliency as a seventh, where `priors` asks for it."""
    _require(example, priors)
    sketch = _prepared_sketch(example, clean_paper)
    saliency = np.full_like(sketch, 255) if example.saliency is None else example.saliency
    skin = np.zeros_like(sketch) if example.layout is None else soft_mask(example.layout)
    planes = [*example.photo.transpose(2, 0, 1), sketch, saliency, skin]
    if "sketch_saliency" in priors:
        planes.append(example.sketch_saliency)
    return torch.from_numpy(np.stack(planes))


def stack_labels(example: Example, priors: Sequence[str]) -> Tensor:
    """(N, H, W) uint8 numbers of PARTS: the layouts that `priors` asks for, in the order of LABELS."""
    _require(example, priors)
    planes = [getattr(example, name) for name in LABELS if name in priors]
    shape = (len(planes), *example.photo.shape[:2])
    return torch.from_numpy(np.stack(planes)) if planes else torch.empty(shape, dtype=torch.uint8)


def _require(example: Example, priors: Sequence[str]) -> None:
    for name in priors:
        if name not in PRIORS:
            raise DataError(f"there is no prior {name!r}; choose from {', '.join(PRIORS)}")
        if getattr(example, name) is None:
            raise DataError(
                f"{example.id}: the dataset has no {name}; prepare it with --priors {name.removeprefix('sketch_')}"
            )


def _prepared_sketch(example: Example, clean_paper: bool) -> np.ndarray:
    """(H, W) uint8."""
    sketch = flatten_paper(example.sketch) if clean_paper else example.sketch
    if clean_paper and example.saliency is not None:
        sketch = clear_background(sketch, example.saliency)
    return sketch


def _borders(channels: int) -> list[int]:
    """What a white border is in each of stack_channels' planes: white paper, and nobody there."""
    return [255, 255, 255, 255, 0, 0, 0][:channels]


def _canvas(
    planes: Tensor, name: str, framing: str, fill: str, *, labels: bool = False, first: int = 0
) -> Tensor:
    """(C, H, W) uint8 -> what training crops squares from, uint8; plane 0 is stack_channels' plane `first`."""
    if framing == "crop" or not len(planes):
        return planes
    h, w = planes.shape[1:]
    if framing == "pad256" and max(h, w) > SIDE:
        raise DataError(
            f"{name}: {w}x{h} does not fit the framing pad256; prepare the dataset with --align, "
            "or train with --framing resize286"
        )
    values = [0] * len(planes) if labels else _borders(first + len(planes))[first:]
    framed = [
        training_canvas(
            p[None, None].float(), framing, value=float(v) if fill == "white" else None, labels=labels
        )[0]
        for p, v in zip(planes, values, strict=True)
    ]
    return torch.cat(framed).round().byte()


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
