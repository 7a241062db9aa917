"""All metrics in one pass over a set of image pairs, and the report of them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from silverpoint.assets import ASSETS
from silverpoint.errors import AssetError
from silverpoint.image import to_grey
from silverpoint.metrics.fid import fid
from silverpoint.metrics.fsim import FeatureMaps, feature_maps, fsim, fsimc, similarity
from silverpoint.metrics.images import CROP_HEIGHT, CROP_WIDTH, Geometry, to_geometry
from silverpoint.metrics.inception_features import inception_features, load_inception
from silverpoint.metrics.kid import kid
from silverpoint.metrics.lpips import LPIPS, Backbone, load_lpips, squeezenet_checksum
from silverpoint.metrics.psnr import psnr
from silverpoint.metrics.ssim import ms_ssim, ssim
from silverpoint.metrics.store import Key, Store, Table, key_of
from silverpoint.metrics.vgg_distance import VGGDistance
from silverpoint.nets.inception import Inception
from silverpoint.recognition import (
    Embedder,
    cmc,
    load_embedder,
    nlda_of_gram,
    pixel_gram,
    rank_rate,
    ranks,
    verification_rate,
)
from silverpoint.scores import METRICS, ON_REQUEST

PAIRWISE = ("psnr", "ssim", "ms_ssim", "fsim", "fsimc", "lpips_alex", "lpips_vgg", "lpips_squeeze")
DISTRIBUTION = ("fid", "kid")
OF_FACES = ("rank1", "verification")
ON_GREY = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "fsim": fsim}
NETWORK_ASSETS = {
    "lpips_alex": ("lpips-alexnet", "lpips-heads"),
    "lpips_vgg": ("lpips-vgg16", "lpips-heads"),
    "lpips_squeeze": ("squeezenet", "lpips-heads"),
    "perceptual_vgg19": ("vgg19",),
    "fid": ("inception-fid",),
    "kid": ("inception-fid",),
}
BATCH = 4  # FSIM's maps of a few images still fit the processor's cache
MAPS_KEPT = 1 << 28  # bytes of FSIM's maps of real images: those of 671 at 200x250
FALSE_ACCEPT_RATE = 1e-3  # the least that the 9,900 impostor pairs of 100 images tell with some certainty
CMC_RANKS = 50

PairMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Measurements:
    """What was measured of n pairs: a value per pair and metric, and what the metrics of a set are made from."""

    geometry: Geometry
    n: int
    asked: frozenset[str] = frozenset()
    per_image: dict[str, np.ndarray] = field(default_factory=dict)  # (n,) float64 each
    fake_features: Tensor | None = None  # (n, 2048), Inception's
    real_features: Tensor | None = None
    embedder: str = ""
    fake_faces: np.ndarray | None = None  # (n, D) unit vectors
    real_faces: np.ndarray | None = None
    gram: np.ndarray | None = None  # (2n, 2n): pixel_gram
    reasons: dict[str, str] = field(default_factory=dict)  # why a metric that was asked for is absent


@torch.inference_mode()
def measure(
    fake: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    *,
    geometry: Geometry = "200x250",
    fill: float = 0.0,
    metrics: Iterable[str] = METRICS,
    embedder: str = "lightcnn",
    device: str | torch.device = "cpu",
    store: Store | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measurements:
    """Measure pairs of uint8 images, (H, W) grey or (H, W, 3) RGB: an (N, H, W) array or any sequence.

    PSNR, SSIM, MS-SSIM, FSIM and the identity metrics see grey (PIL's L), identity the crop without any margin;
    FSIMc, LPIPS, FID and KID see the image as it is. A metric that cannot be had is left out with its reason;
    sizes that do not match raise ValueError. What networks say is looked up in `store` and kept there, as are, in
    memory, FSIM's maps of the real side.
    `progress` is told how many pairs were done since it was told last.
    """
    if len(fake) != len(real):
        raise ValueError(f"{len(fake)} fake images against {len(real)} real ones; they are compared in pairs")
    wanted = set(metrics)
    if unknown := wanted - {*METRICS, *ON_REQUEST}:
        known = ", ".join(METRICS + ON_REQUEST)
        raise ValueError(f"unknown metrics {', '.join(sorted(unknown))}; choose from {known}")
    device = torch.device(device)
    found = Measurements(geometry, len(fake), frozenset(wanted), embedder=embedder)
    functions = _pair_metrics(wanted, device, found.reasons)
    inception = _inception_if(wanted, device, found.reasons)
    face_of = _embedder_if(wanted, embedder, found.reasons)
    values: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    features: list[np.ndarray] = []  # per batch: the fakes', then the reals'
    faces: list[np.ndarray] = []
    crops: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    # Half precision, in a trainer's autocast region or as TF32, would move FID and LPIPS in their third
    # digit.
    with (
        store or nullcontext(),  # kept on the way out, also when this is interrupted
        torch.autocast(device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        for fakes, reals in _batches(fake, real):
            batch = _Batch(fakes, reals, geometry, fill, device, keyed=store is not None)
            _add_pair_values(values, functions, batch, store, found.reasons)
            if inception is not None:
                features.append(_inception_rows(inception, batch, store))
            if face_of is not None:
                if batch.crops[0].shape == (CROP_HEIGHT, CROP_WIDTH):
                    faces.append(_face_rows(face_of, batch, store))
                else:
                    reason = f"needs aligned crops of {CROP_WIDTH}x{CROP_HEIGHT}"
                    found.reasons |= dict.fromkeys(found.asked.intersection(OF_FACES), reason)
                    face_of = None
            if "nlda" in wanted:
                crops[0].extend(batch.crops[: batch.count])
                crops[1].extend(batch.crops[batch.count :])
            if progress is not None:
                progress(batch.count)
    if found.n:
        found.per_image = {name: np.concatenate(values[name]).astype(np.float64) for name in functions}
        if inception is not None:
            sides = _sides(features)
            found.fake_features, found.real_features = (torch.from_numpy(side) for side in sides)
        if face_of is not None:
            found.fake_faces, found.real_faces = _sides(faces)
        if "nlda" in wanted:
            if len({crop.shape for side in crops for crop in side}) == 1:
                found.gram = pixel_gram(*crops)
            else:
                found.reasons["nlda"] = "needs images of one size"
    return found


def summarise(
    found: Measurements,
    subset: Sequence[int] | None = None,
    *,
    false_accept_rate: float = FALSE_ACCEPT_RATE,
) -> dict[str, Any]:
    """The report of all pairs, or of those at the positions in `subset`.

    One number per metric, or null with its reason in `reasons`. `kid_error` is KID's standard error; `identity`
    holds the CMC curves, the threshold and NLDA's curve behind `rank1`, `verification` and `nlda`.
    """
    index = np.arange(found.n) if subset is None else np.asarray(subset, dtype=int)
    report: dict[str, Any] = dict.fromkeys(METRICS + ON_REQUEST)
    reasons = {name: "not asked for" for name in report if name not in found.asked} | found.reasons
    report["kid_error"], report["identity"] = None, {}
    if not len(index):
        reasons |= {name: "no pairs" for name in METRICS if name not in reasons}
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
        distances = distribution_distances(fakes, reals)
        for name in DISTRIBUTION:
            if name in found.asked:
                report[name] = distances[name]
                reasons |= {name: distances["reasons"][name]} if report[name] is None else {}
        report["kid_error"] = distances["kid_error"] if report["kid"] is not None else None
    if found.fake_faces is not None and found.real_faces is not None and len(index):
        scores = found.real_faces[index].astype(np.float64) @ found.fake_faces[index].astype(np.float64).T
        _identify(report, scores, found, reasons, false_accept_rate)
    if found.gram is not None and len(index):
        _discriminate(report, found.gram, index, reasons)
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
    embedder: str = "lightcnn",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Score fakes against their real counterparts: `measure`, then `summarise`.

    fake, real: uint8 (N, H, W) or (N, H, W, 3), pair by pair. Ask for `metrics=("psnr", "ssim", "fsim")`
    during training: they need no network. The networks stay loaded from call to call.
    """
    options: dict[str, Any] = {"geometry": geometry, "fill": fill, "metrics": metrics, "device": device}
    return summarise(measure(fake, real, embedder=embedder, **options))


def distribution_distances(fakes: Tensor, reals: Tensor) -> dict[str, Any]:
    """FID and KID of two sets of Inception features, each null with its reason where there are too few."""
    n = min(len(fakes), len(reals))
    report: dict[str, Any] = {"fid": None, "kid": None, "kid_error": None, "reasons": {}}
    if n >= 2:
        report["fid"] = fid(fakes, reals)
    else:
        report["reasons"]["fid"] = f"needs at least 2 images, has {n}"
    if n >= 3:
        report["kid"], report["kid_error"] = kid(fakes, reals)
    else:
        report["reasons"]["kid"] = f"needs at least 3 images, has {n}"
    return report


def checksum(network: str) -> str:
    """The sha256 of a network's file: of an asset that of the manifest, of SqueezeNet that of the user's file."""
    return squeezenet_checksum() if network == "squeezenet" else ASSETS[network].sha256


def match_report(found: np.ndarray, gallery: int) -> dict[str, Any]:
    """Rank-1, 5 and 10, the CMC curve up to rank 50, and the ranks `found` in a gallery of this size themselves."""
    curve = cmc(found, min(gallery, CMC_RANKS))
    rates = {f"rank{k}": rank_rate(found, k) for k in (1, 5, 10)}
    return {**rates, "cmc": [float(share) for share in curve], "ranks": found.tolist()}


def _identify(
    report: dict[str, Any],
    scores: np.ndarray,
    found: Measurements,
    reasons: dict[str, str],
    false_accept_rate: float,
) -> None:
    """scores (n, n): reals by fakes."""
    n = len(scores)
    identity: dict[str, Any] = {"embedder": found.embedder}
    if "rank1" in found.asked:
        if n >= 2:
            identity["real_to_fake"] = match_report(ranks(scores), n)
            identity["fake_to_real"] = match_report(ranks(scores.T), n)
            report["rank1"] = identity["real_to_fake"]["rank1"]
        else:
            reasons["rank1"] = f"needs at least 2 images, has {n}"
    if "verification" in found.asked:
        try:
            verified = verification_rate(scores.diagonal(), scores[~np.eye(n, dtype=bool)], false_accept_rate)
        except ValueError as error:
            reasons["verification"] = str(error)
        else:
            identity["verification"] = {"asked_false_accept_rate": false_accept_rate, **verified._asdict()}
            report["verification"] = verified.rate
    report["identity"] |= identity


def _discriminate(
    report: dict[str, Any], gram: np.ndarray, index: np.ndarray, reasons: dict[str, str]
) -> None:
    n = len(gram) // 2
    both = np.concatenate([index, index + n])
    try:
        result = nlda_of_gram(gram[np.ix_(both, both)])
    except ValueError as error:
        reasons["nlda"] = str(error)
        return
    report["nlda"] = result.accuracy
    report["identity"]["nlda"] = {**result._asdict(), "curve": [float(share) for share in result.curve]}


class _Batch:
    """Some pairs as the metrics see them: each tuple and list the fakes', then the reals'."""

    def __init__(
        self,
        fakes: list[np.ndarray],
        reals: list[np.ndarray],
        geometry: Geometry,
        fill: float,
        device: torch.device,
        keyed: bool,
    ) -> None:
        self.count, self.geometry, self.fill = len(fakes), geometry, fill
        self.colour = [to_geometry(_to_tensor(side, device), geometry, fill) for side in (fakes, reals)]
        self.crops = [to_grey(image) for image in fakes + reals]
        self.is_grey = self.colour[0].shape[1] == 1
        self.grey = self.colour
        if not self.is_grey:
            halves = (self.crops[: self.count], self.crops[self.count :])
            self.grey = [to_geometry(_to_tensor(side, device), geometry, fill) for side in halves]
        self.keys = [key_of(image) for image in fakes + reals] if keyed else []
        half = len(self.keys) // 2
        self.pair_keys = [key_of(a, b) for a, b in zip(self.keys[:half], self.keys[half:], strict=True)]


def _add_pair_values(
    values: dict[str, list[np.ndarray]],
    functions: dict[str, PairMetric],
    batch: _Batch,
    store: Store | None,
    reasons: dict[str, str],
) -> None:
    """A value per pair of every metric; one that these sizes do not allow is dropped, with its reason."""
    for name in list(functions):
        if name == "fsimc" and batch.is_grey and "fsim" in functions:
            values[name].append(values["fsim"][-1])  # grey images have no chroma to differ in
            continue
        fakes, reals = batch.grey if name in ON_GREY else batch.colour

        def compute(at: list[int], name: str = name, fakes: Tensor = fakes, reals: Tensor = reals) -> Tensor:
            if name == "fsim" and store is not None:
                return similarity(feature_maps(fakes), _real_maps(batch, store)).cpu()[:, None]
            return functions[name](fakes[at], reals[at]).cpu()[:, None]

        try:
            rows = _rows(compute, _table(store, name, batch), batch.pair_keys, batch.count)
        except ValueError as error:  # too small for this metric
            reasons[name] = str(error)
            del functions[name]
        else:
            values[name].append(rows[:, 0])


def _real_maps(batch: _Batch, store: Store) -> FeatureMaps:
    """FSIM's maps of the real side, which every floor and every method of a report is held against."""
    layout = f"{batch.geometry}{batch.fill}{batch.grey[1].device}".encode()
    key = key_of(layout, *batch.keys[batch.count :])
    maps = store.maps.get(key) or feature_maps(batch.grey[1])
    if sum(side.nbytes for kept in store.maps.values() for side in kept) < MAPS_KEPT:
        store.maps[key] = maps
    return maps


def _inception_rows(inception: Inception, batch: _Batch, store: Store | None) -> np.ndarray:
    both = torch.cat(batch.colour)
    table = _table(store, "fid", batch)
    return _rows(lambda at: inception_features([both[at]], inception), table, batch.keys, len(both))


def _face_rows(face_of: Embedder, batch: _Batch, store: Store | None) -> np.ndarray:
    table = None if store is None else store.table(_version(face_of.asset), "face")
    crops = batch.crops
    return _rows(lambda at: face_of([crops[i] for i in at]), table, batch.keys, len(crops))


def _rows(
    compute: Callable[[list[int]], Any], table: Table | None, keys: Sequence[Key], count: int
) -> np.ndarray:
    """(count, D): what `compute` says of the positions it is given, or what the table remembers."""
    if table is None:
        return np.asarray(compute(list(range(count))))
    return table.fill(keys, lambda missing: np.asarray(compute(missing)))


def _sides(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    halves = [np.split(part, 2) for part in rows]
    return np.concatenate([fake for fake, _ in halves]), np.concatenate([real for _, real in halves])


def _table(store: Store | None, metric: str, batch: _Batch) -> Table | None:
    """Where a network's values are kept; what needs no network is computed anew, it costs as little."""
    if store is None or metric not in NETWORK_ASSETS:
        return None
    version = "-".join(_version(asset) for asset in NETWORK_ASSETS[metric])
    layout = f"padded{batch.fill:g}" if batch.geometry == "padded256" else "whole"
    return store.table(version, "pool3" if metric in DISTRIBUTION else metric, layout)


def _version(asset: str) -> str:
    return f"{asset}-{checksum(asset)[:8]}"


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


def _pair_metrics(wanted: set[str], device: torch.device, reasons: dict[str, str]) -> dict[str, PairMetric]:
    functions: dict[str, PairMetric] = {}
    for name in PAIRWISE + ON_REQUEST:
        if name not in wanted:
            continue
        try:
            if name.startswith("lpips"):
                functions[name] = _lpips_on(name.removeprefix("lpips_"), device)
            elif name == "perceptual_vgg19":
                functions[name] = _vgg_distance_on(device)
            else:
                functions[name] = fsimc if name == "fsimc" else ON_GREY[name]
        except AssetError as error:
            reasons[name] = str(error)
    return functions


def _inception_if(wanted: set[str], device: torch.device, reasons: dict[str, str]) -> Inception | None:
    asked = wanted.intersection(DISTRIBUTION)
    if not asked:
        return None
    try:
        return _inception_on(device)
    except AssetError as error:
        reasons |= dict.fromkeys(asked, str(error))
        return None


def _embedder_if(wanted: set[str], name: str, reasons: dict[str, str]) -> Embedder | None:
    asked = wanted.intersection(OF_FACES)
    if not asked:
        return None
    try:
        return _embedder(name)
    except AssetError as error:
        reasons |= dict.fromkeys(asked, str(error))
        return None


@lru_cache(maxsize=8)
def _lpips_on(backbone: Backbone, device: torch.device) -> LPIPS:
    # a quarter faster for VGG-16 on a CPU; the distances stay within 1e-8
    return load_lpips(backbone).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@lru_cache(maxsize=2)
def _vgg_distance_on(device: torch.device) -> VGGDistance:
    return VGGDistance().to(device)


@lru_cache(maxsize=2)
def _inception_on(device: torch.device) -> Inception:
    return load_inception().to(device)


@lru_cache(maxsize=4)
def _embedder(name: str) -> Embedder:
    return load_embedder(name)
