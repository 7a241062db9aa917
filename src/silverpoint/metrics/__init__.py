"""The yardstick: every number as docs/metrics.md defines it, wherever it is called from."""

from silverpoint.metrics.evaluate import evaluate
from silverpoint.metrics.fid import features_to_statistics, fid, statistics_to_fid
from silverpoint.metrics.fsim import fsim, fsimc
from silverpoint.metrics.images import GEOMETRIES, to_geometry
from silverpoint.metrics.inception_features import inception_features, load_inception
from silverpoint.metrics.kid import KID, kid
from silverpoint.metrics.lpips import LPIPS, load_lpips, lpips
from silverpoint.metrics.measure import METRICS, Measurements, measure, score, summarise
from silverpoint.metrics.psnr import psnr
from silverpoint.metrics.ssim import ms_ssim, ssim

__all__ = [
    "GEOMETRIES",
    "KID",
    "LPIPS",
    "METRICS",
    "Measurements",
    "evaluate",
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
    "ms_ssim",
    "psnr",
    "score",
    "ssim",
    "statistics_to_fid",
    "summarise",
    "to_geometry",
]
