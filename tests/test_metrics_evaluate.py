"""Whole sets: scoring arrays, pairing folders, and the command."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from silverpoint.cli import evaluate as command
from silverpoint.errors import AssetError, DataError, UsageError
from silverpoint.image import to_grey
from silverpoint.metrics import METRICS, evaluate, fid, fsimc, kid, measure, psnr, score, ssim, summarise
from silverpoint.metrics.folders import pair_folders

CHEAP = ("psnr", "ssim", "ms_ssim", "fsim", "fsimc")
KEYS = {*METRICS, "rank1", "verification", "n", "geometry", "kid_error", "reasons"}
MODULE = sys.modules["silverpoint.metrics.measure"]  # the package has a function of that name


class TinyInception(nn.Module):
    """Stands in for the FID network: 2048 fixed random projections of a thumbnail."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2048, 3 * 6 * 6, generator=generator))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(image, 6).flatten(1) @ self.weight.T


class TinyDistance(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return (fake - real).abs().mean(dim=(1, 2, 3)) / 255


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_inception_on", lambda device: TinyInception())
    monkeypatch.setattr(MODULE, "_lpips_on", lambda backbone, device: TinyDistance())


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    smooth = generator.normal(size=(count, *shape)).cumsum(axis=1).cumsum(axis=2)
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def as_batch(images: np.ndarray) -> Tensor:
    array = torch.from_numpy(images.copy()).float()
    return array[:, None] if array.ndim == 3 else array.permute(0, 3, 1, 2)


# --- arrays


@pytest.mark.usefixtures("no_downloads")
def test_score_has_every_key_and_means_over_images() -> None:
    fake, real = pictures(5, 250, 200, seed=1), pictures(5, 250, 200, seed=2)
    report = score(fake, real)
    assert report.keys() == KEYS
    assert report["psnr"] == pytest.approx(psnr(as_batch(fake), as_batch(real)).mean().item())
    assert report["ssim"] == pytest.approx(ssim(as_batch(fake), as_batch(real)).mean().item(), abs=1e-6)
    assert report["fsimc"] == report["fsim"]
    assert report["n"] == 5
    assert report["geometry"] == "200x250"
    assert report["reasons"] == {"rank1": "not computed", "verification": "not computed"}
    json.dumps(report, allow_nan=False)


def test_colour_is_grey_for_fsim_and_colour_for_fsimc() -> None:
    fake, real = pictures(2, 64, 48, 3, seed=1), pictures(2, 64, 48, 3, seed=2)
    report = score(fake, real, geometry="native", metrics=("psnr", "fsimc"))
    grey = [as_batch(np.stack([to_grey(image) for image in side])) for side in (fake, real)]
    assert report["psnr"] == pytest.approx(psnr(*grey).mean().item())
    assert report["fsimc"] == pytest.approx(fsimc(as_batch(fake), as_batch(real)).mean().item(), abs=1e-6)


@pytest.mark.usefixtures("no_downloads")
def test_a_subset_is_scored_as_if_it_were_alone() -> None:
    fake, real = pictures(7, 250, 200, seed=1), pictures(7, 250, 200, seed=2)
    alone, within = score(fake[2:6], real[2:6]), summarise(measure(fake, real), [2, 3, 4, 5])
    for name in METRICS:
        assert within[name] == pytest.approx(alone[name], rel=1e-4), name


@pytest.mark.usefixtures("no_downloads")
def test_what_cannot_be_computed_is_null_with_its_reason() -> None:
    image = pictures(1, 64, 64)
    report = score(image, image, geometry="native")
    reasons = report["reasons"]
    assert report["psnr"] is None
    assert "1 of 1 pairs are equal" in reasons["psnr"]
    assert report["ms_ssim"] is None
    assert "over 160" in reasons["ms_ssim"]
    assert report["fid"] is None
    assert reasons["fid"] == "needs at least 2 images, has 1"
    assert reasons["kid"] == "needs at least 3 images, has 1"
    assert report["ssim"] == pytest.approx(1)
    unasked = score(image, image, geometry="native", metrics=("ssim",))
    assert unasked["reasons"]["lpips_alex"] == unasked["reasons"]["fid"] == "not asked for"
    nothing = score(image[:0], image[:0], metrics=CHEAP)
    assert nothing["n"] == 0
    assert nothing["reasons"]["ssim"] == "no pairs"


def test_a_missing_asset_is_a_reason_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise AssetError("the network is down")

    monkeypatch.setattr(MODULE, "_inception_on", absent)
    monkeypatch.setattr(MODULE, "_lpips_on", absent)
    fake, real = pictures(3, 48, 48, seed=1), pictures(3, 48, 48, seed=2)
    report = score(fake, real, geometry="native")
    for name in ("lpips_alex", "lpips_vgg", "lpips_squeeze", "fid", "kid"):
        assert report[name] is None
        assert report["reasons"][name] == "the network is down"
    assert report["fsim"] is not None


@pytest.mark.usefixtures("no_downloads")
def test_images_of_several_sizes_are_scored_in_their_order() -> None:
    sizes = [(40, 40), (40, 40), (52, 44), (40, 40)]
    fake = [pictures(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    real = [pictures(1, *size, seed=i + 9)[0] for i, size in enumerate(sizes)]
    found = measure(fake, real, geometry="native", metrics=("psnr", "kid"))
    expected = [psnr(as_batch(a[None]), as_batch(b[None])).item() for a, b in zip(fake, real, strict=True)]
    np.testing.assert_allclose(found.per_image["psnr"], expected, rtol=1e-6)
    assert found.fake_features is not None
    assert found.real_features is not None
    assert summarise(found)["kid"] == pytest.approx(kid(found.fake_features, found.real_features).value)
    assert summarise(found)["fid"] is None
    assert fid(found.fake_features, found.real_features) > 0


def test_wrong_arrays_are_named() -> None:
    good = pictures(2, 32, 32)
    for bad, message in (
        (good[:1], "2 fake images against 1"),
        (good.astype(float), "real image 0 must be uint8"),
        (pictures(2, 32, 33), "pair 0: fake is"),
    ):
        with pytest.raises(ValueError, match=message):
            score(good, bad, geometry="native", metrics=CHEAP)
    with pytest.raises(ValueError, match="unknown metrics sharpness"):
        score(good, good, metrics=("sharpness",))
    with pytest.raises(ValueError, match="32x32"):
        score(good, good, metrics=CHEAP)


def test_scoring_inside_a_training_step_changes_nothing() -> None:
    fake, real = pictures(2, 48, 48, seed=1), pictures(2, 48, 48, seed=2)
    outside = score(fake, real, geometry="native", metrics=CHEAP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = score(fake, real, geometry="native", metrics=CHEAP)
    assert inside == outside


# --- folders


def write(folder: Path, names: dict[str, np.ndarray]) -> Path:
    for name, image in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    fakes, reals = pictures(6, 250, 200, seed=1), pictures(6, 250, 200, seed=2)
    names = ["AR/1", "AR/2", "CUHK/1", "CUHK/2", "CUHK/3"]
    fake = write(
        tmp_path / "fake", {f"{name}.png": image for name, image in zip(names, fakes[:5], strict=True)}
    )
    real = write(
        tmp_path / "real", {f"{name}.png": image for name, image in zip(names, reals[:5], strict=True)}
    )
    write(fake, {"CUHK/only-fake.png": fakes[5]})
    write(real, {"AR/only-real.png": reals[5]})
    (fake / ".hidden").mkdir()
    (fake / "notes.txt").write_text("no image")
    return fake, real


def test_folders_are_paired_by_stem_whatever_the_suffix(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    (real / "AR/1.png").rename(real / "AR/1.PNG")
    pairing = pair_folders(fake, real)
    assert pairing.stems == ("AR/1", "AR/2", "CUHK/1", "CUHK/2", "CUHK/3")
    assert pairing.missing_fake == ("AR/only-real",)
    assert pairing.missing_real == ("CUHK/only-fake",)
    assert pairing.subsets() == {"AR": [0, 1], "CUHK": [2, 3, 4]}


@pytest.mark.usefixtures("no_downloads")
def test_report_of_two_folders(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    seen: list[int] = []
    report = evaluate(fake, real, progress=seen.append)
    assert sum(seen) == report["n"] == 5
    assert report["missing"] == {"fake": ["AR/only-real"], "real": ["CUHK/only-fake"]}
    assert {name: subset["n"] for name, subset in report["subsets"].items()} == {"AR": 2, "CUHK": 3}
    values = [row["ssim"] for row in report["images"].values()]
    assert report["ssim"] == pytest.approx(np.mean(values))
    assert len(report["networks"]["inception-fid"]) == 64
    again = evaluate(fake / "AR", real / "AR")
    for name in set(METRICS) - {"kid"}:  # of two images there is none
        assert again[name] == pytest.approx(report["subsets"]["AR"][name], rel=1e-4), name
    json.dumps(report, allow_nan=False)


def test_photos_become_the_floor(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    report = evaluate(fake, real, photos=fake, metrics=CHEAP)
    assert report["floors"]["photo"]["fsim"] == pytest.approx(report["fsim"])
    with pytest.raises(DataError, match="holds no photo named like"):
        evaluate(fake, real, photos=fake / "AR", metrics=CHEAP)


def test_bad_files_fail_alone(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    (fake / "AR/1.png").write_bytes(b"no picture")
    write(fake, {"CUHK/2.png": pictures(1, 256, 256)[0]})
    write(fake, {"CUHK/3.png": pictures(1, 96, 96)[0]})
    write(real, {"CUHK/3.png": pictures(1, 96, 96)[0]})
    report = evaluate(fake, real, metrics=CHEAP)
    assert report["n"] == 2
    assert report["failed"].keys() == {"AR/1", "CUHK/2", "CUHK/3"}
    assert "256x256" in report["failed"]["CUHK/2"]
    assert "geometry native" in report["failed"]["CUHK/3"]
    assert evaluate(fake, real, metrics=("ssim",), geometry="native")["n"] == 3


def test_folders_without_anything_to_score_are_errors(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    fake, real = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no such folder"):
        evaluate(tmp_path / "none", real)
    with pytest.raises(DataError, match="holds no images"):
        evaluate(empty, real)
    with pytest.raises(DataError, match="share no file name"):
        evaluate(fake / "AR", real / "CUHK" / "..", metrics=CHEAP)
    small = write(tmp_path / "small", {"AR/1.png": pictures(1, 8, 8)[0]})
    with pytest.raises(DataError, match="no pair can be scored"):
        evaluate(small, real, metrics=CHEAP)
    write(fake, {"AR/1.jpg": pictures(1, 250, 200)[0]})
    with pytest.raises(DataError, match="the same name as"):
        evaluate(fake, real, metrics=CHEAP)


# --- the command


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser(prog="silverpoint")
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *argv])
    status: int = args.run(args)
    return status


def test_the_command_prints_a_table_and_writes_the_report(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, real = folders
    out = tmp_path / "scores.json"
    arguments = ["--fake", str(fake), "--real", str(real), "--photos", str(real), "--json", str(out)]
    assert run(*arguments, "--metrics", "psnr,fsim", "--geometry", "padded256", "--fill", "255") == 0
    printed = capsys.readouterr()
    report = json.loads(out.read_text())
    assert report["geometry"] == "padded256"
    assert report["fill"] == 255
    assert "geometry padded256, margin 255, grey" in printed.out
    assert f"{report['fsim']:.4f}" in printed.out
    rows = [line.split()[0] for line in printed.out.splitlines()[2:]]
    assert rows == ["all", "AR", "CUHK", "(photo"]
    assert "AR/only-real" in printed.err
    assert "CUHK/only-fake" in printed.err
    assert "SSIM" not in printed.out
    assert not list(tmp_path.glob(".*.partial"))


def test_the_command_exits_1_when_a_pair_failed(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, real = folders
    (fake / "AR/1.png").write_bytes(b"no picture")
    assert run("--fake", str(fake), "--real", str(real), "--metrics", "psnr") == 1
    assert "not scored: " in capsys.readouterr().err


def test_wrong_usage_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    both = ["--fake", str(folders[0]), "--real", str(folders[1])]
    for extra, message in (
        (["--metrics", "psnr,beauty"], "no metric beauty"),
        (["--fill", "300"], "from 0 to 255"),
        (["--json", str(tmp_path / "none" / "x.json")], "there is no folder"),
        (["--device", "abacus"], "--device abacus"),
    ):
        with pytest.raises(UsageError, match=message):
            run(*both, *extra)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "silverpoint evaluate --fake results/ --real sketches/" in capsys.readouterr().out
