"""Whole sets: scoring arrays, pairing folders, and the command."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from drawn import draw_pair, write_pair_folders
from silverpoint.cli import evaluate as command
from silverpoint.errors import AssetError, DataError, ImageError, UsageError
from silverpoint.faces.align import similarity
from silverpoint.image import to_grey
from silverpoint.metrics import (
    METRICS,
    Options,
    Reference,
    Store,
    evaluate,
    evaluate_images,
    fid,
    fsim,
    fsimc,
    kid,
    measure,
    measure_floors,
    psnr,
    reference_of_split,
    rivals,
    score,
    ssim,
    summarise,
)
from silverpoint.metrics.folders import pair_folders
from silverpoint.metrics.fsim import FeatureMaps, feature_maps
from silverpoint.metrics.rivals import blurred
from silverpoint.metrics.store import key_of
from silverpoint.recognition import Embedder
from silverpoint.recognition.embedders import ARCFACE, FACE
from silverpoint.scores import HEADINGS

CHEAP = ("psnr", "ssim", "ms_ssim", "fsim", "fsimc")
KEYS = {*METRICS, "perceptual_vgg19", "n", "geometry", "kid_error", "identity", "reasons"}
QUICK = Options(metrics=CHEAP)
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


def tiny_faces(squares: np.ndarray) -> np.ndarray:
    """Stands in for a face network: the square's own pixels, coarsely, about their mean."""
    coarse = squares[:, ::16, ::16].reshape(len(squares), -1).astype(float)
    return coarse - coarse.mean(axis=1, keepdims=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Small networks in place of the large; how many images or pairs each call was asked about."""
    asked: list[int] = []

    class Counted(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, *images: Tensor) -> Tensor:
            asked.append(len(images[0]))
            return self.net(*images)

    weights = tmp_path / "squeezenet.pth"
    weights.write_bytes(b"the user's own")
    monkeypatch.setenv("SILVERPOINT_SQUEEZENET", str(weights))
    inception, distance = Counted(TinyInception()), Counted(TinyDistance())
    faces = Embedder("lightcnn", "lightcnn", 112, similarity(FACE, ARCFACE), tiny_faces)
    monkeypatch.setattr(MODULE, "_inception_on", lambda device: inception)
    monkeypatch.setattr(MODULE, "_lpips_on", lambda backbone, device: distance)
    monkeypatch.setattr(MODULE, "_vgg_distance_on", lambda device: distance)
    monkeypatch.setattr(MODULE, "_embedder", lambda name: faces)
    return asked


@pytest.fixture
def no_downloads(calls: list[int]) -> None:
    """Small networks in place of the large."""


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    smooth = generator.normal(size=(count, *shape)).cumsum(axis=1).cumsum(axis=2)
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def as_batch(images: np.ndarray) -> Tensor:
    array = torch.from_numpy(images.copy()).float()
    return array[:, None] if array.ndim == 3 else array.permute(0, 3, 1, 2)


def assert_same(found: dict[str, Any], expected: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if expected[name] is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


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
    assert report["reasons"].keys() == {"verification", "perceptual_vgg19"}
    assert "needs at least 1000 impostor pairs, there are 20" in report["reasons"]["verification"]
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
    assert_same(within, alone, METRICS)
    assert within["identity"].keys() == alone["identity"].keys()
    assert within["identity"]["real_to_fake"] == alone["identity"]["real_to_fake"]


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


@pytest.mark.usefixtures("no_downloads")
@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_images_give_numbers_or_reasons(level: int) -> None:
    constant = np.full((4, 250, 200), level, np.uint8)
    report = score(constant, constant)
    json.dumps(report, allow_nan=False)
    assert report["reasons"].keys() == {name for name in HEADINGS if report[name] is None}
    assert report["ssim"] == report["fsim"] == pytest.approx(1)
    assert report["lpips_alex"] == 0
    assert report["fid"] == pytest.approx(0, abs=1e-6)
    assert report["rank1"] == 0  # all alike: nobody is found


@pytest.mark.usefixtures("no_downloads")
def test_fid_rises_with_blur_and_with_noise() -> None:
    real = np.stack([draw_pair(seed)[1] for seed in range(6)])
    noise = np.random.default_rng(0).normal(size=real.shape)

    def fids(fakes: list[np.ndarray]) -> list[float]:
        return [score(fake, real, metrics=("fid",))["fid"] for fake in fakes]

    blurs = fids([np.stack([blurred(image, sigma) for image in real]) for sigma in (2, 6, 18)])
    noises = fids([(real + s * noise).clip(0, 255).astype(np.uint8) for s in (10, 30, 90)])
    for values in (blurs, noises):
        assert 0 < values[0] < values[1] < values[2]


def test_a_missing_asset_is_a_reason_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise AssetError("the network is down")

    monkeypatch.setattr(MODULE, "_inception_on", absent)
    monkeypatch.setattr(MODULE, "_lpips_on", absent)
    monkeypatch.setattr(MODULE, "_embedder", absent)
    fake, real = pictures(3, 48, 48, seed=1), pictures(3, 48, 48, seed=2)
    report = score(fake, real, geometry="native")
    for name in ("lpips_alex", "lpips_vgg", "lpips_squeeze", "fid", "kid", "rank1", "verification"):
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
    options = Options(progress=lambda what, done, total: seen.append(done))
    report = evaluate(fake, real, options, floors=False)
    assert sum(seen) == report["n"] == 5
    assert report["missing"] == {"fake": ["AR/only-real"], "real": ["CUHK/only-fake"]}
    assert {name: subset["n"] for name, subset in report["subsets"].items()} == {"AR": 2, "CUHK": 3}
    values = [row["ssim"] for row in report["images"].values()]
    assert report["ssim"] == pytest.approx(np.mean(values))
    assert len(report["networks"]["inception-fid"]) == 64
    assert report["networks"]["squeezenet"] == hashlib.sha256(b"the user's own").hexdigest()
    again = evaluate(fake / "AR", real / "AR", floors=False)
    assert_same(again, report["subsets"]["AR"], METRICS)
    json.dumps(report, allow_nan=False)


def test_photos_become_the_floor(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    report = evaluate(fake, real, QUICK, photos=fake)
    assert report["floors"]["input"]["fsim"] == pytest.approx(report["fsim"])
    assert report["floors"].keys() == {"input", "blurred"}
    assert report["floors_absent"].keys() == {"nearest", "mean"}
    with pytest.raises(DataError, match="holds no image named AR/1"):
        evaluate(fake, real, QUICK, photos=fake / "AR")


@pytest.mark.usefixtures("no_downloads")
def test_training_folders_give_every_floor_and_the_ceiling(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    report = evaluate(fake, real, photos=fake, train=real, train_photos=fake)
    assert set(report["floors"]) == {"input", "nearest", "mean", "blurred"}
    assert report["floors"]["nearest"]["ssim"] == pytest.approx(1)  # the training set is the test set
    assert report["floors"]["nearest"]["rank1"] == 1
    assert report["floors"]["mean"]["rank1"] == 0
    assert report["ceilings"]["training"]["n"] == 5  # those with an input
    assert report["ceilings"]["training"]["against"] == 5
    assert report["identity"]["fake_to_input"]["rank1"] == 1  # the inputs here are the fakes
    assert report["identity"]["real_to_input"] == report["identity"]["real_to_fake"]
    assert report["networks"].keys() >= {"inception-fid", "lightcnn"}
    json.dumps(report, allow_nan=False)
    alone = evaluate(fake, real, Options(metrics=("ssim", "fid")), train=real, train_photos=fake)
    assert set(alone["floors"]) == {"mean", "blurred"}
    assert "--photos" in alone["floors_absent"]["nearest"]


@pytest.mark.usefixtures("no_downloads")
def test_floors_and_ceiling_of_a_subset_are_as_of_it_alone(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    report = evaluate(fake, real, photos=fake, train=real, train_photos=fake)
    for part in ("AR", "CUHK"):
        inputs = fake / part
        alone = evaluate(fake / part, real / part, photos=inputs, train=real / part, train_photos=inputs)
        for name in ("input", "blurred"):
            assert_same(report["floors"][name]["subsets"][part], alone["floors"][name], METRICS)
        ceiling, expected = report["ceilings"]["training"]["subsets"][part], alone["ceilings"]["training"]
        assert ceiling["fid"] == pytest.approx(expected["fid"], abs=1e-6)
        assert ceiling["against"] == expected["against"]
    assert report["ceilings"]["training"]["subsets"]["CUHK"]["n"] == 3


def test_images_are_scored_in_the_real_ones_colours() -> None:
    reals = pictures(3, 40, 40, 3, seed=1)
    greys = np.stack([to_grey(image) for image in reals])
    quick = Options("native", metrics=("psnr", "fsimc"))
    for fakes, real in ((greys, reals), (reals, greys)):
        report = evaluate_images(fakes, Reference(("a", "b", "c"), real), quick)
        assert "equal images" in report["reasons"]["psnr"]  # in grey they are
        assert (report["fsimc"] > 0.9999) == (real is greys)


def test_rivals_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    training_inputs = rng.integers(0, 255, (4, 30, 20, 3), np.uint8)
    training, real = rng.integers(0, 255, (4, 30, 20), np.uint8), rng.integers(0, 255, (2, 30, 20), np.uint8)
    inputs = training_inputs[[2, 0]] // 2 + 60
    found, absent = rivals(Reference(("a", "b"), real, {}, inputs, training, training_inputs))
    assert absent == {}
    distances = [
        [((to_grey(i).astype(int) - to_grey(t)) ** 2).sum() for t in training_inputs] for i in inputs
    ]
    np.testing.assert_array_equal(found["nearest"], training[np.argmin(distances, axis=1)])
    np.testing.assert_array_equal(found["input"], [to_grey(image) for image in inputs])
    np.testing.assert_array_equal(found["mean"][1], training.mean(0).round())
    assert (
        np.abs(np.diff(found["blurred"][0].astype(int))).mean() < np.abs(np.diff(real[0].astype(int))).mean()
    )
    # into colour, for the other direction
    found, _ = rivals(Reference(("a", "b"), inputs, {}, real, training_inputs, training))
    assert all(image.shape == (30, 20, 3) for pictures in found.values() for image in pictures)


# --- a dataset, and what is kept


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ten pairs of two subsets: six to train, one of them to validate, and four to test."""
    root = write_pair_folders(tmp_path / "dataset", 10)
    splits = ["train"] * 5 + ["val"] + ["test"] * 4
    rows = [
        f"p{i:03d},{'AB'[i % 2]},{split},photos/p{i:03d}.png,sketches/p{i:03d}.png"
        for i, split in enumerate(splits)
    ]
    (root / "pairs.csv").write_text("\n".join(["id,subset,split,photo,sketch", *rows]) + "\n")
    return root


def test_a_split_brings_its_floors_with_it(dataset: Path) -> None:
    reference, examples = reference_of_split(dataset)
    assert reference.names == ("p006", "p007", "p008", "p009")
    assert reference.subsets == {"A": [0, 2], "B": [1, 3]}
    assert len(reference.training or ()) == 6
    assert reference.training_subsets == {"A": [0, 2, 4], "B": [1, 3, 5]}
    np.testing.assert_array_equal(reference.real[0], examples[0].sketch)
    of_one, _ = reference_of_split(dataset, subset="B")
    assert (of_one.names, of_one.subsets, len(of_one.training or ())) == (("p007", "p009"), {}, 3)
    back, _ = reference_of_split(dataset, direction="sketch2photo")
    assert np.shape(back.real[0]) == (250, 200, 3)
    validation, _ = reference_of_split(dataset, split="val")
    assert len(validation.training or ()) == 5
    few = reference.only([1, 2, 3])
    assert (few.names, few.subsets) == (("p007", "p008", "p009"), {"B": [0, 2], "A": [1]})
    np.testing.assert_array_equal(few.inputs[0], reference.inputs[1])  # type: ignore[index]


def test_what_networks_said_is_looked_up(dataset: Path, tmp_path: Path, calls: list[int]) -> None:
    reference, _ = reference_of_split(dataset)
    fakes = [image[:, ::-1].copy() for image in reference.real]
    plain = summarise(measure(fakes, reference.real))
    mean = summarise(measure(rivals(reference)[0]["mean"], reference.real))
    calls.clear()
    options = Options(store=Store(tmp_path / "kept"))
    first = evaluate_images(fakes, reference, options, measure_floors(reference, options))
    asked = len(calls)
    assert asked > 0
    assert_same(first, plain, METRICS)
    assert_same(first["floors"]["mean"], mean, METRICS)
    again = replace(options, store=Store(tmp_path / "kept"))
    second = evaluate_images(fakes, reference, again, measure_floors(reference, again))
    assert len(calls) == asked
    assert second["images"] == first["images"]
    assert second["fid"] == first["fid"]
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".safetensors"}
    calls.clear()
    changed = replace(options, geometry="padded256", store=Store(tmp_path / "kept"), metrics=("lpips_alex",))
    evaluate_images(fakes, reference, changed)
    assert calls == [4]


