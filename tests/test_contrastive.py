"""Where patches are taken and how they are compared: what CUT and FSS share."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from silverpoint.losses.contrastive import multilayer_nce, patch_nce
from silverpoint.losses.patches import Samples, draw_by_density, draw_uniform, take
from silverpoint.nets.antialiased import ENCODER_DEPTH, AntialiasedResNet9, Double, Halve
from silverpoint.nets.projection import ProjectionHeads

LAYERS = [0, 4, 8, 12, 16]


def unit_vectors(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape), dim=-1)


def slow_nce(queries, keys, cells, counts, temperature):
    """Eq. 9-10 as printed, one sample at a time in double precision; a doubled sample is written down twice."""
    images = []
    for q, k, where, often in zip(queries.double(), keys.double(), cells, counts, strict=True):
        entered = [i for i, n in enumerate(often.tolist()) for _ in range(int(n))]
        losses = []
        for i in entered:
            positive = math.exp(float(q[i] @ k[i]) / temperature)
            negatives = sum(
                math.exp(float(q[i] @ k[n]) / temperature) for n in entered if where[n] != where[i]
            )
            losses.append(-math.log(positive / (positive + negatives)))
        images.append(sum(losses) / len(losses) if losses else 0.0)
    return sum(images) / len(images)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 24), cells=st.integers(1, 40))
def test_the_loss_is_the_papers_with_samples_doubled_absent_and_sharing_cells(seed, samples, cells):
    torch.manual_seed(seed)
    q, k = unit_vectors(2, samples, 16), unit_vectors(2, samples, 16)
    where, often = torch.randint(cells, (2, samples)), torch.randint(3, (2, samples)).float()
    expected = slow_nce(q, k, where, often, 0.07)
    assert float(patch_nce(q, k, where, often, 0.07)) == pytest.approx(expected, abs=1e-5, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(patch_nce(q, k, where, often, 0.07)) == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_over_layers_it_is_the_mean_of_the_papers_with_each_layers_own_cells():
    torch.manual_seed(0)
    samples = Samples(
        torch.randint(8, (2, 16)), torch.randint(24, (2, 16)), torch.randint(3, (2, 16)).float()
    )
    # of an image of 8 x 24: itself, padded by 3, and four times smaller
    cells = [samples.cells(1, 3), samples.cells(4, 0)]
    drawn, source = ([torch.randn(2, 4, 14, 30), torch.randn(2, 6, 2, 6)] for _ in range(2))
    heads = ProjectionHeads([4, 6], 16)
    found = multilayer_nce(heads, drawn, source, cells, [samples.counts] * 2, 0.07)
    with torch.no_grad():
        queries, keys = (
            heads([take(f, *c) for f, c in zip(maps, cells, strict=True)]) for maps in (drawn, source)
        )
    expected = [
        slow_nce(q, k, 100 * rows + columns, samples.counts, 0.07)
        for q, k, (rows, columns) in zip(queries, keys, cells, strict=True)
    ]
    assert float(found.detach()) == pytest.approx(sum(expected) / 2, abs=1e-5, rel=1e-5)


def test_half_precision_features_are_compared_in_single():
    q, k = unit_vectors(1, 20, 16).bfloat16(), unit_vectors(1, 20, 16).bfloat16()
    where, often = torch.arange(20)[None], torch.ones(1, 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = patch_nce(q, k, where, often, 0.07)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(slow_nce(q.float(), k.float(), where, often, 0.07), abs=1e-5)


def test_with_every_sample_once_the_loss_is_cross_entropy():
    q, k = unit_vectors(3, 32, 16), unit_vectors(3, 32, 16)
    expected = F.cross_entropy((q @ k.mT / 0.07).flatten(0, 1), torch.arange(32).repeat(3))
    found = patch_nce(q, k, torch.arange(32).repeat(3, 1), torch.ones(3, 32), 0.07)
    torch.testing.assert_close(found, expected)


def test_gradients_reach_the_queries_as_they_should_and_never_the_keys():
    q = unit_vectors(1, 6, 8).double().requires_grad_()
    k = unit_vectors(1, 6, 8).requires_grad_()
    cells, counts = torch.tensor([[0, 1, 1, 2, 3, 4]]), torch.tensor([[1.0, 2.0, 1.0, 0.0, 2.0, 1.0]])
    patch_nce(q, k, cells, counts, 0.5).backward()
    assert k.grad is None
    assert torch.equal(q.grad[0, 3], torch.zeros(8).double())  # the absent one
    step = torch.zeros_like(q)
    step[0, 1, 2] = 1e-4
    with torch.no_grad():
        slope = (slow_nce(q + step, k, cells, counts, 0.5) - slow_nce(q - step, k, cells, counts, 0.5)) / 2e-4
    assert float(q.grad[0, 1, 2]) == pytest.approx(slope, rel=1e-3)


def test_one_matrix_per_image_is_kept_for_the_backward_pass():
    batch, samples, dim = 2, 192, 8
    q, k = unit_vectors(batch, samples, dim).requires_grad_(), unit_vectors(batch, samples, dim)
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        patch_nce(q, k, torch.arange(samples).repeat(batch, 1), torch.ones(batch, samples), 0.07)
    matrices, vectors = 4 * batch * samples**2, 4 * batch * samples * dim
    assert matrices <= sum(kept.values()) <= matrices + 8 * vectors


# ---- where the samples fall ------------------------------------------------------------------------------------


def two_regions(height: int = 64, width: int = 48, images: int = 2) -> torch.Tensor:
    """Densities of hair above the middle and of a face below, falling from left to right."""
    densities = torch.zeros(images, 2, height, width)
    slope = torch.linspace(1, 0.1, width)
    densities[:, 0, 4 : height // 2, 4:-4] = slope[4:-4]
    densities[:, 1, height // 2 : -4, 8:-8] = slope[8:-8]
    return densities


def test_samples_fall_in_their_regions_in_the_numbers_of_the_paper():
    densities = two_regions()
    samples = draw_by_density(densities, (128, 256), None)
    assert samples.counts.shape == (2, 128 + 256)
    for region, part in ((0, slice(0, 128)), (1, slice(128, None))):
        values = take(densities[:, region : region + 1], samples.rows[:, part], samples.columns[:, part])
        assert (values > 0).all()
    assert torch.equal(samples.counts, torch.ones(2, 384))
    for rows, columns in zip(samples.rows, samples.columns, strict=True):
        assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 384  # all different


def test_doubled_are_exactly_the_samples_above_the_threshold():
    densities = two_regions()
    samples = draw_by_density(densities, (128, 256), 0.75)
    for region, part in ((0, slice(0, 128)), (1, slice(128, None))):
        inside = densities[0, region][densities[0, region] > 0]
        threshold = float(np.quantile(inside.numpy(), 0.75))
        values = take(densities[:, region : region + 1], samples.rows[:, part], samples.columns[:, part])
        expected = 1 + (values[..., 0] > threshold).float()
        assert torch.equal(samples.counts[:, part], expected)
        assert 1 < samples.counts[:, part].mean() < 2


def test_a_place_is_drawn_as_often_as_its_density_says():
    torch.manual_seed(0)
    densities = torch.tensor([1.0, 2.0, 0.0, 5.0]).view(1, 1, 1, 4).expand(4000, -1, -1, -1)
    drawn = draw_by_density(densities, (1,), None).columns.flatten()
    shares = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.125, 0.25, 0.0, 0.625]), atol=0.03, rtol=0)


def test_flat_densities_double_nothing():
    assert float(draw_by_density((two_regions() > 0).float(), (128, 256), 0.75).counts.max()) == 1


def test_a_region_of_few_pixels_gives_as_many_samples_as_it_has():
    densities = two_regions(images=3)
    densities[1, 0] = 0  # no hair
    densities[2, 1] = 0
    densities[2, 1, 40, 20:25] = 0.9  # a tiny face
    samples = draw_by_density(densities, (128, 256), 0.75)
    assert samples.rows.shape == (3, 384)  # no shape depends on the image
    assert int((samples.counts[1, :128] > 0).sum()) == 0
    assert int((samples.counts[2, 128:] > 0).sum()) == 5
    heads = ProjectionHeads([4], 8)
    features = [torch.randn(3, 4, 64, 48)]
    cells = [samples.cells(1, 0)]
    loss = multilayer_nce(heads, features, features, cells, [samples.counts], 0.07)
    assert torch.isfinite(loss)
    nothing = Samples(samples.rows, samples.columns, torch.zeros_like(samples.counts))
    assert float(multilayer_nce(heads, features, features, cells, [nothing.counts], 0.07).detach()) == 0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_uniform(2, (32, 40), 50, torch.device("cpu")),
        lambda: draw_by_density(two_regions(), (9, 9), 0.5),
    ],
)
def test_a_seed_repeats_the_samples_and_images_have_their_own(draw):
    first, second = (torch.manual_seed(3) and draw() for _ in range(2))
    assert torch.equal(first.rows, second.rows)
    assert torch.equal(first.columns, second.columns)
    assert not torch.equal(first.rows[0], first.rows[1])
    torch.manual_seed(4)
    assert not torch.equal(draw().rows, first.rows)


def test_uniform_samples_are_different_places_over_all_of_the_map():
    samples = draw_uniform(1, (16, 20), 320, torch.device("cpu"))
    assert len(set(zip(samples.rows[0].tolist(), samples.columns[0].tolist(), strict=True))) == 320
    assert draw_uniform(1, (4, 4), 256, torch.device("cpu")).rows.shape == (1, 16)


# ---- the encoder and its layers --------------------------------------------------------------------------------


def test_layers_are_numbered_as_in_cut():
    net = AntialiasedResNet9(4, 1, width=8)
    shapes = [tuple(f.shape[1:]) for f in net.encode(torch.zeros(1, 4, 64, 48), LAYERS)]
    assert shapes == [(4, 70, 54), (16, 64, 48), (32, 32, 24), (32, 16, 12), (32, 16, 12)]
    assert [net.tap_channels(n) for n in LAYERS] == [s[0] for s in shapes]
    assert isinstance(net.layers[ENCODER_DEPTH], Double)


def test_the_generator_is_the_one_of_cut():
    with torch.device("meta"):
        net = AntialiasedResNet9(3, 3)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(11.378e6, rel=1e-3)  # as CUT prints it


def test_one_pass_gives_the_image_and_what_encoding_gives():
    net, image = AntialiasedResNet9(3, 1, width=8), torch.randn(2, 3, 32, 32)
    drawn, features = net.forward_with_taps(image, LAYERS)
    torch.testing.assert_close(drawn, net(image))
    for ours, expected in zip(features, net.encode(image, LAYERS), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_pixel_and_its_cell_correspond_at_every_layer():
    net = AntialiasedResNet9(3, 1, width=8).double()
    for module in net.modules():
        if isinstance(module, nn.InstanceNorm2d):
            module.forward = lambda x: x  # statistics reach everywhere; the convolutions are what is measured
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1e-2)
    image = (torch.rand(1, 3, 96, 96).double() + 1).requires_grad_()
    rows, columns = torch.tensor([[40, 41, 50, 55]]), torch.tensor([[47, 40, 52, 39]])
    samples = Samples(rows, columns, torch.ones(1, 4))
    for layer, features in zip(LAYERS, net.encode(image, LAYERS), strict=True):
        stride, offset = net.tap_geometry(layer)
        inside = features.shape[2] - 2 * offset
        cells = samples.cells(stride, offset)
        assert torch.equal(cells[0], (rows * inside).div(96, rounding_mode="floor") + offset)
        for n, value in enumerate(take(features, *cells)[0].sum(1)):
            (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
            weight = gradient[0].abs().sum(0)
            centre_y = float((weight.sum(1) * torch.arange(96)).sum() / weight.sum())
            centre_x = float((weight.sum(0) * torch.arange(96)).sum() / weight.sum())
            assert abs(centre_y - float(rows[0, n])) < stride
            assert abs(centre_x - float(columns[0, n])) < stride
    padded = net.encode(image, [0])[0]
    torch.testing.assert_close(take(padded, *samples.cells(*net.tap_geometry(0))), take(image, rows, columns))


def test_halving_and_doubling_blur_by_binomial_filters():
    image = torch.randn(1, 2, 12, 16)
    three, four = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
    blurred = torch.stack(
        [F.conv2d(c[:, None], torch.outer(three, three)[None, None])[:, 0] for c in padded.unbind(1)], 1
    )
    torch.testing.assert_close(Halve(2)(image), blurred[:, :, ::2, ::2])
    spread = torch.zeros(1, 2, 28, 36)
    spread[:, :, ::2, ::2] = F.pad(image, (1, 1, 1, 1), mode="replicate")
    spread = F.pad(spread, (1, 1, 1, 1))
    blurred = torch.stack(
        [F.conv2d(c[:, None], torch.outer(four, four)[None, None])[:, 0] for c in spread.unbind(1)], 1
    )
    torch.testing.assert_close(Double()(image), blurred[:, :, 1:25, 1:33])


def test_projections_are_unit_vectors_in_single_precision():
    heads = ProjectionHeads([3, 8], 16)
    features = [1e-4 * torch.randn(2, 5, 3).bfloat16(), torch.randn(2, 5, 8)]
    with torch.autocast("cpu", torch.bfloat16):
        projected = heads(features)
    for p in projected:
        assert (p.shape, p.dtype) == ((2, 5, 16), torch.float32)
        torch.testing.assert_close(p.norm(dim=-1), torch.ones(2, 5))


def test_taking_is_indexing():
    features = torch.randn(2, 3, 5, 6)
    rows, columns = torch.tensor([[0, 4], [2, 3]]), torch.tensor([[5, 1], [0, 2]])
    found = take(features, rows, columns)
    assert torch.equal(found[0, 1], features[0, :, 4, 1])
    assert torch.equal(found[1, 0], features[1, :, 2, 0])
    other = take(features.contiguous(memory_format=torch.channels_last), rows, columns)
    assert torch.equal(found, other)
