"""The graph losses against transcriptions of their equations, pixel by pixel and class by class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from silverpoint.losses.graphs import Graphs, class_nodes, graphs, inter_class_loss, intra_class_loss
from silverpoint.losses.parsing import log_odds, parsing_loss

K = 12


def slow_nodes(features, masks):
    """Eqs. 1-2 for one image: features (C, H, W), masks (K, H, W) -> {class: (mean, variance)} of those present."""
    found = {}
    channels, height, width = features.shape
    for c in range(len(masks)):
        size = sum(masks[c, i, j] for i in range(height) for j in range(width))
        if size == 0:
            continue
        mean, variance = np.zeros(channels), np.zeros(channels)
        for i in range(height):
            for j in range(width):
                mean += masks[c, i, j] * features[:, i, j] / size
        for i in range(height):
            for j in range(width):
                variance += masks[c, i, j] * (features[:, i, j] - mean) ** 2 / size
        found[c] = mean, variance
    return found


def slow_intra(fake, real, masks):
    """Eqs. 3 and 10; the squared norm of a class's map of cosines as a mean over its pixels."""
    total = 0.0
    fakes, reals = slow_nodes(fake, masks), slow_nodes(real, masks)
    _, height, width = fake.shape
    for c in fakes:
        for r in (0, 1):
            for i in range(height):
                for j in range(width):
                    cosines = []
                    for image, nodes in ((fake, fakes), (real, reals)):
                        pixel, node = image[:, i, j], nodes[c][r]
                        lengths = np.linalg.norm(pixel) * np.linalg.norm(node)
                        cosines.append(
                            pixel @ node / lengths if lengths else 0.0
                        )  # a class of one pixel: no variance
                    total += (cosines[1] - cosines[0]) ** 2 / (height * width)
    return total


def slow_inter(fake, real, masks):
    """Eqs. 4, 5 and 11, with distances per square root of a channel."""
    total = 0.0
    fakes, reals = slow_nodes(fake, masks), slow_nodes(real, masks)
    for c in fakes:
        for other in fakes:
            for r in (0, 1):
                edge = [
                    math.sqrt(sum((n[c][r] - n[other][r]) ** 2) / len(fake))  # E(c, other)
                    for n in (fakes, reals)
                ]
                total += (edge[1] - edge[0]) ** 2
    return total


def some_features(rng, channels=5, side=4, count=2):
    return np.abs(rng.normal(1, 1, (count, channels, side, side))) + 0.01


def some_masks(rng, present=(0, 1, 3, 11), side=4, count=2):
    numbers = rng.choice(present, (count, side, side))
    return (numbers[:, None] == np.arange(K)[:, None, None]).astype(float)


def tensors(*arrays, dtype=torch.float32):
    return [torch.tensor(a, dtype=dtype) for a in arrays]


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    channels=st.sampled_from([1, 3, 7]),
    present=st.sampled_from([(0,), (0, 5), tuple(range(K))]),
)
def test_both_losses_equal_the_slow_transcriptions(seed, channels, present):
    rng = np.random.default_rng(seed)
    fake, real = some_features(rng, channels), some_features(rng, channels)
    masks = some_masks(rng, present)
    f, r, m = tensors(fake, real, masks)
    ours = [float(loss(graphs(f, m), graphs(r, m))) for loss in (intra_class_loss, inter_class_loss)]
    for value, slow in zip(ours, (slow_intra, slow_inter), strict=True):
        expected = np.mean([slow(a, b, c) for a, b, c in zip(fake, real, masks, strict=True)])
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_nodes_of_a_hand_worked_class():
    features = torch.tensor([[[[1.0, 3.0], [10.0, 20.0]]]])
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    nodes = class_nodes(features.flatten(2), masks.flatten(2))
    torch.testing.assert_close(nodes[0, 0, :, 0], torch.tensor([2.0, 15.0, 0.0]))  # means
    torch.testing.assert_close(nodes[0, 1, :, 0], torch.tensor([1.0, 25.0, 0.0]))  # variances
    g = graphs(features, masks)
    assert float(g.inter[0, 0, 0, 1]) == pytest.approx(13.0)
    assert float(g.inter[0, 1, 0, 1]) == pytest.approx(24.0)
    assert g.present.tolist() == [[1.0, 1.0, 0.0]]


