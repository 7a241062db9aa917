"""DA-GAN's distance, what hypothesis says of every metric, and the sizes of LPIPS's networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from silverpoint.metrics import VGGDistance, fsim, psnr, ssim
from silverpoint.nets.lpips_backbones import VGG16, AlexNet, SqueezeNet
from silverpoint.nets.vgg import VGG19


def small_vgg() -> nn.Module:
    torch.manual_seed(0)
    return VGG19(["relu3_4"])


def smooth(seed: int, *shape: int) -> Tensor:
    """Images (*shape, H, W) in [20, 235] with structure at every scale."""
    array = np.random.default_rng(seed).normal(size=shape).cumsum(axis=-1).cumsum(axis=-2)
    low, high = array.min(axis=(-1, -2), keepdims=True), array.max(axis=(-1, -2), keepdims=True)
    return torch.from_numpy((array - low) / (high - low) * 215 + 20).float()


def test_vgg_distance_is_eq_4_divided_by_the_size_of_the_map() -> None:
    net = small_vgg()
    fake, real = smooth(1, 2, 3, 40, 36), smooth(2, 2, 3, 40, 36)
    found = VGGDistance(net)(fake, real)
    for index in range(2):
        a, b = (net(side[index : index + 1] / 255)["relu3_4"][0].double() for side in (fake, real))
        assert a.shape == (256, 10, 9)
        frobenius = torch.linalg.vector_norm(a - b) ** 2
        assert found[index].item() == pytest.approx(frobenius.item() / (256 * 10 * 9), rel=1e-5)


def test_vgg_distance_is_zero_symmetric_and_gives_gradients() -> None:
    distance = VGGDistance(small_vgg())
    fake, real = smooth(1, 1, 1, 32, 32).requires_grad_(), smooth(2, 1, 1, 32, 32)
    assert distance(real, real).item() == 0
    torch.testing.assert_close(distance(fake, real), distance(real, fake))
    distance(fake, real).sum().backward()
    assert fake.grad is not None
    assert fake.grad.isfinite().all()
    assert fake.grad.abs().sum() > 0
    for level in (0.0, 255.0):
        constant = torch.full((1, 1, 32, 32), level)
        assert distance(constant, real).isfinite().all()
    with pytest.raises(ValueError, match="differ in shape"):
        distance(real, real[..., 1:])


@given(seed=st.integers(0, 10_000), height=st.integers(24, 48), width=st.integers(24, 48))
@settings(max_examples=25, deadline=None)
def test_more_of_the_same_noise_is_worse_to_every_metric(seed: int, height: int, width: int) -> None:
    real = smooth(seed, 1, 1, height, width)
    noise = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(1, 1, height, width))).float()
    fakes = torch.cat([real + strength * noise for strength in (0.0, 1.0, 6.0, 30.0)])
    for metric in (psnr, ssim, fsim):
        values = metric(fakes, real.expand(4, -1, -1, -1))
        assert (values.diff() < 0).all(), (metric.__name__, values)


@given(seed=st.integers(0, 10_000), height=st.integers(11, 40), width=st.integers(11, 40))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_two_images_does_not_matter(seed: int, height: int, width: int) -> None:
    a, b = smooth(seed, 1, 1, height, width), smooth(seed + 1, 1, 1, height, width)
    for metric in (psnr, ssim, fsim):
        assert metric(a, b).item() == pytest.approx(metric(b, a).item(), abs=2e-5)
        assert metric(a, a).item() >= metric(a, b).item()


# torchvision's counts of the convolutional part
@pytest.mark.parametrize(
    ("network", "parameters"), [(AlexNet, 2_469_696), (VGG16, 14_714_688), (SqueezeNet, 722_496)]
)
def test_backbones_have_as_many_weights_as_torchvisions(network: type[nn.Module], parameters: int) -> None:
    assert sum(p.numel() for p in network().parameters()) == parameters
