"""FSIM against an independent transcription of the authors' FeatureSIM.m, and against recorded values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import convolve2d
from torch import Tensor

from silverpoint.metrics import fsim, fsimc
from silverpoint.metrics.fsim import feature_maps, similarity
from silverpoint.metrics.phase_congruency import _median, phase_congruency


def phasecong2(im: np.ndarray) -> np.ndarray:
    """FeatureSIM.m's phasecong2, statement by statement: complex FFTs over the whole plane, float64."""
    nscale, norient, min_wavelength, mult = 4, 4, 6, 2
    sigma_onf, dtheta_on_sigma, k, epsilon = 0.55, 1.2, 2.0, 0.0001
    theta_sigma = np.pi / norient / dtheta_on_sigma
    rows, cols = im.shape
    imagefft = np.fft.fft2(im)

    def axis(n: int) -> np.ndarray:
        if n % 2:
            return np.arange(-(n - 1) / 2, (n - 1) / 2 + 1) / (n - 1)
        return np.arange(-n / 2, n / 2) / n

    x, y = np.meshgrid(axis(cols), axis(rows))
    radius = np.fft.ifftshift(np.sqrt(x**2 + y**2))
    theta = np.fft.ifftshift(np.arctan2(-y, x))
    lp = 1.0 / (1.0 + (radius / 0.45) ** (2 * 15))
    radius[0, 0] = 1
    sintheta, costheta = np.sin(theta), np.cos(theta)
    log_gabor = []
    for s in range(nscale):
        fo = 1.0 / (min_wavelength * mult**s)
        filt = np.exp(-(np.log(radius / fo) ** 2) / (2 * np.log(sigma_onf) ** 2)) * lp
        filt[0, 0] = 0
        log_gabor.append(filt)
    energy_all, an_all = np.zeros((rows, cols)), np.zeros((rows, cols))
    for o in range(norient):
        angl = o * np.pi / norient
        ds = sintheta * np.cos(angl) - costheta * np.sin(angl)
        dc = costheta * np.cos(angl) + sintheta * np.sin(angl)
        spread = np.exp(-(np.abs(np.arctan2(ds, dc)) ** 2) / (2 * theta_sigma**2))
        eo, ifft_filters = [], []
        for s in range(nscale):
            filt = log_gabor[s] * spread
            ifft_filters.append(np.real(np.fft.ifft2(filt)) * np.sqrt(rows * cols))
            eo.append(np.fft.ifft2(imagefft * filt))
            if s == 0:
                em_n = np.sum(filt**2)
        sum_e, sum_o = sum(e.real for e in eo), sum(e.imag for e in eo)
        x_energy = np.sqrt(sum_e**2 + sum_o**2) + epsilon
        mean_e, mean_o = sum_e / x_energy, sum_o / x_energy
        energy = np.zeros((rows, cols))
        for e in eo:
            energy += e.real * mean_e + e.imag * mean_o - np.abs(e.real * mean_o - e.imag * mean_e)
        mean_e2n = -np.median(np.abs(eo[0]) ** 2) / np.log(0.5)
        noise_power = mean_e2n / em_n
        sum_an2 = sum(np.sum(f**2) for f in ifft_filters)
        sum_aiaj = sum(
            np.sum(ifft_filters[si] * ifft_filters[sj])
            for si in range(nscale)
            for sj in range(si + 1, nscale)
        )
        noise_energy2 = 2 * noise_power * sum_an2 + 4 * noise_power * sum_aiaj
        tau = np.sqrt(noise_energy2 / 2)
        noise_energy, noise_sigma = tau * np.sqrt(np.pi / 2), np.sqrt((2 - np.pi / 2) * tau**2)
        energy_all += np.maximum(energy - (noise_energy + k * noise_sigma) / 1.7, 0)
        an_all += sum(np.abs(e) for e in eo)
    return energy_all / an_all


