"""What fakes are held against: n real images, and what their floors are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from silverpoint.data.pairs import Example, list_split, read_rows
from silverpoint.errors import DataError
from silverpoint.image import to_grey
from silverpoint.metrics.folders import Images, images_by_stem

Pictures = Sequence[np.ndarray]


@dataclass(frozen=True)
class Reference:
    """Real images by name, the inputs they belong to, and the training set: each a sequence of uint8 images.

    `subsets` gives positions by name; empty when there is only one.
    """

    names: tuple[str, ...]
    real: Pictures
    subsets: dict[str, list[int]] = field(default_factory=dict)
    inputs: Pictures | None = None
    training: Pictures | None = None  # real images of the training pairs
    training_inputs: Pictures | None = None  # and what they were drawn from, in the same order

    def only(self, positions: Sequence[int]) -> "Reference":
        """The reference of some positions; the training set stays."""
        place = {position: index for index, position in enumerate(positions)}
        subsets = {
            name: kept
            for name, members in self.subsets.items()
            if (kept := [place[position] for position in members if position in place])
        }
        inputs = None if self.inputs is None else [self.inputs[i] for i in positions]
        return Reference(
            tuple(self.names[i] for i in positions),
            [self.real[i] for i in positions],
            subsets if len(subsets) > 1 else {},
            inputs,
            self.training,
            self.training_inputs,
        )

    def like_real(self, images: Pictures) -> list[np.ndarray]:
        """One image for each real one: grey where that is grey, in three channels where that has three."""
        found = []
        for image, real in zip(images, self.real, strict=True):
            grey = image if image.ndim == 2 else to_grey(image)
            if real.ndim == 2:
                found.append(grey)
            else:
                found.append(image if image.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2))
        return found


def reference_of_split(
    dataset: Path, split: str = "test", subset: str | None = None, direction: str = "photo2sketch"
) -> tuple[Reference, list[Example]]:
    """A split of a dataset folder as a reference named by id, and its examples in the same order.

    The training set is the pairs of `train` and, unless it is the split in question, `val`, of the same subset.
    Raises DataError when the folder holds no such pairs.
    """
    examples = [stored.load() for stored in list_split(dataset, split, subset)]
    subsets: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        subsets.setdefault(example.subset, []).append(position)
    splits = {row["split"] for row in read_rows(dataset) if subset in (None, row["subset"])}
    known = [s for s in ("train", "val") if s != split and s in splits] if split != "train" else []
    training = [stored.load() for name in known for stored in list_split(dataset, name, subset)]
    to_sketch = direction == "photo2sketch"
    results, sources = (
        [[e.sketch if sketch else e.photo for e in side] for side in (examples, training)]
        for sketch in (to_sketch, not to_sketch)
    )
    reference = Reference(
        tuple(example.id for example in examples),
        results[0],
        subsets if len(subsets) > 1 else {},
        sources[0],
        results[1] or None,
        sources[1] or None,
    )
    return reference, examples


def fakes_by_name(folder: Path, names: Sequence[str], colour: bool) -> dict[int, np.ndarray]:
    """The images of a folder whose names, with or without subfolders, are those of a reference: by position.

    Raises DataError when there are none.
    """
    found = images_by_stem(folder)
    by_name = {stem.rpartition("/")[2]: path for stem, path in found.items()} | found
    chosen = {position: by_name[name] for position, name in enumerate(names) if name in by_name}
    if not chosen:
        raise DataError(f"{folder}: holds no image named like the dataset's ids, {names[0]} for one")
    return {position: Images([path], colour)[0] for position, path in chosen.items()}
