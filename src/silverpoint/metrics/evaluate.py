"""A set of images to one report: what `silverpoint evaluate` writes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from silverpoint import __version__
from silverpoint.errors import DataError, ImageError
from silverpoint.metrics.folders import (
    Images,
    Pairing,
    by_folder,
    images_by_stem,
    pair_folders,
    size_text,
)
from silverpoint.metrics.images import CROP_HEIGHT, CROP_WIDTH, Geometry
from silverpoint.metrics.measure import (
    DISTRIBUTION,
    NETWORK_ASSETS,
    OF_FACES,
    Measurements,
    checksum,
    distribution_distances,
    match_report,
    measure,
    summarise,
)
from silverpoint.metrics.reference import Reference
from silverpoint.metrics.rivals import rivals
from silverpoint.metrics.store import Store
from silverpoint.recognition import EMBEDDERS, ranks
from silverpoint.scores import METRICS

Folder = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]  # what is measured, pairs done since the last call, of how many


@dataclass(frozen=True)
class Options:
    """How everything in one report is measured alike."""

    geometry: Geometry = "200x250"
    fill: float = 0.0
    colour: bool = False
    metrics: tuple[str, ...] = METRICS
    embedder: str = "lightcnn"
    false_accept_rate: float = 1e-3
    device: str = "cpu"
    store: Store = field(default_factory=Store)  # of this report alone, unless it has a folder
    progress: Progress | None = None

    def measure(self, what: str, fake: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> Measurements:
        return measure(
            fake,
            real,
            geometry=self.geometry,
            fill=self.fill,
            metrics=self.metrics,
            embedder=self.embedder,
            device=self.device,
            store=self.store,
            progress=self._progress(what, len(real)),
        )

    def summarise(self, found: Measurements, subset: Sequence[int] | None = None) -> dict[str, Any]:
        return summarise(found, subset, false_accept_rate=self.false_accept_rate)

    def _progress(self, what: str, total: int) -> Callable[[int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done: progress(what, done, total)


@dataclass(frozen=True)
class Floors:
    """What rivals and real training images score against one reference, in all and, under `subsets`, in each of its
    subsets: the same for every method."""

    rivals: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    real_to_input: dict[str, Any] | None = None  # real images looked up among the inputs
    input_faces: np.ndarray | None = None

    def of(self, part: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
        """The rivals' reports and the training images', of `all` or of a subset."""
        if part == "all":
            return self.rivals, self.training
        rivals = {name: report["subsets"][part] for name, report in self.rivals.items()}
        return rivals, None if self.training is None else self.training["subsets"].get(part)


def evaluate(
    fake: Folder,
    real: Folder,
    options: Options | None = None,
    *,
    photos: Folder | None = None,
    train: Folder | None = None,
    train_photos: Folder | None = None,
    floors: bool = True,
) -> dict[str, Any]:
    """Score the images of one folder against those of another with the same stems.

    The report is `evaluate_images`'s; `missing` names what one side lacks, `failed` the pairs that cannot be
    scored and why. `photos` are the inputs, `train` the real images of the training set and `train_photos` its
    inputs, each by stem: they give the floors. Images are read as grey unless `options.colour`. Raises DataError
    if no pair can be scored, or if an input is missing.
    """
    options = options or Options()
    pairing, failed = _scorable(pair_folders(Path(fake), Path(real)), options.geometry)
    reference = Reference(
        pairing.stems,
        Images(pairing.real, options.colour),
        pairing.subsets(),
        None if photos is None else _named(Path(photos), pairing, options),
        *_training(train, train_photos, options.colour),
    )
    known = measure_floors(reference, options) if floors else None
    report = evaluate_images(Images(pairing.fake, options.colour), reference, options, known)
    report["fake"], report["real"] = str(fake), str(real)
    report["missing"] = {"fake": list(pairing.missing_fake), "real": list(pairing.missing_real)}
    report["failed"] = failed
    return report


def evaluate_images(
    fake: Sequence[np.ndarray], reference: Reference, options: Options, floors: Floors | None = None
) -> dict[str, Any]:
    """Score fakes against a reference, position by position.

    The report has `summarise`'s keys for all pairs and, where there are several, again for each of the
    `subsets`. `floors` are what the rivals of rivals.py score, `ceilings` what real training images do, each with
    its `subsets`; `networks` the sha256 of each network used, `images` every pair's values.
    """
    floors = floors or Floors()
    found = options.measure("images", reference.like_real(fake), reference.real)
    report = options.summarise(found)
    if floors.input_faces is not None and found.fake_faces is not None:
        scores = found.fake_faces.astype(np.float64) @ floors.input_faces.astype(np.float64).T
        report["identity"]["fake_to_input"] = match_report(ranks(scores), len(scores))
        report["identity"]["real_to_input"] = floors.real_to_input
    report["subsets"] = {name: options.summarise(found, where) for name, where in reference.subsets.items()}
    report["floors"], report["floors_absent"] = floors.rivals, floors.absent
    report["ceilings"] = {} if floors.training is None else {"training": floors.training}
    report["colour"] = options.colour
    report["fill"] = options.fill if options.geometry == "padded256" else None
    report["networks"], report["silverpoint"] = _networks(report, options), __version__
    report["images"] = _per_image(reference.names, found)
    report["missing"], report["failed"] = {"fake": [], "real": []}, {}
    return report


def measure_floors(reference: Reference, options: Options) -> Floors:
    """Every rival scored as a method is, and the real training images against the real test images."""
    contenders, absent = rivals(reference)
    scored, real_to_input, input_faces = {}, None, None
    for name, pictures in contenders.items():
        found = options.measure(name, pictures, reference.real)
        subsets = {part: options.summarise(found, where) for part, where in reference.subsets.items()}
        scored[name] = options.summarise(found) | {"subsets": subsets}
        if name == "input" and found.fake_faces is not None and found.real_faces is not None:
            input_faces = found.fake_faces
            scores = found.real_faces.astype(np.float64) @ input_faces.astype(np.float64).T
            real_to_input = match_report(ranks(scores), len(scores))
    return Floors(scored, absent, _training_ceiling(reference, options), real_to_input, input_faces)


def _training_ceiling(reference: Reference, options: Options) -> dict[str, Any] | None:
    """FID and KID of real training images against real test images: no method can be asked for less."""
    asked = tuple(name for name in DISTRIBUTION if name in options.metrics)
    if reference.training is None or not asked:
        return None
    only = replace(options, metrics=asked)
    report: dict[str, Any] = {"fid": None, "kid": None, "kid_error": None}
    about: dict[str, Any] = {"n": len(reference.training), "against": len(reference.real), "subsets": {}}
    try:
        theirs = only.measure("training", reference.training, reference.training)
    except ValueError as error:  # of a size that the geometry has no room for
        return {**report, "reasons": dict.fromkeys(asked, str(error)), **about}
    ours = only.measure("training", reference.real, reference.real)
    if theirs.real_features is None or ours.real_features is None:
        return {**report, "reasons": theirs.reasons, **about}
    for part in reference.subsets.keys() & reference.training_subsets.keys():
        known, where = reference.training_subsets[part], reference.subsets[part]
        distances = distribution_distances(theirs.real_features[known], ours.real_features[where])
        about["subsets"][part] = {**distances, "n": len(known), "against": len(where)}
    return {**distribution_distances(theirs.real_features, ours.real_features), **about}


def _scorable(pairing: Pairing, geometry: Geometry) -> tuple[Pairing, dict[str, str]]:
    """The pairs whose two files can be read and whose sizes fit, and why the others cannot be scored."""
    failed: dict[str, str] = {}
    for stem, fake, real in zip(pairing.stems, pairing.fake, pairing.real, strict=True):
        try:
            ours, theirs = (Images([path])[0] for path in (fake, real))
        except ImageError as error:
            failed[stem] = str(error)
            continue
        if ours.shape != theirs.shape:
            failed[stem] = f"{fake} is {size_text(ours)}, {real} is {size_text(theirs)}"
        elif geometry != "native" and ours.shape != (CROP_HEIGHT, CROP_WIDTH):
            failed[stem] = (
                f"{fake} is {size_text(ours)}, geometry {geometry} scores {CROP_WIDTH}x{CROP_HEIGHT}; "
                "undo the padding or resizing, or use geometry native"
            )
    kept = [position for position, stem in enumerate(pairing.stems) if stem not in failed]
    if not kept:
        raise DataError(f"no pair can be scored; {next(iter(failed.values()))}")
    return pairing.only(kept), failed


def _named(folder: Path, pairing: Pairing, options: Options) -> Images:
    """The images of `folder` with the stems of the pairs, in their order."""
    found = images_by_stem(folder)
    if missing := [stem for stem in pairing.stems if stem not in found]:
        raise DataError(f"{folder}: holds no image named {missing[0]} ({len(missing)} are missing)")
    as_fakes = replace(pairing, fake=tuple(found[stem] for stem in pairing.stems))
    _, failed = _scorable(as_fakes, options.geometry)
    if failed:
        raise DataError(f"{folder}: {next(iter(failed.values()))}")
    return Images(as_fakes.fake, options.colour)


def _training(
    train: Folder | None, train_photos: Folder | None, colour: bool
) -> tuple[Images | None, Images | None, dict[str, list[int]]]:
    """The real images, their inputs, and the positions in each subfolder."""
    if train is None:
        return None, None, {}
    found = images_by_stem(Path(train))
    if train_photos is None:
        return Images(list(found.values()), colour), None, by_folder(found)
    inputs = images_by_stem(Path(train_photos))
    both = [stem for stem in found if stem in inputs]
    if not both:
        raise DataError(f"{train} and {train_photos} share no file name")
    images, photos = (Images([side[stem] for stem in both], colour) for side in (found, inputs))
    return images, photos, by_folder(both)


def _networks(report: dict[str, Any], options: Options) -> dict[str, str]:
    """The sha256 of every network that a number of the report came from."""
    known = NETWORK_ASSETS | dict.fromkeys(OF_FACES, (EMBEDDERS[options.embedder].asset,))
    used = [name for name in options.metrics if report[name] is not None]
    return {network: checksum(network) for name in used for network in known.get(name, ())}


def _per_image(names: Sequence[str], found: Measurements) -> dict[str, dict[str, float | None]]:
    """Every pair's values and, where faces were embedded, the rank of its real image's mate and their cosine."""
    columns: dict[str, Sequence[float]] = {name: list(values) for name, values in found.per_image.items()}
    if found.fake_faces is not None and found.real_faces is not None:
        scores = found.real_faces.astype(np.float64) @ found.fake_faces.astype(np.float64).T
        columns |= {"rank": ranks(scores).tolist(), "likeness": scores.diagonal().tolist()}
    return {
        name: {
            key: values[position] if np.isfinite(values[position]) else None
            for key, values in columns.items()
        }
        for position, name in enumerate(names)
    }