def test_the_variance_as_printed_takes_in_every_pixel():
    rng = np.random.default_rng(2)
    features, masks = some_features(rng, 3), some_masks(rng)
    printed = class_nodes(*(t.flatten(2) for t in tensors(features, masks)), outside=1.0)
    for image, parts, (means, variances) in zip(features, masks, printed, strict=True):
        for c, part in enumerate(parts):
            if size := part.sum():
                mean = (part * image).sum((1, 2)) / size
                variance = ((part * image - mean[:, None, None]) ** 2).sum((1, 2)) / size
                np.testing.assert_allclose(means[c], mean, rtol=1e-5)
                np.testing.assert_allclose(variances[c], variance, rtol=1e-5)
            else:
                assert not means[c].any()
                assert not variances[c].any()


def test_a_class_of_one_tone_has_no_variance_and_no_rounding_for_it():
    features = torch.full((1, 4, 64, 64), 37.0)
    features[..., 32:] = torch.rand(1, 4, 64, 32)
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, 0, :, :32], masks[:, 1, :, 32:] = 1, 1
    variance = class_nodes(features.flatten(2), masks.flatten(2))[0, 1]
    assert float(variance[0].max()) < 1e-6 * float(variance[1].min())
    assert float(graphs(features, masks).intra[0, 1, 0].abs().max()) < 1e-3


def test_absent_classes_give_neither_nan_nor_gradient():
    rng = np.random.default_rng(0)
    fake, real, masks = tensors(some_features(rng), some_features(rng), some_masks(rng, (2, 7)))
    fake.requires_grad_()
    for loss in (intra_class_loss, inter_class_loss):
        alone = masks[:, [2, 7]]
        value = loss(graphs(fake, masks), graphs(real, masks))
        torch.testing.assert_close(value, loss(graphs(fake, alone), graphs(real, alone)))
        (gradient,) = torch.autograd.grad(value, fake)
        (gradient_alone,) = torch.autograd.grad(loss(graphs(fake, alone), graphs(real, alone)), fake)
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(gradient, gradient_alone)


def test_no_class_at_all_is_no_loss():
    fake = torch.rand(1, 3, 4, 4, requires_grad=True)
    g = graphs(fake, torch.zeros(1, K, 4, 4))
    for loss in (intra_class_loss, inter_class_loss):
        value = loss(g, graphs(torch.rand(1, 3, 4, 4), torch.zeros(1, K, 4, 4)))
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, fake, retain_graph=True)
        assert float(gradient.abs().max()) == 0


@pytest.mark.parametrize("black", [np.s_[..., 0, 0], np.s_[...]])
def test_black_pixels_and_equal_nodes_give_gradients_of_a_size_to_learn_from(black):
    torch.manual_seed(0)
    fake, real = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    fake[black] = 0
    fake.requires_grad_()
    masks = tensors(some_masks(np.random.default_rng(0), side=8, count=1))[0]
    for loss in (intra_class_loss, inter_class_loss):
        (gradient,) = torch.autograd.grad(loss(graphs(fake, masks), graphs(real, masks)), fake)
        assert torch.isfinite(gradient).all()
        assert float(gradient.abs().max()) < 1e4


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(3)
    fake, real, masks = tensors(
        some_features(rng, 3, 4, 1),
        some_features(rng, 3, 4, 1),
        some_masks(rng, (0, 1, 2), 4, 1),
        dtype=torch.double,
    )
    fake.requires_grad_()
    for loss in (intra_class_loss, inter_class_loss):
        torch.autograd.gradcheck(lambda x, loss=loss: loss(graphs(x, masks), graphs(real, masks)), fake)


def test_a_class_of_six_pixels_counts_as_much_as_one_of_thousands():
    """The adaptive re-weighting (section III-C): the same fault in an eye or in the skin costs the same."""
    torch.manual_seed(0)
    side, eye, skin = 64, slice(0, 1), slice(1, 2)
    masks = torch.zeros(1, 2, side, side)
    masks[:, 0, 10, 10:16] = 1  # six pixels
    masks[:, 1] = 1 - masks[:, 0]
    real = torch.rand(1, 8, side, side) + 0.5
    fault = torch.randn(1, 8, 1, 1)
    costs = {}
    for name, part, sign in (("eye", eye, 1), ("skin", skin, -1)):  # so that both part by as much
        fake = real + 0.2 * sign * fault * masks[:, part]
        f, r = graphs(fake, masks), graphs(real, masks)
        costs[name] = (
            float(inter_class_loss(f, r)),
            float(intra_class_loss(f, r)),
            float((fake - real).square().mean()),  # what a plain distance says
        )
    inter, intra, plain = (a / b for a, b in zip(costs["eye"], costs["skin"], strict=True))
    assert inter == pytest.approx(1.0, rel=1e-3)
    assert intra > 0.3
    assert plain < 1e-2


