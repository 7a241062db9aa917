"""PSNR, SSIM and MS-SSIM against hand-worked cases, scikit-image and a plain transcription of msssim.m."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import correlate1d, gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from silverpoint.metrics import fsim, fsimc, ms_ssim, psnr, ssim, to_geometry
from silverpoint.metrics.images import to_rgb

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "fsim": fsim,
    "fsimc": fsimc,
}


@pytest.fixture(scope="module")
def face(portrait: Path) -> np.ndarray:
    """(250, 200) uint8."""
    with Image.open(portrait) as image:
        return np.asarray(image.convert("L").crop((100, 60, 540, 610)).resize((200, 250)))


def batch(*images: np.ndarray) -> Tensor:
    """uint8 (H, W) or (H, W, 3) -> float (B, C, H, W)."""
    stacked = torch.from_numpy(np.stack(images)).float()
    return stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2)


def noisy(image: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(image.astype(float), sigma).round().astype(np.uint8)


# --- PSNR


def test_psnr_of_known_errors() -> None:
    black = torch.zeros(1, 1, 4, 4)
    assert psnr(black, black + 255).item() == pytest.approx(0)
    assert psnr(black, black + 25.5).item() == pytest.approx(20, abs=1e-5)
    one_pixel = black.clone()
    one_pixel[0, 0, 0, 0] = 255  # the mean squared error is 255^2 / 16
    assert psnr(black, one_pixel).item() == pytest.approx(10 * math.log10(16), abs=1e-5)


def test_psnr_of_equal_images_is_infinite(face: np.ndarray) -> None:
    assert psnr(batch(face), batch(face)).item() == math.inf


def test_psnr_agrees_with_scikit_image(face: np.ndarray) -> None:
    other = noisy(face, 12)
    expected = peak_signal_noise_ratio(face, other, data_range=255)
    assert psnr(batch(other), batch(face)).item() == pytest.approx(expected, abs=1e-4)


def test_black_padding_adds_what_the_docs_say(face: np.ndarray) -> None:
    fake, real = batch(noisy(face, 20)), batch(face)
    gain = psnr(to_geometry(fake, "padded256"), to_geometry(real, "padded256")) - psnr(fake, real)
    assert gain.item() == pytest.approx(10 * math.log10(256 * 256 / (250 * 200)), abs=1e-4)


# --- SSIM


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if a.ndim == 3 else None,
    )


@pytest.mark.parametrize("size", [(250, 200), (256, 256), (96, 96), (11, 11), (37, 64)])
def test_ssim_agrees_with_scikit_image(face: np.ndarray, size: tuple[int, int]) -> None:
    image = np.asarray(Image.fromarray(face).resize(size[::-1]))
    fakes = [noisy(image, 25), blurred(image, 1.5), 255 - image]
    found = ssim(batch(*fakes), batch(image, image, image))
    expected = [skimage_ssim(fake, image) for fake in fakes]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_ssim_of_near_white_paper_keeps_its_precision() -> None:
    """A faint pencil line on white: in float32 the variance would drown in the square of the mean."""
    paper = np.full((64, 64), 254, np.uint8)
    drawn = paper.copy()
    drawn[:, 30] = 250
    faint = noisy(paper, 1)
    assert ssim(batch(faint), batch(drawn)).item() == pytest.approx(skimage_ssim(faint, drawn), abs=1e-5)


def test_ssim_of_colour_is_the_mean_over_channels(portrait: Path) -> None:
    with Image.open(portrait) as image:
        real = np.asarray(image.convert("RGB").resize((64, 80)))
    fake = noisy(real, 20)
    assert ssim(batch(fake), batch(real)).item() == pytest.approx(skimage_ssim(fake, real), abs=1e-5)


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    a, b, c1 = 100.0, 150.0, (0.01 * 255) ** 2
    fake, real = torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b)
    assert ssim(fake, real).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)


# --- MS-SSIM


def msssim_transcription(a: np.ndarray, b: np.ndarray) -> float:
    """Wang's msssim.m in numpy, float64: 'valid' windows, 2x2 mean with a symmetric border, every second sample."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def valid(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, window, axis=0), window, axis=1)[5:-5, 5:-5]

    def halve(image: np.ndarray) -> np.ndarray:
        right = np.concatenate([image[:, 1:], image[:, -1:]], axis=1)
        wide = (image + right) / 2
        below = np.concatenate([wide[1:], wide[-1:]], axis=0)
        return ((wide + below) / 2)[::2, ::2]

    x, y = a.astype(float), b.astype(float)
    result = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mx, my = valid(x), valid(y)
        vx, vy, cov = valid(x * x) - mx**2, valid(y * y) - my**2, valid(x * y) - mx * my
        cs = (2 * cov + c2) / (vx + vy + c2)
        full = cs * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        result *= (full if scale == 4 else cs).mean() ** weight
        x, y = halve(x), halve(y)
    return result


@pytest.mark.parametrize("size", [(250, 200), (256, 256), (177, 201)])
def test_ms_ssim_agrees_with_the_transcription(face: np.ndarray, size: tuple[int, int]) -> None:
    image = np.asarray(Image.fromarray(face).resize(size[::-1]))
    fakes = [noisy(image, 25), blurred(image, 2)]
    found = ms_ssim(batch(*fakes), batch(image, image))
    np.testing.assert_allclose(found, [msssim_transcription(fake, image) for fake in fakes], atol=1e-5)


