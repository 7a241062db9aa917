"""Batches for training: which pairs a step sees, and how they look, depends on (seed, step) alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import Dataset

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
from silverpoint.data.pairs import Example, StoredExample
from silverpoint.data.paper import clear_background, flatten_paper, press
from silverpoint.errors import DataError

SKIN = ("skin", "ears", "nose", "neck", "lips", "eyebrows")
MAPS = ("saliency", "sketch_saliency", "person")  # priors that are grey values
PICTURES = 4  # planes of photo and sketch, before those of maps
LABELS = ("layout", "sketch_layout")  # priors that are class numbers
PRIORS = (*MAPS, *LABELS)
MEMORY = 4 * 2**30  # bytes of pictures, at most, that are kept


@dataclass
class Batch:
    """Aligned pairs. photo (B, 3, H, W) and sketch (B, 1, H, W) float in [-1, 1]; style (B, S) one-hot float.

    `priors` holds what the method asked for, by name: saliency and sketch_saliency (B, 1, H, W) in [0, 1], of the
    photo and of the sketch; person (B, 1, H, W) in [0, 1], of the photo's saliency and layout together; layout and
    sketch_layout (B, 12, H, W) one-hot float in the order of layout.PARTS.
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


@dataclass
class Planes:
    """What squares are cropped from: images (C, H, W) and labels (N, H, W) uint8, and which priors there were."""

    images: Tensor
    labels: Tensor
    has_person: bool
    has_layout: bool


