"""FID against scipy's matrix square root, KID against loops, and the Inception network's shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor

from silverpoint.assets import ASSETS, cache_dir
from silverpoint.metrics import features_to_statistics, fid, inception_features, kid, statistics_to_fid
from silverpoint.nets.inception import Inception


def features(n: int, dimensions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(n, dimensions, generator=generator) @ mixing / dimensions**0.5 + 0.3 * seed


def fid_by_square_root(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(a @ b)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (64, 65), (200, 20)])
def test_fid_agrees_with_the_matrix_square_root(n: int, m: int) -> None:
    """Fewer images than features included, where the square root is only just to be had."""
    x, y = features(n, 32, 1).double(), features(m, 32, 2).double()
    expected = fid_by_square_root(x.numpy(), y.numpy())
    assert fid(x, y) == pytest.approx(expected, rel=1e-5)


def test_fid_below_the_rank_agrees_with_eigenvalues() -> None:
    """12 and 9 images of 64 features: tr (Sa Sb)^(1/2) is the sum of the roots of the eigenvalues of Sa Sb."""
    x, y = features(12, 64, 1).double(), features(9, 64, 2).double()
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    mean = float((x.mean(0) - y.mean(0)).square().sum())
    assert fid(x, y) == pytest.approx(mean + np.trace(a) + np.trace(b) - 2 * roots, rel=1e-5)


def test_fid_of_one_feature_is_the_distance_of_two_bells() -> None:
    x = torch.tensor([[0.0], [2.0]])  # mean 1, standard deviation sqrt 2
    y = torch.tensor([[5.0], [11.0]])  # mean 8, standard deviation sqrt 18
    assert fid(x, y) == pytest.approx((8 - 1) ** 2 + (18**0.5 - 2**0.5) ** 2)


def test_fid_of_a_shift_is_its_square() -> None:
    x = features(40, 16)
    shift = torch.arange(16.0) / 10
    assert fid(x, x + shift) == pytest.approx(shift.square().sum().item(), rel=1e-5)


@given(n=st.integers(2, 40), m=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_fid_is_a_symmetric_distance_blind_to_order(n: int, m: int, seed: int) -> None:
    x, y = features(n, 8, seed), features(m, 8, seed + 1)
    assert fid(x, x) == pytest.approx(0, abs=1e-8)
    assert fid(x, y) >= 0
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-6, abs=1e-8)
    assert fid(x, y) == pytest.approx(fid(x[torch.randperm(n)], y), rel=1e-6, abs=1e-8)


def test_statistics_are_the_mean_and_a_factor_of_the_covariance() -> None:
    for n in (5, 200):
        x = features(n, 24)
        found = features_to_statistics(x)
        covariance = np.cov(x.double().numpy(), rowvar=False)
        np.testing.assert_allclose(found.factor.T @ found.factor, covariance, atol=1e-12)
        np.testing.assert_allclose(found.mean, x.double().mean(0))
        assert found.factor.shape[0] == min(n, 24)
        assert found.n == n


def test_fid_of_too_few_or_unlike_features_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        fid(features(1, 8), features(5, 8))
    with pytest.raises(ValueError, match="different networks"):
        statistics_to_fid(features_to_statistics(features(5, 8)), features_to_statistics(features(5, 9)))


def kid_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def k(u: np.ndarray, v: np.ndarray) -> float:
        return (u @ v / len(u) + 1) ** 3

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    xy = sum(k(a, b) for a in x for b in y) / (m * n)
    return float(xx + yy - 2 * xy)


@pytest.mark.parametrize(("m", "n"), [(3, 3), (7, 5), (4, 12)])
def test_kid_and_its_error_agree_with_loops(m: int, n: int) -> None:
    x, y = features(m, 6, 1).double().numpy(), features(n, 6, 2).double().numpy()
    left_out = [[kid_by_loops(np.delete(x, i, 0), y) for i in range(m)]]
    left_out += [[kid_by_loops(x, np.delete(y, j, 0)) for j in range(n)]]
    variance = sum((len(v) - 1) / len(v) * np.sum((np.array(v) - np.mean(v)) ** 2) for v in left_out)
    found = kid(torch.from_numpy(x), torch.from_numpy(y))
    assert found.value == pytest.approx(kid_by_loops(x, y), rel=1e-10)
    assert found.error == pytest.approx(variance**0.5, rel=1e-8)


def test_kid_does_not_care_which_set_is_the_real_one() -> None:
    x, y = features(7, 6, 1), features(5, 6, 2)
    assert kid(x, y) == pytest.approx(kid(y, x), rel=1e-10)


def test_kid_is_unbiased_and_its_error_is_the_spread() -> None:
    """Over many draws of two equal distributions: the mean is 0, and the error bar is the draws' deviation."""
    generator = torch.Generator().manual_seed(0)
    draws = [
        kid(torch.randn(30, 8, generator=generator), torch.randn(40, 8, generator=generator))
        for _ in range(300)
    ]
    values = np.array([draw.value for draw in draws])
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    typical = np.mean([draw.error**2 for draw in draws]) ** 0.5
    # between equal distributions the statistic is degenerate and the jackknife errs on the safe side
    assert values.std() * 0.9 < typical < values.std() * 2
    shifted = [
        kid(torch.randn(30, 8, generator=generator) + 0.7, torch.randn(40, 8, generator=generator))
        for _ in range(300)
    ]
    spread = np.std([draw.value for draw in shifted])
    assert np.mean([draw.error**2 for draw in shifted]) ** 0.5 == pytest.approx(spread, rel=0.25)


def test_kid_of_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="n >= 3"):
        kid(features(2, 8), features(9, 8))


def test_inception_gives_2048_features_per_image_in_any_batching() -> None:
    torch.manual_seed(0)
    net = Inception()
    images = torch.rand(3, 1, 40, 30) * 255
    together, apart = inception_features([images], net), inception_features(images.split(1), net)
    assert together.shape == (3, 2048)
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-6)
    assert inception_features([], net).shape == (0, 2048)


def test_average_pooling_does_not_count_the_padding() -> None:
    """What sets FID's network apart from torchvision's: a constant stays constant up to the border."""
    from silverpoint.nets.inception import _average

    assert torch.equal(_average(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


@pytest.mark.skipif(
    not (cache_dir() / ASSETS["inception-fid"].filename).exists(), reason="not in the cache: inception-fid"
)
def test_published_weights_give_features_of_the_published_scale() -> None:
    """pool3 features are means of rectified activations: never negative, about 0.4 on average on photographs."""
    generator = torch.Generator().manual_seed(0)
    found = inception_features([torch.rand(2, 3, 64, 64, generator=generator) * 255])
    assert found.min() >= 0
    assert 0.1 < found.mean() < 1