def feature_sim(reference: np.ndarray, distorted: np.ndarray) -> tuple[float, float]:
    """FeatureSIM.m: FSIM and FSIMc of two uint8 images, (H, W) or (H, W, 3)."""
    rows, cols = reference.shape[:2]
    planes = []
    for image in (reference.astype(float), distorted.astype(float)):
        if image.ndim == 3:
            r, g, b = image[..., 0], image[..., 1], image[..., 2]
            planes.append(
                [
                    0.299 * r + 0.587 * g + 0.114 * b,
                    0.596 * r - 0.274 * g - 0.322 * b,
                    0.211 * r - 0.523 * g + 0.312 * b,
                ]
            )
        else:
            planes.append([image, np.ones((rows, cols)), np.ones((rows, cols))])
    f = max(1, int(np.floor(min(rows, cols) / 256 + 0.5)))
    kernel = np.ones((f, f)) / f**2
    first = f // 2  # MATLAB's conv2(..., 'same') starts ceil((f + 1) / 2), counted from 1

    def shrink(plane: np.ndarray) -> np.ndarray:
        return convolve2d(plane, kernel)[first : first + rows, first : first + cols][::f, ::f]

    (y1, i1, q1), (y2, i2, q2) = ([shrink(plane) for plane in side] for side in planes)
    pc1, pc2 = phasecong2(y1), phasecong2(y2)
    dx = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    g1, g2 = (np.hypot(convolve2d(y, dx, "same"), convolve2d(y, dx.T, "same")) for y in (y1, y2))
    t1, t2, t3, t4, power = 0.85, 160, 200, 200, 0.03
    pc_sim = (2 * pc1 * pc2 + t1) / (pc1**2 + pc2**2 + t1)
    gradient_sim = (2 * g1 * g2 + t2) / (g1**2 + g2**2 + t2)
    pcm = np.maximum(pc1, pc2)
    i_sim = (2 * i1 * i2 + t3) / (i1**2 + i2**2 + t3)
    q_sim = (2 * q1 * q2 + t4) / (q1**2 + q2**2 + t4)
    sim = gradient_sim * pc_sim * pcm
    sim_c = sim * np.real((i_sim * q_sim + 0j) ** power)
    return float(sim.sum() / pcm.sum()), float(sim_c.sum() / pcm.sum())


def tensor(image: np.ndarray) -> Tensor:
    array = torch.from_numpy(image.copy()).float()
    return array[None, None] if array.ndim == 2 else array.permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def photo(portrait: Path) -> Image.Image:
    with Image.open(portrait) as image:
        return image.convert("RGB").crop((100, 60, 540, 610))


def distorted(image: np.ndarray, seed: int = 0) -> np.ndarray:
    """Shifted, of another contrast, noisy: another drawing of the same face."""
    moved = np.roll(image, (2, -1), axis=(0, 1)).astype(float) * 0.7 + 60
    return np.clip(moved + np.random.default_rng(seed).normal(0, 6, image.shape), 0, 255).astype(np.uint8)


# odd and even sides, small and beyond the size at which FSIM halves or thirds its input
@pytest.mark.parametrize(
    "size", [(200, 250), (256, 256), (201, 251), (40, 31), (400, 500), (421, 387), (640, 645)]
)
def test_grey_agrees_with_the_transcription(photo: Image.Image, size: tuple[int, int]) -> None:
    real = np.asarray(photo.convert("L").resize(size))
    fake = distorted(real)
    expected, _ = feature_sim(real, fake)
    assert fsim(tensor(fake), tensor(real)).item() == pytest.approx(expected, abs=2e-5)
    assert fsimc(tensor(fake), tensor(real)).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("size", [(200, 250), (400, 450)])
def test_colour_agrees_with_the_transcription(photo: Image.Image, size: tuple[int, int]) -> None:
    real = np.asarray(photo.resize(size))
    for fake in (distorted(real), distorted(real[..., ::-1])):  # the other's hues, some of them opposite
        expected, expected_c = feature_sim(real, fake)
        assert fsim(tensor(fake), tensor(real)).item() == pytest.approx(expected, abs=2e-5)
        assert fsimc(tensor(fake), tensor(real)).item() == pytest.approx(expected_c, abs=2e-5)
        assert expected_c < expected


