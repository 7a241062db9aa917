"""Priors of a face: what is computed once from each picture and kept beside it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from silverpoint.data.pairs import Example
from silverpoint.errors import UsageError
from silverpoint.faces.layout import parse, part_mask
from silverpoint.faces.saliency import saliency

KINDS = ("saliency", "layout")
ASSET = {"saliency": "u2netp", "layout": "bisenet"}
REVISION = {"saliency": 1, "layout": 1}  # to be raised when what is done around the network changes
# A portrait shows at least these, each on this part of the picture or more; a parser that finds less has failed.
SHOWN = {"skin": 0.03, "hair": 0.005, "nose": 0.001, "lips": 0.0005}


def version(kind: str) -> str:
    """What a stored prior depends on besides its picture: the network's weights, and how they are used."""
    if kind not in KINDS:
        raise UsageError(f"there is no prior {kind!r}; choose from {', '.join(KINDS)}")
    from silverpoint.assets import ASSETS

    return f"{ASSET[kind]}-{ASSETS[ASSET[kind]].sha256[:8]}.{REVISION[kind]}"


def fetch_network(kind: str) -> None:
    """Have the network of a prior in the cache before pictures wait for it; AssetError where it cannot be had."""
    from silverpoint.assets import fetch

    fetch(ASSET[kind])


def predictor(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from a (H, W, 3) uint8 picture to its prior, (H, W) uint8.

    It computes on one thread: pairs are shared out to processes.
    """
    return partial({"saliency": saliency, "layout": parse}[kind], threads=1)


def completed(example: Example, names: Sequence[str]) -> Example:
    """The example with those of the priors `names` that it lacks, as `prepare` makes a test pair's.

    Raises AssetError when the network of a prior cannot be had.
    """
    for name in names:
        if getattr(example, name) is None:
            kind = name.removeprefix("sketch_")
            picture = example.photo if name == kind else np.stack([example.sketch] * 3, -1)
            example = replace(example, **{name: predictor(kind)(picture)})  # type: ignore[arg-type]
    return example


def sketch_prior(kind: str, sketch: np.ndarray, of_photo: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """The prior of a sketch (H, W), and whether it is one.

    The networks were trained on photographs. Where the parser misses what every portrait shows, or disagrees with the
    photo on most of the face, its answer is noise. Without a photo's (None) nothing can be held against it.
    """
    found = predictor(kind)(np.stack([sketch] * 3, -1))
    return found, of_photo is None or kind != "layout" or parsed(found, of_photo)


def parsed(layout: np.ndarray, of_photo: np.ndarray) -> bool:
    """Whether a sketch's layout (H, W) is one, judged by itself and by its photo's."""
    face = ("skin", "eyebrows", "eyes", "glasses", "nose", "inner_mouth", "lips")
    for part, least in SHOWN.items():
        photo_share = float((part_mask(of_photo, part) > 0).mean())
        if photo_share >= least and float((part_mask(layout, part) > 0).mean()) < least / 2:
            return False
    ours, theirs = part_mask(layout, *face) > 0, part_mask(of_photo, *face) > 0
    either = float((ours | theirs).sum())
    return either == 0 or float((ours & theirs).sum()) / either >= 0.5