def test_ms_ssim_agrees_with_piq_where_no_edge_is_odd(face: np.ndarray) -> None:
    """Recorded with piq 0.8.0: multi_scale_ssim(fakes, reals, data_range=255.0, reduction="none") in float64."""
    image = np.asarray(Image.fromarray(face).resize((256, 256)))
    found = ms_ssim(batch(noisy(image, 25), blurred(image, 2)), batch(image, image))
    np.testing.assert_allclose(found, [0.824503, 0.953392], atol=1e-5)


def test_ms_ssim_of_a_negative_is_zero_with_a_finite_gradient(face: np.ndarray) -> None:
    fake = batch(255 - face).requires_grad_()
    value = ms_ssim(fake, batch(face))
    assert value.item() == 0
    value.sum().backward()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()


def test_ms_ssim_says_what_size_it_needs() -> None:
    small = torch.zeros(1, 1, 160, 300)
    with pytest.raises(ValueError, match="over 160"):
        ms_ssim(small, small)


# --- what all of them share


@pytest.mark.parametrize("name", METRICS)
def test_identity_is_the_maximum(face: np.ndarray, name: str) -> None:
    metric = METRICS[name]
    same = metric(batch(face), batch(face)).item()
    assert same == (math.inf if name == "psnr" else pytest.approx(1, abs=1e-6))
    assert metric(batch(noisy(face, 3)), batch(face)).item() < same


@pytest.mark.parametrize("name", METRICS)
def test_symmetry(face: np.ndarray, name: str) -> None:
    a, b = batch(noisy(face, 15)), batch(face)
    assert METRICS[name](a, b).item() == pytest.approx(METRICS[name](b, a).item(), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_more_blur_or_noise_scores_lower(face: np.ndarray, name: str) -> None:
    levels = [0.7, 1.5, 3.0, 6.0]
    for degrade, scale in ((blurred, 1.0), (noisy, 8.0)):
        fakes = [degrade(face, level * scale) for level in levels]
        values = METRICS[name](batch(*fakes), batch(*[face] * len(levels)))
        assert (values.diff() < 0).all(), (degrade.__name__, values)


@pytest.mark.parametrize("name", METRICS)
def test_results_are_per_image_and_independent_of_the_batch(face: np.ndarray, name: str) -> None:
    fakes, reals = batch(noisy(face, 5), blurred(face, 2), 255 - face), batch(face, face, face)
    together = METRICS[name](fakes, reals)
    apart = torch.cat([METRICS[name](fakes[i : i + 1], reals[i : i + 1]) for i in range(3)])
    assert together.shape == (3,)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", METRICS)
def test_gradients_are_finite_and_flow(face: np.ndarray, name: str, channels: int) -> None:
    real = batch(face)[..., :176, :176].expand(-1, channels, -1, -1)
    fake = (real * 0.9 + 10).clone().requires_grad_()
    METRICS[name](fake, real).sum().backward()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()
    assert fake.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "fsim", "fsimc"])
@pytest.mark.parametrize("levels", [(0, 0), (255, 255), (0, 255), (128, 131)])
def test_constant_images_give_numbers_and_gradients(name: str, levels: tuple[int, int]) -> None:
    fake, real = (torch.full((1, 1, 176, 200), float(level)) for level in levels)
    fake.requires_grad_()
    value = METRICS[name](fake, real)
    value.sum().backward()
    assert value.isfinite().all()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()
    if levels[0] == levels[1]:
        assert value.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_wrong_inputs_are_named(name: str) -> None:
    metric, image = METRICS[name], torch.zeros(2, 1, 176, 176)
    with pytest.raises(ValueError, match="differ in shape"):
        metric(image, torch.zeros(2, 1, 176, 177))
    with pytest.raises(ValueError, match="differ in shape"):
        metric(image, torch.zeros(1, 1, 176, 176))
    with pytest.raises(ValueError, match="real must be"):
        metric(image, torch.zeros(176, 176))
    with pytest.raises(ValueError, match=r"not torch\.uint8"):
        metric(image.byte(), image.byte())


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(11, 40),
    width=st.integers(11, 40),
    low=st.integers(0, 200),
    spread=st.integers(1, 55),
)
@settings(max_examples=30, deadline=None)
def test_ssim_and_fsim_stay_in_range(seed: int, height: int, width: int, low: int, spread: int) -> None:
    generator = np.random.default_rng(seed)
    fake, real = batch(*generator.integers(low, low + spread, (2, height, width), np.uint8)).split(1)
    assert -1 <= ssim(fake, real).item() <= 1 + 1e-6
    assert 0 < fsim(fake, real).item() <= 1 + 1e-6


# --- geometry


def test_padding_puts_the_crop_in_rows_3_to_253_and_columns_28_to_228(face: np.ndarray) -> None:
    padded = to_geometry(batch(face), "padded256", fill=7.0)
    assert padded.shape == (1, 1, 256, 256)
    assert torch.equal(padded[..., 3:253, 28:228], batch(face))
    padded[..., 3:253, 28:228] = 7
    assert (padded == 7).all()


def test_the_crop_geometries_refuse_other_sizes_and_native_takes_them() -> None:
    square = torch.zeros(1, 1, 256, 256)
    for geometry in ("200x250", "padded256"):
        with pytest.raises(ValueError, match="256x256"):
            to_geometry(square, geometry)  # type: ignore[arg-type]
    assert to_geometry(square, "native") is square
    with pytest.raises(ValueError, match="unknown geometry"):
        to_geometry(square, "256")  # type: ignore[arg-type]


def test_grey_becomes_rgb_by_repetition() -> None:
    assert to_rgb(torch.rand(2, 1, 4, 4)).shape == (2, 3, 4, 4)