def test_a_training_picture_goes_through_a_network_once(dataset: Path, calls: list[int]) -> None:
    reference, _ = reference_of_split(dataset)
    measure_floors(replace(reference, inputs=None, training_inputs=None), Options(metrics=("fid",)))
    # the mean, the blurred, the real and the training pictures
    assert sum(calls) == 1 + 4 + 4 + 6


@pytest.mark.parametrize(("room", "analysed"), [(1 << 28, 3 * 6), (0, 4 * 6)])
def test_fsim_analyses_the_real_side_of_a_report_once(
    monkeypatch: pytest.MonkeyPatch, room: int, analysed: int
) -> None:
    asked: list[int] = []

    def counted(images: Tensor) -> FeatureMaps:
        asked.append(len(images))
        return feature_maps(images)

    monkeypatch.setattr(MODULE, "feature_maps", counted)
    monkeypatch.setattr(MODULE, "MAPS_KEPT", room)
    real, options = pictures(6, 48, 40, seed=1), Options("native", metrics=("fsim",))
    for seed in (2, 3):
        fake = pictures(6, 48, 40, seed=seed)
        values = options.measure("images", fake, real).per_image["fsim"]
        np.testing.assert_allclose(values, fsim(as_batch(fake), as_batch(real)), rtol=1e-6)
    assert sum(asked) == analysed


