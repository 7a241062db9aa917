"""The calibration: figures measured independently on the CUHK test pairs of CUFS, where the images are at hand.

The images are not ours to give. Lay the set out as `prepare cufs` does, with pairs.csv, in ../shared/data/cufs
beside the repository, or name the folder that holds cufs/ in SILVERPOINT_DATA. The large networks over all pairs
take minutes: SILVERPOINT_SLOW=1.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from silverpoint.assets import ASSETS, cache_dir
from silverpoint.metrics import fid, inception_features, score
from silverpoint.metrics.inception_features import load_inception

ROOT = Path(__file__).parents[1]
CUFS = Path(os.environ.get("SILVERPOINT_DATA", ROOT.parent / "shared" / "data")) / "cufs"
pytestmark = pytest.mark.skipif(not (CUFS / "pairs.csv").exists(), reason=f"no CUFS images in {CUFS}")
slow = pytest.mark.skipif(os.environ.get("SILVERPOINT_SLOW") != "1", reason="minutes; set SILVERPOINT_SLOW=1")

FIDELITY = ("psnr", "ssim", "fsim")
DIGITS = {"psnr": 0.005, "ssim": 5e-5, "fsim": 5e-5, "lpips_alex": 5e-5, "lpips_vgg": 5e-5, "fid": 0.05}


def needs(*assets: str) -> pytest.MarkDecorator:
    missing = [name for name in assets if not (cache_dir() / ASSETS[name].filename).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not in the cache: {', '.join(missing)}")


def load(rows: list[dict[str, str]], column: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(CUFS / row[column]).convert("L")) for row in rows])


class CUHK:
    """Photos and sketches (N, 250, 200) of the 88 training and 100 test pairs."""

    def __init__(self) -> None:
        with open(CUFS / "pairs.csv", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["subset"] == "CUHK"]
        train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
        assert (len(train), len(test)) == (88, 100)
        self.photos, self.sketches = load(test, "photo"), load(test, "sketch")
        self.train_photos, self.train_sketches = load(train, "photo"), load(train, "sketch")

    def nearest_training_sketches(self) -> np.ndarray:
        """For every test photo the sketch of the training photo at the least distance, pixel by pixel."""
        test = self.photos.reshape(100, -1).astype(np.float64)
        train = self.train_photos.reshape(88, -1).astype(np.float64)
        distance = (train**2).sum(1)[None] - 2 * test @ train.T
        return self.train_sketches[distance.argmin(1)]


@pytest.fixture(scope="module")
def cuhk() -> CUHK:
    return CUHK()


def check(fake: np.ndarray, real: np.ndarray, expected: dict[str, float]) -> None:
    report = score(fake, real, metrics=tuple(expected))
    found = {name: report[name] for name in expected}
    for name, value in expected.items():
        # half a unit of the last digit quoted, and a little for other processors' rounding
        assert found[name] == pytest.approx(value, abs=1.2 * DIGITS[name]), found


def test_grey_photo_fidelity(cuhk: CUHK) -> None:
    check(cuhk.photos, cuhk.sketches, {"fsim": 0.7014, "ssim": 0.5713, "psnr": 13.32})


def test_nearest_training_sketch_fidelity(cuhk: CUHK) -> None:
    expected = {"fsim": 0.6575, "ssim": 0.4953, "psnr": 12.90}
    check(cuhk.nearest_training_sketches(), cuhk.sketches, expected)


@needs("lpips-alexnet", "lpips-heads")
def test_grey_photo_lpips_alex(cuhk: CUHK) -> None:
    check(cuhk.photos, cuhk.sketches, {"lpips_alex": 0.2594})


@slow
@needs("lpips-vgg16", "lpips-heads")
def test_grey_photo_lpips_vgg(cuhk: CUHK) -> None:
    check(cuhk.photos, cuhk.sketches, {"lpips_vgg": 0.3612})


@slow
@needs("inception-fid")
def test_grey_photo_fid(cuhk: CUHK) -> None:
    check(cuhk.photos, cuhk.sketches, {"fid": 117.2})


@slow
@needs("inception-fid")
def test_nearest_training_sketch_fid(cuhk: CUHK) -> None:
    check(cuhk.nearest_training_sketches(), cuhk.sketches, {"fid": 46.8})


@slow
@needs("inception-fid")
def test_fid_of_real_training_sketches(cuhk: CUHK) -> None:
    net = load_inception()
    sides = (
        torch.from_numpy(side).float()[:, None].split(4) for side in (cuhk.train_sketches, cuhk.sketches)
    )
    assert fid(*(inception_features(side, net) for side in sides)) == pytest.approx(41.79, abs=0.006)


def test_padding_flatters(cuhk: CUHK) -> None:
    """The black margin alone adds 1.175 dB, and much FSIM and SSIM."""
    few = slice(0, 20)
    crop = score(cuhk.photos[few], cuhk.sketches[few], metrics=FIDELITY)
    padded = score(cuhk.photos[few], cuhk.sketches[few], metrics=FIDELITY, geometry="padded256")
    assert padded["psnr"] - crop["psnr"] == pytest.approx(1.175, abs=5e-4)
    assert padded["fsim"] - crop["fsim"] > 0.04
    assert padded["ssim"] - crop["ssim"] > 0.08
