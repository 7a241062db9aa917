import pytest
import torch
from torch import nn

from silverpoint.nets.bisenet import CLASSES, BiSeNet
from silverpoint.nets.init import normal_init
from silverpoint.nets.patchgan import PatchGAN
from silverpoint.nets.pencil import PencilNet
from silverpoint.nets.resnet import ResNet9
from silverpoint.nets.unet import UNet256


def randomised_pencil() -> PencilNet:
    torch.manual_seed(0)
    net = PencilNet(2).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
    return net


def test_pencil_draws_any_multiple_of_sixteen_in_range():
    net = randomised_pencil()
    with torch.no_grad():
        for h, w in ((32, 48), (256, 208)):
            y = net(torch.rand(2, 3, h, w) * 2 - 1, torch.eye(2))
            assert y.shape == (2, 1, h, w)
            assert float(y.abs().max()) <= 1


def test_the_style_acts():
    net, photo = randomised_pencil(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        difference = net(photo, torch.eye(2)[:1]) - net(photo, torch.eye(2)[1:])
    assert float(difference.abs().mean()) > 1e-3


def test_nothing_beyond_the_receptive_margin_changes_a_pixel():
    net, photo, style = (
        randomised_pencil().double(),
        torch.rand(1, 3, 32, 480).double(),
        torch.eye(2)[:1].double(),
    )
    changed = photo.clone()
    changed[..., 240:] = torch.rand(1, 3, 32, 240).double()
    with torch.no_grad():
        difference = (net(photo, style) - net(changed, style)).abs().amax((0, 1, 2))
    assert float(difference[: 240 - net.receptive_margin].max()) == 0
    assert (
        float(difference[240 - net.receptive_margin + 32 :].max()) > 0
    )  # and the margin is no wider than needed


def test_pencil_is_light_enough_to_ship():
    assert 2 * sum(p.numel() for p in PencilNet(4).parameters()) < 6e6


def test_unet_is_the_one_of_the_paper():
    net = UNet256(3, 3)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(
        54.41e6, rel=1e-3
    )  # as pix2pix prints it
    with torch.no_grad():
        assert net.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 256, 256)


def test_resnet_is_the_one_of_the_paper():
    net = ResNet9(3, 3)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(
        11.378e6, rel=1e-3
    )  # as CycleGAN prints it
    with torch.no_grad():
        assert net.eval()(torch.zeros(1, 3, 64, 48)).shape == (1, 3, 64, 48)


def test_patchgan_sees_seventy_pixels():
    net, image = (
        PatchGAN(1).eval().double(),
        torch.zeros(1, 1, 256, 256, dtype=torch.double, requires_grad=True),
    )
    for module in net.modules():
        if isinstance(module, nn.InstanceNorm2d):
            module.forward = lambda x: x  # statistics reach everywhere; the convolutions are what is measured
    logits = net(image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_without_norm_patchgan_sees_how_dark_a_patch_is():
    """Instance norm makes of a drawing and a paler print of it the same thing."""
    generator = torch.Generator().manual_seed(0)
    drawing = torch.randn(1, 1, 256, 256, generator=generator)
    for norm, sees in (("instance", False), ("none", True)):
        torch.manual_seed(0)
        net = PatchGAN(1, norm=norm, width=8).eval()
        torch.nn.init.zeros_(net.layers[0].bias)
        with torch.no_grad():
            dark, pale = net(drawing), net(drawing / 2)
        assert torch.allclose(dark, pale, atol=1e-2 * float(dark.std())) != sees


def test_the_parser_is_frozen_and_passes_gradients_to_the_image():
    net, image = BiSeNet().train(), torch.rand(1, 3, 64, 96, requires_grad=True)
    assert not net.training
    logits = net(image)
    assert logits.shape == (1, CLASSES, 64, 96)
    logits.square().mean().backward()
    assert float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for p in net.parameters())


def test_initialisation_has_the_spread_the_field_uses():
    net = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64))
    normal_init(net)
    assert float(net[0].weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(net[1].weight.detach().mean()) == pytest.approx(1.0, abs=0.02)
    assert float(net[0].bias.detach().abs().max()) == 0
