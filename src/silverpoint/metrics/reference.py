"""What fakes are held against: n real images, and what their floors are made from."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from silverpoint.data.pairs import Example, list_split, read_rows
from silverpoint.errors import DataError, ImageError
from silverpoint.image import to_grey
from silverpoint.metrics.folders import Images, images_by_stem, size_text

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
    training_subsets: dict[str, list[int]] = field(default_factory=dict)  # their positions

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
            self.training_subsets,
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
    dataset: Path,
    split: str = "test",
    subset: str | None = None,
    direction: str = "photo2sketch",
    *,
    training: bool = True,
) -> tuple[Reference, list[Example]]:
    """A split of a dataset folder as a reference, and its examples in the same order.

    Names are ids; subset/id where several subsets of the split have the id. The training set, read unless `training`
    is false, is the pairs of `train` and, unless it is the split in question, `val`, of the same subset. Raises
    DataError when the folder holds no such pairs.
    """
    examples = [stored.load() for stored in list_split(dataset, split, subset)]
    splits = {row["split"] for row in read_rows(dataset) if subset in (None, row["subset"])}
    known = (
        [s for s in ("train", "val") if s != split and s in splits] if training and split != "train" else []
    )
    trained = [stored.load() for name in known for stored in list_split(dataset, name, subset)]
    subsets, training_subsets = _by_subset(examples), _by_subset(trained)
    to_sketch = direction == "photo2sketch"
    results, sources = (
        [[e.sketch if sketch else e.photo for e in side] for side in (examples, trained)]
        for sketch in (to_sketch, not to_sketch)
    )
    owners = Counter(e.id for e in examples)
    reference = Reference(
        tuple(e.id if owners[e.id] == 1 else f"{e.subset}/{e.id}" for e in examples),
        results[0],
        subsets if len(subsets) > 1 else {},
        sources[0],
        results[1] or None,
        sources[1] or None,
        training_subsets,
    )
    return reference, examples


def _by_subset(examples: Sequence[Example]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        found.setdefault(example.subset, []).append(position)
    return found


def fakes_of(
    folder: Path, reference: Reference, examples: Sequence[Example], colour: bool
) -> tuple[dict[int, np.ndarray], dict[str, str]]:
    """The images of a folder that belong to a dataset's examples, by position; by name, why others cannot be scored.

    They are named subset/id; where none is, id, with or without subfolders. Raises DataError when there are none,
    and where an id alone may mean several examples or several files.
    """
    found = images_by_stem(folder)
    images, failed = {}, {}
    for position, stem in _stems(folder, found, examples).items():
        name, real = reference.names[position], reference.real[position]
        try:
            image = Images([found[stem]], colour)[0]
        except ImageError as error:
            failed[name] = str(error)
            continue
        if image.shape[:2] == real.shape[:2]:
            images[position] = image
        else:
            failed[name] = (
                f"{found[stem]} is {size_text(image)}, the dataset's is {size_text(real)}; "
                "undo the padding or resizing"
            )
    return images, failed


def _stems(folder: Path, stems: Iterable[str], examples: Sequence[Example]) -> dict[int, str]:
    """Which file is each example's, by position."""
    known, by_id, owners = set(stems), defaultdict(list), defaultdict(list)
    exact = {at: name for at, e in enumerate(examples) if (name := f"{e.subset}/{e.id}") in known}
    if exact:
        return exact
    for stem in stems:
        by_id[stem.rpartition("/")[2]].append(stem)
    for at, example in enumerate(examples):
        owners[example.id].append(at)
    chosen = {}
    for name, places in owners.items():
        files = [name] if name in known else by_id[name]
        if len(files) > 1 or (files and len(places) > 1):
            mine = " or ".join(f"{examples[at].subset}/{name}" for at in places)
            raise DataError(
                f"{folder}: {' and '.join(files)} may be of {mine}; name the images <subset>/<id>"
            )
        if files:
            chosen[places[0]] = files[0]
    if not chosen:
        raise DataError(f"{folder}: holds no image named like the dataset's ids, {examples[0].id} for one")
    return chosen