class Batches(Dataset[Batch]):
    """Training batches of `examples`, as a torch Dataset: item `step` is the Batch of that step of the run.

    A Batch holds photo (B, 3, S, S) and sketch (B, 1, S, S) float in [-1, 1], style (B, styles) one-hot, and the
    `priors` asked for as class Batch describes them; S is the framing's side. It is a pure function of the step, so
    any number of loaders may make them in any order, and a run goes on anywhere:

        DataLoader(batches, batch_size=None, sampler=range(first, last), num_workers=2)

    An epoch is len(batches) steps and shows every example once, over all `ranks` together (a rest that fills no batch
    is left out, another one each epoch). `style_weights` says how often each style is drawn relative to its share.
    `clean_paper` flattens the sketches' sheets and clears what lies behind the person, `style_ink` says to which power
    the ink of a style's sketches is raised (data/paper.py). `framing` and `fill` are of data/framing.py; crop_size is
    of the framing `crop` alone, and a crop may be as large as the picture is when it is enlarged by the augmentation
    and padded to `size_multiple`, the network's. `unpaired` names examples
    whose sketches a batch carries besides; their photos are not read. Examples stay in memory where they take less than
    MEMORY together, unpaired sketches where they take a quarter of it; else they are read from disk each time. Raises
    DataError for an example that lacks a prior or does not fit the framing, and for unpaired sketches of another size
    than the pairs, ImageError for a file that cannot be read: at once, or when it is drawn.
    """

    def __init__(
        self,
        examples: Sequence[Example | StoredExample],
        styles: Sequence[str],
        *,
        batch_size: int,
        crop_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        style_weights: dict[str, float] | None = None,
        clean_paper: bool = False,
        style_ink: dict[str, float] | None = None,
        framing: str = "crop",
        fill: str = "edge",
        size_multiple: int = 1,
        priors: Sequence[str] = (),
        unpaired: Sequence[Example | StoredExample] = (),
        in_memory: bool | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.styles, self.priors = list(styles), tuple(priors)
        self.batch_size, self.augmentation, self.seed = batch_size, augmentation, seed
        self.crop_size = training_side(framing, crop_size)
        self.clean_paper, self.framing, self.fill = clean_paper, framing, fill
        self.style_ink = style_ink or {}
        self.size_multiple = size_multiple
        self.maps = _needed_maps(augmentation, priors)
        self.rank, self.ranks = rank, ranks
        self.ids = [e.id for e in examples]
        self.unpaired_ids = [f"{e.subset}/{e.id}" for e in unpaired]
        self.style_index = [self.styles.index(e.style) for e in examples]
        weights = np.array([(style_weights or {}).get(e.style, 1.0) for e in examples])
        self.shares = weights / weights.sum() * len(examples)  # expected draws per epoch
        self.steps_per_epoch = max(1, len(examples) // (batch_size * ranks))
        self.orders: dict[int, np.ndarray] = {}
        self.examples: list[Example | StoredExample | Planes] = list(examples)
        self.unpaired: list[Example | StoredExample | Tensor] = list(unpaired)
        if unpaired:
            self._refuse_another_size()
        if in_memory is None:
            first = self._planes(0)
            size = first.images.nbytes + first.labels.nbytes
            in_memory = size * len(examples) <= MEMORY
        if in_memory:
            self.examples = [self._planes(i) for i in range(len(examples))]
        if unpaired and self._other(0).nbytes * len(unpaired) <= MEMORY / 4:
            self.unpaired = [self._other(i) for i in range(len(unpaired))]

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        return self.batch(step)

    def _planes(self, index: int) -> Planes:
        stored = self.examples[index]
        if isinstance(stored, Planes):
            return stored
        e = stored.load()
        _require(e, self.priors)
        return Planes(
            self._framed(
                stack_channels(e, self.maps, self.clean_paper, self.style_ink.get(e.style, 1.0)), e.id
            ),
            self._framed(stack_labels(e, self.priors), e.id, labels=True),
            e.person is not None,
            e.layout is not None,
        )

    def _other(self, index: int) -> Tensor:
        """One of the unpaired sketches, (1, H, W) uint8."""
        stored = self.unpaired[index]
        if isinstance(stored, Tensor):
            return stored
        sketch = stored.load_sketch()
        sketch = flatten_paper(sketch) if self.clean_paper else sketch
        return self._framed(torch.from_numpy(sketch[None].copy()), stored.id)

    def _framed(self, planes: Tensor, name: str, *, labels: bool = False) -> Tensor:
        """What squares are cropped from. Beyond what is enlarged and padded, a square would be the edge repeated."""
        h, w = planes.shape[1:]
        least = min(h + -h % self.size_multiple, w + -w % self.size_multiple) + 2 * self.augmentation.shift
        if self.framing == "crop" and self.crop_size > least * self.augmentation.scale[1]:
            raise DataError(
                f"{name}: is {w}x{h}, too small for squares of {self.crop_size}; prepare the dataset larger, "
                "e.g. with --align face192, or train with a smaller --crop_size"
            )
        return _canvas(planes, name, self.framing, self.fill, labels=labels)

    def _refuse_another_size(self) -> None:
        (h, w), (tall, wide) = self._planes(0).images.shape[1:], self._other(0).shape[1:]
        if (h, w) != (tall, wide):
            raise DataError(
                f"{self.unpaired[0].id}: is {wide}x{tall}, the pairs {w}x{h}; "  # type: ignore[union-attr]
                "prepare both with the same --align"
            )

    def _epoch_order(self, epoch: int) -> np.ndarray:
        order = self.orders.get(epoch)
        if order is None:
            rng = np.random.default_rng((self.seed, epoch))
            draws = np.floor(self.shares + rng.random(len(self.shares))).astype(int)
            order = rng.permutation(np.repeat(np.arange(len(draws)), draws))
            order = np.resize(order, self.steps_per_epoch * self.batch_size * self.ranks)
            # loaders ahead of each other ask for two epochs at once
            self.orders = {e: o for e, o in self.orders.items() if abs(e - epoch) == 1} | {epoch: order}
        return order

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
        planes = self._planes(index)
        images, labels = planes.images, planes.labels
        where = draw_crop(images.shape[1], images.shape[2], self.crop_size, a, generator)
        crop = take_crop(images, where).div_(255)  # in place: a batch is made as fast as memory is written
        photo, sketch = crop[:3], crop[3:PICTURES]
        row = {name: crop[PICTURES + i][None] for i, name in enumerate(self.maps)}
        if len(labels):
            numbers = take_crop(labels, where, labels=True)
            asked = [name for name in LABELS if name in self.priors]
            row |= {name: one_hot(n) for name, n in zip(asked, numbers, strict=True)}
        if planes.has_layout and uniform(0, 1, generator) < a.skin:
            photo = darken_skin(photo, row["skin"], generator)
        if planes.has_person and uniform(0, 1, generator) < a.background:
            behind = self._planes(int(uniform(0, len(self.examples) - 1e-6, generator)))
            place = PICTURES + self.maps.index("person")
            other, around = behind.images[:3].float() / 255, behind.images[place][None].float() / 255
            photo = replace_background(photo, row["person"], background_alone(other, around), generator)
        if uniform(0, 1, generator) < a.tone:
            photo = change_tone(photo, generator)
        return row | {"photo": photo.mul_(2).sub_(1), "sketch": sketch.mul_(2).sub_(1)}

    def _unpaired(self, step: int) -> Tensor:
        """Each of the other sketches once before any comes again, in an order of their own."""
        count, crops = len(self.unpaired), []
        for draw in self._draws(step):
            turn, place = divmod(draw, count)
            image = self._other(_permutation(count, self.seed, turn)[place])
            generator = _generator(self.seed, draw, 1)
            where = draw_crop(image.shape[1], image.shape[2], self.crop_size, self.augmentation, generator)
            crops.append(take_crop(image, where) / 255)
        return torch.stack(crops) * 2 - 1


def still(
    example: Example,
    styles: Sequence[str],
    *,
    priors: Sequence[str] = (),
    framing: str = "crop",
    fill: str = "edge",
    multiple: int = 1,
    border: int = 0,
) -> tuple[Batch, Callable[[Tensor], Tensor]]:
    """One example as synthesis sees it, unmoved, and the function that takes the result to the picture's size.

    `multiple` is the network's size_multiple, `border` what lies around a whole picture at least, in pixels. Raises
    DataError when the example lacks a prior.
    """

    _require(example, priors)

    def place(planes: Tensor, labels: bool = False) -> Tensor:
        framed = [
            frame(plane[None, None].float(), framing, multiple, value=value, labels=labels, border=border)[0]
            for plane, value in zip(planes, _borders(len(planes), fill, labels), strict=True)
        ]
        return torch.cat(framed, 1)

    maps = tuple(name for name in MAPS if name in priors)
    images = place(stack_channels(example, maps))
    found = {name: images[:, PICTURES + i][:, None] / 255 for i, name in enumerate(maps)}
    numbers = stack_labels(example, priors)
    if len(numbers):
        asked = [name for name in LABELS if name in priors]
        found |= {n: one_hot(x)[None] for n, x in zip(asked, place(numbers, labels=True)[0], strict=True)}
    style = torch.zeros(1, len(styles))
    style[0, list(styles).index(example.style)] = 1
    batch = Batch(
        images[:, :3] / 127.5 - 1,
        images[:, 3:PICTURES] / 127.5 - 1,
        style,
        [example.id],
        {name: found[name] for name in priors},
    )
    _, undo = frame(torch.empty(1, 1, *example.photo.shape[:2]), framing, multiple, border=border)
    return batch, undo


def one_hot(numbers: Tensor) -> Tensor:
    """(H, W) numbers of PARTS -> (12, H, W) float."""
    return F.one_hot(numbers.long(), len(PARTS)).permute(2, 0, 1).float()


def soft_mask(layout: np.ndarray) -> np.ndarray:
    """Where the skin is, without hard edges: (H, W) uint8."""
    return np.asarray(Image.fromarray(part_mask(layout, *SKIN)).filter(ImageFilter.GaussianBlur(1.5)))


def stack_channels(
    example: Example, maps: Sequence[str] = (), clean_paper: bool = False, ink: float = 1.0
) -> Tensor:
    """(4 + maps, H, W) uint8: photo RGB, sketch, and maps by name: skin (0 where there is no layout), or one of
    MAPS (255 where there is none).
    """
    sketch = press(_prepared_sketch(example, clean_paper), ink)
    planes = [*example.photo.transpose(2, 0, 1), sketch]
    for name in maps:
        if name == "skin":
            planes.append(np.zeros_like(sketch) if example.layout is None else soft_mask(example.layout))
        else:
            found = getattr(example, name)
            planes.append(np.full_like(sketch, 255) if found is None else found)
    return torch.from_numpy(np.stack(planes))


def stack_labels(example: Example, priors: Sequence[str]) -> Tensor:
    """(N, H, W) uint8 numbers of PARTS: the layouts that `priors` asks for, in the order of LABELS."""
    planes = [getattr(example, name) for name in LABELS if name in priors]
    shape = (len(planes), *example.photo.shape[:2])
    return torch.from_numpy(np.stack(planes)) if planes else torch.empty(shape, dtype=torch.uint8)


def _needed_maps(a: Augmentation, priors: Sequence[str]) -> tuple[str, ...]:
    """What a crop carries besides its pictures: what the priors ask for, and what the augmentation goes by."""
    needed = {name: name in priors for name in MAPS} | {"skin": a.skin > 0}
    needed["person"] |= a.background > 0
    return tuple(name for name, wanted in needed.items() if wanted)


def _require(example: Example, priors: Sequence[str]) -> None:
    for name in priors:
        if name not in PRIORS:
            raise DataError(f"there is no prior {name!r}; choose from {', '.join(PRIORS)}")
        if getattr(example, name) is None:
            kinds = "saliency layout" if name == "person" else name.removeprefix("sketch_")
            raise DataError(f"{example.id}: the dataset has no {name}; prepare it with --priors {kinds}")


def _prepared_sketch(example: Example, clean_paper: bool) -> np.ndarray:
    """(H, W) uint8."""
    if not clean_paper:
        return example.sketch
    sketch = flatten_paper(example.sketch)
    if example.person is not None:
        sketch = clear_background(sketch, example.person)
    return sketch


def _borders(planes: int, fill: str, labels: bool) -> list[float | None]:
    """What lies around each plane: white paper around pictures, nobody around maps and labels; None is the edge."""
    if fill == "edge":
        return [None] * planes
    return [255.0 if place < PICTURES and not labels else 0.0 for place in range(planes)]


def _canvas(planes: Tensor, name: str, framing: str, fill: str, *, labels: bool = False) -> Tensor:
    """(C, H, W) uint8 -> what training crops squares from, uint8."""
    if framing == "crop" or not len(planes):
        return planes
    h, w = planes.shape[1:]
    if framing == "pad256" and max(h, w) > SIDE:
        raise DataError(
            f"{name}: {w}x{h} does not fit the framing pad256; prepare the dataset with --align cufs, "
            "or train with --framing resize286"
        )
    framed = [
        training_canvas(plane[None, None].float(), framing, value=value, labels=labels)[0]
        for plane, value in zip(planes, _borders(len(planes), fill, labels), strict=True)
    ]
    return torch.cat(framed).round().byte()


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng((seed, turn, 1)).permutation(count)


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
