"""Folders of images, paired by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from silverpoint.errors import DataError
from silverpoint.image import read_image, to_grey

T = TypeVar("T")

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Every image under `folder` by its path inside it without the suffix (`CUHK/f-005-01`), sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        stem = inside.with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{path}: has the same name as {found[stem].name}; keep one of them")
        found[stem] = path
    if not found:
        raise DataError(f"{folder}: holds no images ({' '.join(sorted(SUFFIXES))})")
    return found


def by_folder(stems: Iterable[str]) -> dict[str, list[int]]:
    """Positions of the stems by the folder they lie in."""
    found: dict[str, list[int]] = {}
    for position, stem in enumerate(stems):
        found.setdefault(stem.rpartition("/")[0], []).append(position)
    return found


@dataclass(frozen=True)
class Pairing:
    """Images of two folders whose stems agree, and what is missing on either side."""

    stems: tuple[str, ...]
    fake: tuple[Path, ...]
    real: tuple[Path, ...]
    missing_fake: tuple[str, ...]
    missing_real: tuple[str, ...]

    def subsets(self) -> dict[str, list[int]]:
        """Positions of the pairs by the folder they lie in; empty unless the pairs lie in several."""
        found = by_folder(self.stems)
        return found if len(found) > 1 else {}

    def only(self, positions: Sequence[int]) -> "Pairing":
        def pick(items: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(items[position] for position in positions)

        return replace(self, stems=pick(self.stems), fake=pick(self.fake), real=pick(self.real))


def pair_folders(fake: Path, real: Path) -> Pairing:
    fakes, reals = images_by_stem(fake), images_by_stem(real)
    stems = tuple(stem for stem in fakes if stem in reals)
    if not stems:
        example, other = next(iter(fakes)), next(iter(reals))
        raise DataError(f"{fake} and {real} share no file name: {example} in one, {other} in the other")
    return Pairing(
        stems,
        tuple(fakes[stem] for stem in stems),
        tuple(reals[stem] for stem in stems),
        tuple(stem for stem in reals if stem not in fakes),
        tuple(stem for stem in fakes if stem not in reals),
    )


def size_text(image: np.ndarray) -> str:
    """Width x height of an image (H, W) or (H, W, 3), as people say it."""
    return f"{image.shape[1]}x{image.shape[0]}"


class Images(Sequence[np.ndarray]):
    """The files as uint8 images, read one at a time: grey (H, W), or (H, W, 3) RGB."""

    def __init__(self, paths: Sequence[Path], colour: bool = False) -> None:
        self.paths = tuple(paths)
        self.colour = colour

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Images": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Images":
        if isinstance(index, slice):
            return Images(self.paths[index], self.colour)
        image = read_image(self.paths[index])
        return image if self.colour else to_grey(image)
