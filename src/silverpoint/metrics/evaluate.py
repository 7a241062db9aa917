"""Two folders of images to one report: what `silverpoint evaluate` writes."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from silverpoint.errors import DataError, ImageError
from silverpoint.metrics.folders import Images, Pairing, images_by_stem, pair_folders
from silverpoint.metrics.images import CROP_HEIGHT, CROP_WIDTH, Geometry
from silverpoint.metrics.measure import METRICS, Measurements, measure, summarise

NETWORK_ASSETS = {
    "lpips_alex": ("lpips-alexnet", "lpips-heads"),
    "lpips_vgg": ("lpips-vgg16", "lpips-heads"),
    "lpips_squeeze": ("lpips-heads",),
    "fid": ("inception-fid",),
    "kid": ("inception-fid",),
}


def evaluate(
    fake: str | os.PathLike[str],
    real: str | os.PathLike[str],
    *,
    photos: str | os.PathLike[str] | None = None,
    geometry: Geometry = "200x250",
    fill: float = 0.0,
    colour: bool = False,
    metrics: Iterable[str] = METRICS,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Score the images of one folder against those of another with the same stems.

    The report has `summarise`'s keys for all pairs and, where the pairs lie in several subfolders, again for
    each of these under `subsets`. `missing` names what one side lacks, `failed` the pairs that cannot be
    scored and why, `images` holds every pair's values, `networks` the sha256 of each network used. `photos`
    adds what the photographs themselves score as `floors["photo"]`: a method that does not beat it has done
    nothing. Images are read as grey unless `colour`. Raises DataError if no pair can be scored.
    """
    metrics = tuple(metrics)
    pairing, failed = _scorable(pair_folders(Path(fake), Path(real)), geometry)
    options: dict[str, Any] = {"geometry": geometry, "fill": fill, "metrics": metrics, "device": device}
    found = measure(Images(pairing.fake, colour), Images(pairing.real, colour), progress=progress, **options)
    report = summarise(found)
    report["subsets"] = {name: summarise(found, where) for name, where in pairing.subsets().items()}
    report["floors"] = {}
    if photos is not None:
        report["floors"]["photo"] = _photo_floor(Path(photos), pairing, colour, options)
    report["fake"], report["real"] = str(fake), str(real)
    report["colour"], report["fill"] = colour, fill if geometry == "padded256" else None
    report["missing"] = {"fake": list(pairing.missing_fake), "real": list(pairing.missing_real)}
    report["failed"] = failed
    report["networks"] = _networks(report, metrics)
    report["images"] = _per_image(pairing.stems, found)
    return report


def _scorable(pairing: Pairing, geometry: Geometry) -> tuple[Pairing, dict[str, str]]:
    """The pairs whose two files can be read and whose sizes fit, and why the others cannot be scored."""
    failed: dict[str, str] = {}
    for stem, fake, real in zip(pairing.stems, pairing.fake, pairing.real, strict=True):
        try:
            size, other = (Images([path])[0].shape for path in (fake, real))
        except ImageError as error:
            failed[stem] = str(error)
            continue
        if size != other:
            failed[stem] = f"{fake} is {_size(size)}, {real} is {_size(other)}"
        elif geometry != "native" and size != (CROP_HEIGHT, CROP_WIDTH):
            failed[stem] = (
                f"{fake} is {_size(size)}, geometry {geometry} scores {CROP_WIDTH}x{CROP_HEIGHT}; "
                "undo the padding or resizing, or use geometry native"
            )
    kept = [position for position, stem in enumerate(pairing.stems) if stem not in failed]
    if not kept:
        raise DataError(f"no pair can be scored; {next(iter(failed.values()))}")
    return pairing.only(kept), failed


def _photo_floor(folder: Path, pairing: Pairing, colour: bool, options: dict[str, Any]) -> dict[str, Any]:
    photos = images_by_stem(folder)
    shown = pairing.only([position for position, stem in enumerate(pairing.stems) if stem in photos])
    if not shown.stems:
        raise DataError(f"{folder}: holds no photo named like {pairing.fake[0]}")
    as_fakes = replace(shown, fake=tuple(photos[stem] for stem in shown.stems))
    as_fakes, failed = _scorable(as_fakes, options["geometry"])
    report = summarise(measure(Images(as_fakes.fake, colour), Images(as_fakes.real, colour), **options))
    report["failed"] = failed
    return report


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _networks(report: dict[str, Any], metrics: Iterable[str]) -> dict[str, str]:
    from silverpoint.assets import ASSETS

    used = [name for name in metrics if report[name] is not None and name in NETWORK_ASSETS]
    return {asset: ASSETS[asset].sha256 for name in used for asset in NETWORK_ASSETS[name]}


def _per_image(stems: Sequence[str], found: Measurements) -> dict[str, dict[str, float | None]]:
    rows = {}
    for position, stem in enumerate(stems):
        values = {name: float(column[position]) for name, column in found.per_image.items()}
        rows[stem] = {name: value if np.isfinite(value) else None for name, value in values.items()}
    return rows