def test_training_pictures_of_another_size_have_no_ceiling() -> None:
    real, trained = pictures(2, 250, 200), pictures(3, 64, 64)
    floors = measure_floors(Reference(("a", "b"), real, training=trained), Options(metrics=("fid",)))
    assert floors.training is not None
    assert floors.training["fid"] is None
    assert "64x64" in floors.training["reasons"]["fid"]


def test_without_floors_the_training_set_is_not_read(dataset: Path) -> None:
    (dataset / "sketches/p000.png").unlink()
    reference, _ = reference_of_split(dataset, training=False)
    assert reference.training is reference.training_inputs is None
    with pytest.raises(ImageError, match="no such file"):
        reference_of_split(dataset)


def test_a_damaged_or_unwritable_cache_is_no_error(tmp_path: Path) -> None:
    table = Store(tmp_path).table("net")
    keys = [key_of(np.array([i])) for i in range(3)]
    rows = table.fill(keys, lambda at: np.array([[i, 2 * i] for i in at]))
    np.testing.assert_array_equal(rows, [[0, 0], [1, 2], [2, 4]])
    table.save()
    (file,) = tmp_path.iterdir()
    kept = Store(tmp_path).table("net").fill(keys, lambda at: pytest.fail("it was there"))
    np.testing.assert_array_equal(kept, rows)
    file.write_bytes(file.read_bytes()[:-7])
    assert Store(tmp_path).table("net").rows == {}
    file.unlink()
    file.mkdir()
    table.changed = True
    table.save()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_cache_forgets_what_was_not_used_for_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("silverpoint.metrics.store.ROWS_OF_FEATURES", 3)
    table = Store(tmp_path).table("net")
    keys = [key_of(np.array([i])) for i in range(4)]
    table.fill(keys, lambda at: np.array([[i, i] for i in at]))
    table.fill(keys[:1], lambda at: pytest.fail("it was there"))
    table.save()
    assert Store(tmp_path).table("net").rows.keys() == {keys[2], keys[3], keys[0]}


