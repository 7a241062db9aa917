"""All metrics in one pass over a set of image pairs, and the report of them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from silverpoint.errors import AssetError
from silverpoint.metrics.fid import fid
from silverpoint.metrics.fsim import fsim, fsimc
from silverpoint.metrics.images import Geometry, to_geometry
from silverpoint.metrics.inception_features import inception_features, load_inception
from silverpoint.metrics.kid import kid
from silverpoint.metrics.lpips import LPIPS, Backbone, load_lpips
from silverpoint.metrics.psnr import psnr
from silverpoint.metrics.ssim import ms_ssim, ssim
from silverpoint.nets.inception import Inception

PAIRWISE = ("psnr", "ssim", "ms_ssim", "fsim", "fsimc", "lpips_alex", "lpips_vgg", "lpips_squeeze")
DISTRIBUTION = ("fid", "kid")
IDENTITY = ("rank1", "verification")
METRICS = PAIRWISE + DISTRIBUTION
HIGHER_IS_BETTER = {"psnr", "ssim", "ms_ssim", "fsim", "fsimc", *IDENTITY}
ON_GREY = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "fsim": fsim}
BATCH = 4  # FSIM's maps of a few images still fit the processor's cache

PairMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Measurements:
    """What was measured of n pairs: a value per pair and metric, and the features that FID and KID need."""

    geometry: Geometry
    n: int
    per_image: dict[str, np.ndarray] = field(default_factory=dict)  # (n,) float64 each
    fake_features: Tensor | None = None  # (n, 2048)
    real_features: Tensor | None = None
    reasons: dict[str, str] = field(default_factory=dict)  # why a metric is absent


@torch.inference_mode()
def measure(
    fake: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    *,
    geometry: Geometry = "200x250",
    fill: float = 0.0,
    metrics: Iterable[str] = METRICS,
    device: str | torch.device = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Measurements:
    """Measure pairs of uint8 images, (H, W) grey or (H, W, 3) RGB: an (N, H, W) array or any sequence.

    PSNR, SSIM, MS-SSIM and FSIM see grey (PIL's L); FSIMc, LPIPS, FID and KID see the image as it is. A
    metric that cannot be had is left out with its reason; sizes that do not match raise ValueError.
    `progress` is told how many pairs were done since it was told last.
    """
    if len(fake) != len(real):
        raise ValueError(f"{len(fake)} fake images against {len(real)} real ones; they are compared in pairs")
    wanted = set(metrics)
    if unknown := wanted - set(METRICS):
        raise ValueError(f"unknown metrics {', '.join(sorted(unknown))}; choose from {', '.join(METRICS)}")
    device = torch.device(device)
    found = Measurements(geometry, len(fake))
    functions = _pair_metrics(wanted, device, found.reasons)
    inception = _inception_if(wanted, device, found.reasons)
    values: dict[str, list[Tensor]] = {name: [] for name in functions}
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    # Half precision, in a trainer's autocast region or as TF32, would move FID and LPIPS in their third
    # digit.
    with (
        torch.autocast(device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        for fakes, reals in _batches(fake, real):
            colour = [to_geometry(_to_tensor(side, device), geometry, fill) for side in (fakes, reals)]
            grey = colour
            if colour[0].shape[1] == 3:
                grey = [
                    to_geometry(_to_tensor(_grey(side), device), geometry, fill) for side in (fakes, reals)
                ]
            for name in list(functions):
                if name == "fsimc" and grey is colour and "fsim" in functions:
                    values[name].append(values["fsim"][-1])  # grey images have no chroma to differ in
                    continue
                try:
                    values[name].append(functions[name](*(grey if name in ON_GREY else colour)))
                except ValueError as error:  # too small for this metric
                    found.reasons[name] = str(error)
                    del functions[name]
            if inception is not None:
                for side, images in zip(features, colour, strict=True):
                    side.append(inception_features([images], inception))
            if progress is not None:
                progress(len(fakes))
    if found.n:
        found.per_image = {name: torch.cat(values[name]).double().cpu().numpy() for name in functions}
        if inception is not None:
            found.fake_features, found.real_features = (torch.cat(side) for side in features)
    return found


def summarise(found: Measurements, subset: Sequence[int] | None = None) -> dict[str, Any]:
    """The report of all pairs, or of those at the positions in `subset`.

    One number per metric, or null with its reason in `reasons`. `kid_error` is KID's standard error.
    """
    index = np.arange(found.n) if subset is None else np.asarray(subset, dtype=int)
    report: dict[str, Any] = dict.fromkeys((*METRICS, *IDENTITY))
    reasons = {name: found.reasons.get(name, "not asked for") for name in METRICS}
    reasons |= dict.fromkeys(IDENTITY, "not computed")
    report["kid_error"] = None
    if not len(index):
        reasons |= dict.fromkeys(METRICS, "no pairs")
    else:
        for name, values in found.per_image.items():
            report[name] = float(values[index].mean())
            if not math.isfinite(report[name]):
                equal = int(np.isposinf(values[index]).sum())
                report[name], reasons[name] = (
                    None,
                    f"infinite: {equal} of {len(index)} pairs are equal images",
                )
    if found.fake_features is not None and found.real_features is not None:
        fakes, reals = found.fake_features[index], found.real_features[index]
        if "fid" not in found.reasons:
            if len(index) >= 2:
                report["fid"] = fid(fakes, reals)
            else:
                reasons["fid"] = f"needs at least 2 images, has {len(index)}"
        if "kid" not in found.reasons:
            if len(index) >= 3:
                report["kid"], report["kid_error"] = kid(fakes, reals)
            else:
                reasons["kid"] = f"needs at least 3 images, has {len(index)}"
    report["n"] = len(index)
    report["geometry"] = found.geometry
    report["reasons"] = {name: reason for name, reason in reasons.items() if report[name] is None}
    return report


def score(
    fake: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    *,
    geometry: Geometry = "200x250",
    fill: float = 0.0,
    metrics: Iterable[str] = METRICS,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Score fakes against their real counterparts: `measure`, then `summarise`.

    fake, real: uint8 (N, H, W) or (N, H, W, 3), pair by pair. Ask for `metrics=("psnr", "ssim", "fsim")`
    during training: they need no network. The networks stay loaded from call to call.
    """
    return summarise(measure(fake, real, geometry=geometry, fill=fill, metrics=metrics, device=device))


def _batches(
    fake: Sequence[np.ndarray], real: Sequence[np.ndarray]
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Neighbouring pairs of one shape, up to BATCH at a time."""
    fakes: list[np.ndarray] = []
    reals: list[np.ndarray] = []
    for index in range(len(fake)):
        one, other = np.asarray(fake[index]), np.asarray(real[index])
        for name, image in (("fake", one), ("real", other)):
            if image.dtype != np.uint8 or image.ndim < 2 or image.shape[2:] not in ((), (3,)):
                raise ValueError(
                    f"{name} image {index} must be uint8 (H, W) or (H, W, 3), not {image.dtype} {image.shape}"
                )
        if one.shape != other.shape:
            raise ValueError(f"pair {index}: fake is {one.shape}, real is {other.shape}")
        if fakes and (len(fakes) == BATCH or fakes[0].shape != one.shape):
            yield fakes, reals
            fakes, reals = [], []
        fakes.append(one)
        reals.append(other)
    if fakes:
        yield fakes, reals


def _to_tensor(images: list[np.ndarray], device: torch.device) -> Tensor:
    """uint8 (H, W) or (H, W, 3) images -> float (B, 1 or 3, H, W) in [0, 255]."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return (batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)).float().contiguous()


def _grey(images: list[np.ndarray]) -> list[np.ndarray]:
    from silverpoint.image import to_grey

    return [to_grey(image) for image in images]


def _pair_metrics(wanted: set[str], device: torch.device, reasons: dict[str, str]) -> dict[str, PairMetric]:
    functions: dict[str, PairMetric] = {}
    for name in PAIRWISE:
        if name not in wanted:
            continue
        if name.startswith("lpips"):
            try:
                functions[name] = _lpips_on(name.removeprefix("lpips_"), device)
            except AssetError as error:
                reasons[name] = str(error)
        else:
            functions[name] = fsimc if name == "fsimc" else ON_GREY[name]
    return functions


def _inception_if(wanted: set[str], device: torch.device, reasons: dict[str, str]) -> Inception | None:
    asked = wanted.intersection(DISTRIBUTION)
    reasons |= {name: "not asked for" for name in DISTRIBUTION if name not in asked}
    if not asked:
        return None
    try:
        return _inception_on(device)
    except AssetError as error:
        reasons |= dict.fromkeys(asked, str(error))
        return None


@lru_cache(maxsize=8)
def _lpips_on(backbone: Backbone, device: torch.device) -> LPIPS:
    return load_lpips(backbone).to(device)


@lru_cache(maxsize=2)
def _inception_on(device: torch.device) -> Inception:
    return load_inception().to(device)
