"""LPIPS: the formula with made-up weights, and the published weights where they are cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from silverpoint.assets import ASSETS, cache_dir
from silverpoint.errors import AssetError
from silverpoint.metrics import LPIPS, load_lpips, lpips
from silverpoint.metrics.lpips import LEAST_SIDE, NETWORKS, Backbone
from silverpoint.metrics.rivals import blurred

NEEDED = ("lpips-alexnet", "lpips-vgg16", "lpips-heads")
needs_weights = pytest.mark.skipif(
    not all((cache_dir() / ASSETS[name].filename).exists() for name in NEEDED),
    reason=f"not in the cache: {', '.join(NEEDED)}",
)


RECORDED = {"alex": 0.4341, "vgg": 0.5192}  # the mirrored portrait against itself


def made_up(backbone: str) -> LPIPS:
    torch.manual_seed(0)
    net = LPIPS(backbone)  # type: ignore[arg-type]
    for head in net.heads:
        head.uniform_(0, 1)
    return net


def images(count: int = 2, channels: int = 3, height: int = 64, width: int = 72, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 255


@pytest.mark.parametrize("backbone", NETWORKS)
def test_it_is_the_published_formula(backbone: str) -> None:
    """Position by position: unit vectors across channels, weighted squared differences, mean over positions."""
    net, fake, real = made_up(backbone), images(1, seed=1), images(1, seed=2)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def features(image: Tensor) -> list[np.ndarray]:
        rgb = image / 255 * 2 - 1
        normalised = (rgb - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
        return [layer[0].double().numpy() for layer in net.backbone(normalised)]

    expected = 0.0
    for a, b, head in zip(features(fake), features(real), net.heads, strict=True):
        layer = 0.0
        for row in range(a.shape[1]):
            for column in range(a.shape[2]):
                u, v = a[:, row, column], b[:, row, column]
                u, v = u / (np.linalg.norm(u) + 1e-10), v / (np.linalg.norm(v) + 1e-10)
                layer += float((head.double().numpy() * (u - v) ** 2).sum())
        expected += layer / (a.shape[1] * a.shape[2])
    assert net(fake, real).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_taps_have_the_channels_the_heads_weigh(backbone: str) -> None:
    net = made_up(backbone)
    assert [layer.shape[1] for layer in net.backbone(images(1))] == [len(head) for head in net.heads]
    assert len(net.heads) == (7 if backbone == "squeeze" else 5)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_properties(backbone: str) -> None:
    net, fake, real = made_up(backbone), images(3, seed=1), images(3, seed=2)
    assert net(fake, fake).abs().max() == 0
    torch.testing.assert_close(net(fake, real), net(real, fake))
    apart = torch.cat([net(fake[i : i + 1], real[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(net(fake, real), apart, rtol=1e-4, atol=1e-6)
    levels = [real + strength * (fake - real) for strength in (0.1, 0.3, 1.0)]
    values = torch.stack([net(level, real).mean() for level in levels])
    assert (values.diff() > 0).all()


@pytest.mark.parametrize("backbone", NETWORKS)
def test_gradients_are_finite_even_between_equal_and_constant_images(backbone: str) -> None:
    net, real = made_up(backbone), images(2, 1)
    for start in (real, torch.zeros_like(real), torch.full_like(real, 255.0)):
        fake = start.clone().requires_grad_()
        value = net(fake, real)
        value.sum().backward()
        assert value.isfinite().all()
        assert fake.grad is not None
        assert fake.grad.isfinite().all()


def test_grey_is_rgb_with_equal_channels() -> None:
    net, fake, real = made_up("alex"), images(1, 1, seed=1), images(1, 1, seed=2)
    torch.testing.assert_close(net(fake, real), net(fake.expand(-1, 3, -1, -1), real.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_least_size_is_the_least_that_works(backbone: str) -> None:
    net, least = made_up(backbone), LEAST_SIDE[backbone]  # type: ignore[index]
    assert net(images(1, 1, least, least), images(1, 1, least, least, seed=1)).isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} pixels"):
        net(images(1, 1, least - 1, 80), images(1, 1, least - 1, 80))


def test_squeeze_says_where_its_weights_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SILVERPOINT_SQUEEZENET", raising=False)
    with pytest.raises(AssetError, match="SILVERPOINT_SQUEEZENET"):
        load_lpips("squeeze")


@needs_weights
def test_squeeze_loads_a_torchvision_state_dict_from_a_path(tmp_path: Path) -> None:
    weights = made_up("squeeze").backbone.state_dict()
    path = tmp_path / "squeezenet.pth"
    torch.save(weights | {"classifier.1.weight": torch.zeros(1000, 512, 1, 1)}, path)
    net = load_lpips("squeeze", path)
    assert torch.equal(
        net.backbone.state_dict()["features.3.squeeze.weight"], weights["features.3.squeeze.weight"]
    )
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(AssetError, match="not the weights of a SqueezeNet"):
        load_lpips("squeeze", path)
    with pytest.raises(AssetError, match="no such file"):
        load_lpips("squeeze", tmp_path / "none.pth")


@needs_weights
def test_heads_are_not_negative() -> None:
    assert all((head >= 0).all() for head in load_lpips("alex").heads)


@pytest.fixture
def face(portrait: Path) -> np.ndarray:
    """(250, 200) uint8."""
    with Image.open(portrait) as image:
        return np.asarray(image.convert("L").crop((100, 60, 540, 610)).resize((200, 250)))


@needs_weights
@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_more_blur_or_noise_is_farther(face: np.ndarray, backbone: Backbone) -> None:
    net, noise = load_lpips(backbone), np.random.default_rng(0).normal(size=face.shape)
    small = face[60:188, 36:164]  # eyes to mouth
    for fakes in (
        [blurred(small, sigma) for sigma in (0.7, 1.5, 3.0)],
        [(small + level * noise[60:188, 36:164]).clip(0, 255) for level in (6, 15, 40)],
    ):
        batch = torch.from_numpy(np.stack(fakes)).float()[:, None]
        real = torch.from_numpy(small.copy()).float().expand_as(batch)
        values = net(batch, real)
        assert values[0] > 0
        assert (values.diff() > 0).all(), values


@needs_weights
def test_published_weights_on_a_photograph(face: np.ndarray) -> None:
    """Recorded here; tied to the published values by the CUFS figures of test_metrics_cufs.py."""
    real = torch.from_numpy(face.copy()).float()[None, None]
    mirrored = real.flip(3)
    assert lpips(mirrored, real).item() == pytest.approx(RECORDED["alex"], abs=2e-3)
    assert load_lpips("vgg")(mirrored, real).item() == pytest.approx(RECORDED["vgg"], abs=2e-3)


def test_the_assets_named_here_exist() -> None:
    from silverpoint.metrics.measure import NETWORK_ASSETS

    networks = {network for assets in NETWORK_ASSETS.values() for network in assets}
    assert networks - set(ASSETS) == {"squeezenet"}  # it is none of ours