def test_bad_files_fail_alone(folders: tuple[Path, Path]) -> None:
    fake, real = folders
    (fake / "AR/1.png").write_bytes(b"no picture")
    write(fake, {"CUHK/2.png": pictures(1, 256, 256)[0]})
    write(fake, {"CUHK/3.png": pictures(1, 96, 96)[0]})
    write(real, {"CUHK/3.png": pictures(1, 96, 96)[0]})
    report = evaluate(fake, real, QUICK, floors=False)
    assert report["n"] == 2
    assert report["failed"].keys() == {"AR/1", "CUHK/2", "CUHK/3"}
    assert "256x256" in report["failed"]["CUHK/2"]
    assert "geometry native" in report["failed"]["CUHK/3"]
    assert evaluate(fake, real, Options("native", metrics=("ssim",)), floors=False)["n"] == 3


def test_folders_without_anything_to_score_are_errors(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    fake, real = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no such folder"):
        evaluate(tmp_path / "none", real)
    with pytest.raises(DataError, match="holds no images"):
        evaluate(empty, real)
    with pytest.raises(DataError, match="share no file name"):
        evaluate(fake / "AR", real / "CUHK" / "..", QUICK)
    small = write(tmp_path / "small", {"AR/1.png": pictures(1, 8, 8)[0]})
    with pytest.raises(DataError, match="no pair can be scored"):
        evaluate(small, real, QUICK)
    write(fake, {"AR/1.jpg": pictures(1, 250, 200)[0]})
    with pytest.raises(DataError, match="the same name as"):
        evaluate(fake, real, QUICK)


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
    assert rows == ["all", "AR", "CUHK", "(input", "(real,"]
    assert "AR/only-real" in printed.err
    assert "CUHK/only-fake" in printed.err
    assert "SSIM" not in printed.out
    assert not list(tmp_path.glob(".*.partial"))


def test_the_command_takes_a_dataset(
    dataset: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    some = tmp_path / "some"
    write(some, {f"anywhere/p00{i}.png": draw_pair(i + 20)[1] for i in (6, 7, 8)})
    arguments = ["--fake", str(some), "--data", str(dataset), "--metrics", "psnr,nlda", "--no-cache"]
    assert run(*arguments, "--json", str(out)) == 0
    printed = capsys.readouterr()
    report = json.loads(out.read_text())
    assert report["missing"]["fake"] == ["p009"]
    assert (report["n"], report["split"], report["direction"]) == (3, "test", "photo2sketch")
    assert set(report["floors"]) == {"input", "nearest", "mean", "blurred"}
    assert "NLDA needs 2 identities" in printed.err
    assert "p009" in printed.err
    write(tmp_path / "others", {"x.png": draw_pair(0)[1]})
    with pytest.raises(DataError, match="holds no image named like"):
        run("--fake", str(tmp_path / "others"), "--data", str(dataset))


def test_a_fake_that_cannot_be_scored_fails_alone_against_a_dataset(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some, out = tmp_path / "some", tmp_path / "scores.json"
    write(some, {"p006.png": draw_pair(26)[1], "p009.png": draw_pair(0, (256, 256))[1]})
    (some / "p007.png").write_bytes(b"no picture")
    arguments = ["--fake", str(some), "--data", str(dataset), "--metrics", "psnr", "--no-floors"]
    assert run(*arguments, "--json", str(out)) == 1
    report = json.loads(out.read_text())
    assert list(report["images"]) == ["p006"]
    assert report["missing"]["fake"] == ["p008"]
    assert report["failed"].keys() == {"p007", "p009"}
    assert "p009.png is 256x256, the dataset's is 200x250" in capsys.readouterr().err
    (some / "p006.png").unlink()
    with pytest.raises(DataError, match=r"no pair can be scored; .*p007.png"):
        run(*arguments)


def test_a_dataset_of_another_size_is_scored_as_it_is(tmp_path: Path) -> None:
    root = write_pair_folders(tmp_path / "small", 3, (64, 80))
    rows = [f"p{i:03d},A,test,photos/p{i:03d}.png,sketches/p{i:03d}.png" for i in range(3)]
    (root / "pairs.csv").write_text("\n".join(["id,subset,split,photo,sketch", *rows]) + "\n")
    arguments = ["--fake", str(root / "photos"), "--data", str(root), "--metrics", "psnr"]
    with pytest.raises(UsageError, match=r"pictures of 64x80, .*; use --geometry native"):
        run(*arguments)
    assert run(*arguments, "--geometry", "native") == 0


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """A dataset of four people, of whom two share the id 1, in two subsets; a photo is the inverted sketch."""
    root = tmp_path / "twins"
    rows = ["id,subset,split,photo,sketch"]
    for seed, name in enumerate(("AR/1", "AR/2", "XM2VTS/1", "XM2VTS/3")):
        sketch = draw_pair(seed)[1]
        write(root, {f"sketches/{name}.png": sketch, f"photos/{name}.png": 255 - sketch})
        subset, number = name.split("/")
        rows.append(f"{number},{subset},test,photos/{name}.png,sketches/{name}.png")
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return root


def test_people_of_one_id_in_two_subsets_are_told_apart(twins: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    arguments = ["--data", str(twins), "--metrics", "ssim", "--no-floors", "--json", str(out)]
    assert run("--fake", str(twins / "sketches"), *arguments) == 0
    images = json.loads(out.read_text())["images"]
    assert images.keys() == {"AR/1", "2", "XM2VTS/1", "3"}
    assert [row["ssim"] for row in images.values()] == pytest.approx([1] * 4)
    few = tmp_path / "few"
    for name in ("AR/1", "XM2VTS/3"):
        write(few, {f"{name}.png": np.asarray(Image.open(twins / "sketches" / f"{name}.png"))})
    assert run("--fake", str(few), *arguments) == 0
    report = json.loads(out.read_text())
    assert report["missing"]["fake"] == ["2", "XM2VTS/1"]  # and not AR's
    assert report["ssim"] == pytest.approx(1)
    assert (
        run("--fake", str(few / "AR"), *arguments, "--subset", "AR") == 0
    )  # by id, where that says whose it is
    assert json.loads(out.read_text())["images"].keys() == {"1"}


def test_a_file_that_may_be_of_two_people_is_no_ones(twins: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(twins), "--metrics", "ssim", "--no-floors"]
    write(tmp_path / "bare", {"1.png": draw_pair(0)[1]})
    with pytest.raises(DataError, match="1 may be of AR/1 or XM2VTS/1; name the images <subset>/<id>"):
        run("--fake", str(tmp_path / "bare"), *arguments)
    write(tmp_path / "double", {"a/2.png": draw_pair(0)[1], "b/2.png": draw_pair(1)[1]})
    with pytest.raises(DataError, match="a/2 and b/2 may be of AR/2"):
        run("--fake", str(tmp_path / "double"), *arguments)


def test_a_run_draws_everyone_of_one_id(twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(method: Any, net: Any, examples: list[Any], *_: Any) -> list[np.ndarray]:
        return [255 - to_grey(example.photo) for example in examples]  # which is the sketch

    loaded = (None, "photo2sketch", nn.Identity())
    monkeypatch.setattr("silverpoint.training.export.load_synthesizer", lambda *_: loaded)
    monkeypatch.setattr("silverpoint.training.validation.synthesize_examples", draw)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    out = tmp_path / "scores.json"
    arguments = ["--data", str(twins), "--metrics", "ssim", "--no-floors", "--json", str(out)]
    assert run("--run", str(tmp_path / "run"), *arguments) == 0
    images = json.loads(out.read_text())["images"]
    assert images.keys() == {"AR/1", "2", "XM2VTS/1", "3"}
    assert [row["ssim"] for row in images.values()] == pytest.approx([1] * 4)


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
        (["--data", str(tmp_path)], "say what to score against"),
        (["--run", str(tmp_path)], "say what to score: "),
        (["--train-photos", str(tmp_path)], "needs --train and --photos"),
    ):
        with pytest.raises(UsageError, match=message):
            run(*both, *extra)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "silverpoint evaluate --fake results/ --real sketches/" in capsys.readouterr().out
