import math

import pytest
import torch

from silverpoint.losses.adversarial import adversarial
from silverpoint.losses.perceptual import feature_l1
from silverpoint.nets.vgg import VGG19


def test_least_squares_by_hand():
    logits = torch.tensor([0.5, -1.0])
    assert float(adversarial(logits, real=True)) == pytest.approx((0.25 + 4.0) / 2)
    assert float(adversarial(logits, real=False)) == pytest.approx((0.25 + 1.0) / 2)


def test_log_loss_by_hand_and_safe_at_the_extremes():
    sigmoid = 1 / (1 + math.exp(-0.3))
    logits = torch.tensor([0.3])
    assert float(adversarial(logits, real=True, mode="vanilla")) == pytest.approx(
        -math.log(sigmoid), rel=1e-5
    )
    assert float(adversarial(logits, real=False, mode="vanilla")) == pytest.approx(
        -math.log(1 - sigmoid), rel=1e-5
    )
    assert math.isfinite(float(adversarial(torch.tensor([1e4]), real=False, mode="vanilla")))


def test_the_non_saturating_generator_learns_most_where_it_is_worst():
    logits = torch.tensor([-8.0, 0.0, 8.0], requires_grad=True)
    adversarial(logits, real=True, mode="vanilla").backward()
    slopes = logits.grad.abs()
    assert slopes[0] > slopes[1] > slopes[2]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="lsgan"):
        adversarial(torch.zeros(1), real=True, mode="hinge")


def test_feature_distance_by_hand_and_blind_to_the_gradient_of_the_real_side():
    fake = {"a": torch.tensor([[1.0, 3.0]], requires_grad=True), "b": torch.ones(1, 1, requires_grad=True)}
    real = {"a": torch.tensor([[0.0, 1.0]], requires_grad=True), "b": torch.zeros(1, 1)}
    loss = feature_l1(fake, real, {"a": 2.0, "b": 0.5})
    assert float(loss.detach()) == pytest.approx(2 * 1.5 + 0.5)
    loss.backward()
    assert torch.equal(fake["a"].grad, torch.tensor([[1.0, 1.0]]))
    assert real["a"].grad is None


def test_vgg_is_frozen_and_passes_gradients_to_the_image():
    vgg = VGG19(["relu1_2", "pool1", "relu2_1"]).train()
    assert not vgg.training
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    features = vgg(image)
    assert {k: tuple(f.shape) for k, f in features.items()} == {
        "relu1_2": (1, 64, 16, 16),
        "pool1": (1, 64, 8, 8),
        "relu2_1": (1, 128, 8, 8),
    }
    sum(f.sum() for f in features.values()).backward()
    assert float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for p in vgg.parameters())


def test_vgg_equals_its_layers_one_by_one():
    vgg, image = VGG19(["relu1_2", "pool1", "relu2_1"]), torch.rand(1, 3, 8, 8)
    x = vgg.preprocess(image)
    for layer in ("1_1", "1_2"):
        x = torch.relu(vgg.convs[layer](x))
    torch.testing.assert_close(vgg(image)["relu1_2"], x)
    torch.testing.assert_close(vgg(image, ["pool1"])["pool1"], torch.nn.functional.max_pool2d(x, 2))


def test_vgg_names_the_taps_it_knows():
    with pytest.raises(ValueError, match="relu3_1"):
        VGG19(["relu9_1"])
