"""The yardstick: every number as docs/metrics.md defines it, wherever it is called from."""

from silverpoint.metrics.evaluate import Floors, Options, evaluate, evaluate_images, measure_floors
from silverpoint.metrics.fid import features_to_statistics, fid, statistics_to_fid
from silverpoint.metrics.fsim import fsim, fsimc
from silverpoint.metrics.images import GEOMETRIES, to_geometry
from silverpoint.metrics.inception_features import inception_features, load_inception
from silverpoint.metrics.kid import KID, kid
from silverpoint.metrics.lpips import LPIPS, load_lpips, lpips
from silverpoint.metrics.measure import Measurements, measure, score, summarise
from silverpoint.metrics.psnr import psnr
from silverpoint.metrics.reference import Reference, reference_of_split
from silverpoint.metrics.rivals import rivals
from silverpoint.metrics.ssim import ms_ssim, ssim
from silverpoint.metrics.store import Store
from silverpoint.metrics.vgg_distance import VGGDistance
from silverpoint.scores import METRICS

__all__ = [
    "GEOMETRIES",
    "KID",
    "LPIPS",
    "METRICS",
    "Floors",
    "Measurements",
    "Options",
    "Reference",
    "Store",
    "VGGDistance",
    "evaluate",
    "evaluate_images",
    "features_to_statistics",
    "fid",
    "fsim",
    "fsimc",
    "inception_features",
    "kid",
    "load_inception",
    "load_lpips",
    "lpips",
    "measure",
    "measure_floors",
    "ms_ssim",
    "psnr",
    "reference_of_split",
    "rivals",
    "score",
    "ssim",
    "statistics_to_fid",
    "summarise",
    "to_geometry",
]
