"""Phase congruency of Kovesi, with the constants of Zhang et al.'s FeatureSIM.m.

A pixel is a feature where the Fourier components of the image are in phase. Four scales by four orientations
of log-Gabor filters give each pixel an even and an odd response; PC is the energy their phases agree on, less
what noise alone would give, over the sum of the responses' amplitudes.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SCALES, ORIENTATIONS = 4, 4
MIN_WAVELENGTH, WAVELENGTH_RATIO = 6.0, 2.0
SIGMA_ON_F = 0.55  # sigma of the log-Gabor over its centre frequency: about two octaves
ANGULAR_SIGMA = math.pi / ORIENTATIONS / 1.2
LOW_PASS_CUTOFF, LOW_PASS_ORDER = 0.45, 15
NOISE_DEVIATIONS, NOISE_RESCALE = 2.0, 1.7
EPSILON, TINY = 1e-4, 1e-20
AMPLITUDE_FLOOR = 1e-6  # ours: the reference divides 0 by 0 on a constant image; amplitudes are 1 to 1000


def phase_congruency(grey: Tensor) -> Tensor:
    """PC map of a batch: grey (B, H, W) float in [0, 255] -> (B, H, W) in [0, 1]."""
    bank, noise_gains = _filter_bank(*grey.shape[-2:], grey.dtype, grey.device)
    if grey.device.type != "cpu":
        return _phase_congruency(grey, bank, noise_gains)
    # One image's responses fit the processor's cache; a batch's do not, which costs half the speed.
    return torch.cat([_phase_congruency(one, bank, noise_gains) for one in grey.split(1)])


def _phase_congruency(grey: Tensor, bank: Tensor, noise_gains: list[float]) -> Tensor:
    # Every filter is 0 at DC, so the mean changes nothing but float32's rounding.
    spectrum = torch.fft.rfft2(grey - grey.mean(dim=(1, 2), keepdim=True)).transpose(1, 2)
    # of the even and of the odd responses, (B, 2, 1, W // 2 + 1, H)
    spectra = torch.stack([spectrum, spectrum * 1j], dim=1)[:, :, None]
    energy_all, amplitude_all = torch.zeros_like(grey), torch.full_like(grey, AMPLITUDE_FLOOR)
    for filters, noise_gain in zip(bank, noise_gains, strict=True):
        # irfft2, in the layout that spares most copies: a third faster
        columns = torch.fft.ifft(spectra * filters, dim=4).transpose(3, 4).contiguous()
        responses = torch.fft.irfft(columns, n=grey.shape[2])  # (B, even and odd, scales, H, W)
        even, odd = responses.unbind(dim=1)
        # in place where autograd allows it: the work is bound by memory; TINY, as a root has no gradient at 0
        amplitude = even.square().addcmul_(odd, odd).add_(TINY).sqrt_()
        sums = responses.sum(dim=2)
        energy = sums.square().sum(dim=1).add_(TINY)
        length = energy.sqrt() + EPSILON
        mean_even, mean_odd = (sums / length[:, None])[:, :, None].unbind(dim=1)
        across = (even * mean_odd).addcmul_(odd, mean_even, value=-1).abs_().sum(dim=1)
        # of an even count's two middle values torch takes the lower, the reference their mean: 1e-6 in FSIM
        threshold = torch.stack([_median(finest) for finest in amplitude[:, 0]]) * noise_gain
        # the sum over scales of E mean_E + O mean_O - |E mean_O - O mean_E|, less the noise
        energy_all += (energy / length).sub_(across).sub_(threshold[:, None, None]).clamp_(min=0)
        amplitude_all += amplitude.sum(dim=1)
    return energy_all / amplitude_all


def _median(values: Tensor) -> Tensor:
    """values.median(), where no gradient is asked for in a quarter of the time: only the middle is searched."""
    if values.requires_grad or values.device.type != "cpu":
        return values.median()
    array = values.numpy().ravel()
    sample = np.sort(array[:: max(1, len(array) // 512)])
    low, high = sample[len(sample) * 2 // 5], sample[len(sample) * 3 // 5]
    middle = (len(array) - 1) // 2
    part, rank = array[(array >= low) & (array <= high)], middle - np.count_nonzero(array < low)
    if not 0 <= rank < len(part):  # the sample misled
        part, rank = array, middle
    return torch.as_tensor(np.partition(part, rank)[rank])


@lru_cache(maxsize=8)
def _filter_bank(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, list[float]]:
    """Filters on the half plane (orientations, even and odd, scales, W // 2 + 1, H), and noise gains.

    A filter G is real in frequency but not symmetric: ifft(F G) = even + i odd. With F the spectrum of a real
    image, even = irfft(F (G(k) + G(-k)) / 2) and odd = irfft(-i F (G(k) - G(-k)) / 2), which halves the plane.
    (PC does not see the sign of the odd part.) noise_gains[o] turns the median amplitude of the finest scale
    into the noise threshold T of that orientation: every other term in T depends on the filters alone.
    """
    filters = _log_gabor_filters(height, width)
    mirrored = np.roll(np.flip(filters, axis=(2, 3)), shift=(1, 1), axis=(2, 3))
    parts = np.stack([filters + mirrored, filters - mirrored], axis=1)[..., : width // 2 + 1] / 2
    # A cached tensor born in inference mode could never take part in a backward pass.
    with torch.inference_mode(False):
        bank = torch.from_numpy(np.ascontiguousarray(parts.swapaxes(-1, -2))).to(device, dtype)
    return bank, [_noise_gain(per_scale) for per_scale in filters]


def _noise_gain(filters: np.ndarray) -> float:
    """T / median |response of the finest scale| for one orientation's filters (scales, H, W)."""
    height, width = filters.shape[-2:]
    kernels = np.fft.ifft2(filters).real * math.sqrt(height * width)
    squares = (kernels**2).sum()
    crossed = ((kernels.sum(axis=0) ** 2).sum() - squares) / 2
    power = 1 / (math.log(2) * (filters[0] ** 2).sum())  # median of |response|^2 is log 2 times its mean
    tau = math.sqrt(power * (2 * squares + 4 * crossed) / 2)
    mean, deviation = tau * math.sqrt(math.pi / 2), tau * math.sqrt(2 - math.pi / 2)  # of a Rayleigh variable
    return (mean + NOISE_DEVIATIONS * deviation) / NOISE_RESCALE


def _log_gabor_filters(height: int, width: int) -> np.ndarray:
    """Log-Gabor filters (orientations, scales, H, W), frequencies in fft order."""
    y, x = np.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius, theta = np.hypot(x, y), np.arctan2(-y, x)
    low_pass = 1 / (1 + (radius / LOW_PASS_CUTOFF) ** (2 * LOW_PASS_ORDER))
    radius[0, 0] = 1
    bank = np.empty((ORIENTATIONS, SCALES, height, width))
    for orientation in range(ORIENTATIONS):
        angle = orientation * math.pi / ORIENTATIONS
        distance = np.abs(np.arctan2(np.sin(theta - angle), np.cos(theta - angle)))
        spread = np.exp(-(distance**2) / (2 * ANGULAR_SIGMA**2))
        for scale in range(SCALES):
            wavelength = MIN_WAVELENGTH * WAVELENGTH_RATIO**scale
            radial = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * math.log(SIGMA_ON_F) ** 2))
            bank[orientation, scale] = radial * low_pass * spread
    bank[..., 0, 0] = 0
    return bank


def _frequencies(size: int) -> np.ndarray:
    """The reference's frequency axis in fft order; for odd sizes it divides by size - 1, not size."""
    first = -(size // 2)
    return np.fft.ifftshift(np.arange(first, first + size) / (size - size % 2))