def box_blurred(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    padded = np.pad(image.astype(int), ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return (sum(shifted) // 9).astype(np.uint8)


def moved(image: np.ndarray) -> np.ndarray:
    return np.roll(image, (2, -1), axis=(0, 1))


def coarse(image: np.ndarray) -> np.ndarray:
    return image // 64 * 64


# piq 0.8.0: piq.fsim(fake, real, data_range=255.0, chromatic=False), and the same with chromatic=True. Of the whole
# picture both take a third; piq averages 3x3 pixels from the corner, FeatureSIM.m around every third pixel, so that
# what is not smooth differs by up to 1e-2.
HALF, WHOLE = np.s_[60:560:2, 140:540:2], np.s_[:, :]  # 200x250 and 675x675


@pytest.mark.parametrize(
    ("part", "distort", "expected", "expected_c"),
    [
        (HALF, box_blurred, 0.928752, 0.928701),
        (HALF, moved, 0.812580, 0.812057),
        (HALF, coarse, 0.837404, 0.823378),
        (WHOLE, box_blurred, 0.997400, 0.997398),
    ],
)
def test_recorded_values_of_piq(
    portrait: Path,
    part: tuple[slice, slice],
    distort: Callable[[np.ndarray], np.ndarray],
    expected: float,
    expected_c: float,
) -> None:
    with Image.open(portrait) as image:
        real = np.asarray(image.convert("RGB"))[part]
    fake, real = tensor(distort(real)), tensor(real)
    assert fsim(fake, real).item() == pytest.approx(expected, abs=1e-3)
    assert fsimc(fake, real).item() == pytest.approx(expected_c, abs=1e-3)


def test_opposite_hues_take_the_real_part_of_a_complex_power() -> None:
    generator = np.random.default_rng(3)
    red = generator.integers(0, 60, (48, 48, 3), np.uint8) + np.array([190, 0, 0], np.uint8)
    cyan = 255 - red
    expected, expected_c = feature_sim(red, cyan)
    assert fsim(tensor(cyan), tensor(red)).item() == pytest.approx(expected, abs=2e-5)
    assert fsimc(tensor(cyan), tensor(red)).item() == pytest.approx(expected_c, abs=2e-5)


@pytest.mark.parametrize("size", [(48, 64), (47, 33)])
def test_phase_congruency_agrees_pixel_by_pixel(photo: Image.Image, size: tuple[int, int]) -> None:
    grey = np.asarray(photo.convert("L").resize(size))
    found = phase_congruency(tensor(grey)[0].double())[0].numpy()
    np.testing.assert_allclose(
        found, phasecong2(grey.astype(float)), atol=1e-3
    )  # torch's median is the lower
    assert found.min() >= 0
    assert found.max() <= 1


@given(
    count=st.integers(1, 3000),
    seed=st.integers(0, 999),
    kind=st.sampled_from(["spread", "tied", "sorted", "far"]),
)
@settings(max_examples=60, deadline=None)
def test_the_quick_median_is_the_median(count: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.rayleigh(10, count)
    if kind == "tied":
        values = values.round(-1)
    elif kind == "sorted":
        values.sort()
    elif kind == "far":  # the sample misleads: one value in many is elsewhere, just where the sample looks
        values[:: max(1, count // 512)] += 1000
    found = torch.from_numpy(values)
    assert _median(found) == found.median()


def test_single_precision_is_enough(photo: Image.Image) -> None:
    real = np.asarray(photo.convert("L").resize((200, 250)))
    fake = distorted(real)
    single, double = fsim(tensor(fake), tensor(real)), fsim(tensor(fake).double(), tensor(real).double())
    assert single.item() == pytest.approx(double.item(), abs=1e-6)


def test_a_side_can_be_analysed_once(photo: Image.Image) -> None:
    real = np.asarray(photo.convert("L").resize((200, 250)))
    fake = distorted(real)
    kept = feature_maps(tensor(real))
    torch.testing.assert_close(similarity(feature_maps(tensor(fake)), kept), fsim(tensor(fake), tensor(real)))


def test_filters_made_in_inference_mode_serve_training_too() -> None:
    image = torch.rand(1, 1, 29, 31) * 255  # a size no other test has cached
    with torch.inference_mode():
        fsim(image, image.flip(2))
    fake = image.flip(3).clone().requires_grad_()
    fsim(fake, image).sum().backward()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()


def test_gradient_agrees_with_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(1, 1, 24, 20, generator=generator, dtype=torch.double) * 255
    fake = (torch.rand(1, 1, 24, 20, generator=generator, dtype=torch.double) * 255).requires_grad_()
    (gradient,) = torch.autograd.grad(fsim(fake, real).sum(), fake)
    direction = torch.randn(fake.shape, generator=generator, dtype=torch.double)
    step = 1e-5
    ahead, behind = fsim(fake + step * direction, real), fsim(fake - step * direction, real)
    difference = ((ahead - behind) / (2 * step)).item()
    assert (gradient * direction).sum().item() == pytest.approx(difference, rel=1e-4)


def test_luminance_alone_does_not_matter(photo: Image.Image) -> None:
    """FSIM sees gradients and phase: a constant added to both sides changes only the frame beyond the border."""
    real = np.asarray(photo.convert("L").resize((200, 250))) // 2
    brighter = fsim(tensor(real + 60), tensor(real + 50)).item()
    assert brighter > 0.99