def test_on_a_grey_image_the_cosine_is_a_sign_and_teaches_nothing():
    """Section III-C calls F the sketch itself: of one channel, or of three equal ones, IAG has no gradient."""
    torch.manual_seed(0)
    masks = tensors(some_masks(np.random.default_rng(1), side=8, count=1))[0]
    grey, target = torch.rand(1, 1, 8, 8) * 2 - 1, torch.rand(1, 1, 8, 8) * 2 - 1
    for channels in (1, 3):
        fake = grey.clone().requires_grad_()
        f, r = (
            graphs(fake.expand(-1, channels, -1, -1), masks),
            graphs(target.expand(-1, channels, -1, -1), masks),
        )
        cosines = f.intra.detach()
        assert float((cosines - cosines.sign()).abs().max()) < 1e-5
        (gradient,) = torch.autograd.grad(intra_class_loss(f, r), fake)
        assert float(gradient.abs().max()) < 1e-5
    # in colour, and in the features of a network, it has one
    for channels in (3, 16):
        fake = torch.rand(1, channels, 8, 8, requires_grad=True)
        loss = intra_class_loss(graphs(fake, masks), graphs(torch.rand(1, channels, 8, 8), masks))
        assert float(torch.autograd.grad(loss, fake)[0].abs().max()) > 1e-3


def test_the_structural_graph_lives_on_grey_images_too():
    masks = tensors(some_masks(np.random.default_rng(1), side=8, count=1))[0]
    fake = torch.rand(1, 1, 8, 8, requires_grad=True)
    loss = inter_class_loss(graphs(fake, masks), graphs(torch.rand(1, 1, 8, 8), masks))
    assert float(torch.autograd.grad(loss, fake)[0].abs().max()) > 1e-3


def test_low_precision_features_are_computed_with_in_float32():
    masks = tensors(some_masks(np.random.default_rng(1), side=8, count=1))[0]
    with torch.autocast("cpu", torch.bfloat16):
        g = graphs(torch.rand(1, 4, 8, 8).bfloat16(), masks)
    assert isinstance(g, Graphs)
    assert g.intra.dtype == g.inter.dtype == torch.float32


# ---- the parser's loss (Eq. 9) ------------------------------------------------------------------------------------

GROUPS = torch.tensor([[True, False, False, False], [False, True, True, False], [False, False, False, True]])


def test_log_odds_are_those_of_the_summed_probabilities():
    logits = torch.randn(2, 4, 3, 3) * 3
    p = torch.einsum("kn,bnhw->bkhw", GROUPS.float(), logits.softmax(1))
    torch.testing.assert_close(log_odds(logits, GROUPS), torch.log(p / (1 - p)), atol=1e-4, rtol=1e-4)


def test_the_parsing_loss_is_the_binary_cross_entropy_of_the_probabilities():
    torch.manual_seed(0)
    fake, real = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    p, t = (torch.einsum("kn,bnhw->bkhw", GROUPS.float(), x.softmax(1)).double() for x in (fake, real))
    slow = -sum(
        float(t[0, k, i, j] * p[0, k, i, j].log() + (1 - t[0, k, i, j]) * (1 - p[0, k, i, j]).log())
        for k in range(3)
        for i in range(3)
        for j in range(3)
    ) / (3 * 3 * 3)
    assert float(parsing_loss(log_odds(fake, GROUPS), log_odds(real, GROUPS))) == pytest.approx(
        slow, rel=1e-5
    )


def test_a_parser_that_is_sure_and_wrong_still_teaches():
    fake = torch.tensor([200.0, -200.0, 0.0, 0.0]).view(1, 4, 1, 1).requires_grad_()
    real = torch.tensor([-200.0, 200.0, 0.0, 0.0]).view(1, 4, 1, 1).requires_grad_()
    loss = parsing_loss(log_odds(fake, GROUPS), log_odds(real, GROUPS))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(fake.grad).all()
    assert float(fake.grad.abs().max()) > 0.1
    assert real.grad is None
