"""What every method promises the trainer; the tests run over the registry."""

import dataclasses
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from silverpoint.data.batches import Batch
from silverpoint.errors import UsageError
from silverpoint.methods import method_class, names
from silverpoint.methods.method import source_priors
from silverpoint.methods.pix2pix import Pix2Pix
from silverpoint.methods.pix2pix import Settings as Pix2PixSettings
from silverpoint.nets.bisenet import BiSeNet
from silverpoint.nets.vgg import VGG19
from silverpoint.training.export import _difference, _inputs, _to_onnx, average_networks
from silverpoint.training.settings import build_settings

SMALL = {
    "batch_size": 2,
    "lambda_perceptual": 0.0,
    "discriminator_width": 8,
    "ngf": 8,
    "ndf": 8,
    "width": 8,
    "hidden": 8,
    "blocks": 1,
    "slots": 16,
    "parser_size": 64,
}


@pytest.fixture(autouse=True)
def _frozen_networks_of_random_weights(monkeypatch):
    """What is promised does not depend on what they know, and nothing is fetched."""
    for name in names():
        module = sys.modules[method_class(name).__module__]
        for load, network in (("load_vgg19", VGG19), ("load_bisenet", BiSeNet)):
            if hasattr(module, load):
                monkeypatch.setattr(module, load, network)


def some_batch(styles=2, size=64, count=2):
    torch.manual_seed(1)
    photo, sketch = torch.rand(count, 3, size, size) * 2 - 1, torch.rand(count, 1, size, size) * 2 - 1
    priors = {"person": torch.rand(count, 1, size, size)}
    for side in ("", "sketch_"):
        priors[f"{side}saliency"] = torch.rand(count, 1, size, size)
        numbers = torch.randint(12, (count, size // 16, size // 16))
        numbers = numbers.repeat_interleave(16, 1).repeat_interleave(16, 2)
        priors[f"{side}layout"] = F.one_hot(numbers, 12).permute(0, 3, 1, 2).float()
    unpaired = torch.rand(count, 1, size, size) * 2 - 1
    return Batch(photo, sketch, torch.eye(styles)[:count], ["a", "b"][:count], priors, unpaired)


def small_method(name, **more):
    torch.manual_seed(0)
    small = {k: v for k, v in SMALL.items() if k in fields(name)}
    settings = build_settings(method_class(name).settings_class, small | more)
    return method_class(name)(settings, ("x", "y"))


def fields(name):
    return {f.name: f for f in dataclasses.fields(method_class(name).settings_class)}


@pytest.mark.parametrize("name", names())
def test_every_step_reaches_every_parameter_of_its_optimizer_and_no_other(name):
    method = small_method(name)
    multiple = max(method.synthesizer(d).size_multiple for d in method.trained_directions())
    batch = some_batch(size=max(64, multiple))
    for stage in method.stages()[:2]:
        method.start_stage(stage)
        specs = method.optimizers(stage)
        named = []
        for optimizer, losses in method.training_step(batch):
            named.append(optimizer)
            method.zero_grad()
            torch.stack(list(losses.values())).sum().backward(inputs=specs[optimizer].parameters)
            assert all(p.grad is not None for p in specs[optimizer].parameters)
            mine = {id(p) for p in specs[optimizer].parameters}
            assert all(p.grad is None for p in method.parameters() if id(p) not in mine)
            assert all(torch.isfinite(v) for v in losses.values())
        assert set(named) == set(specs)


@pytest.mark.parametrize("name", names())
def test_a_synthesizer_takes_source_style_and_priors_and_returns_an_image(name):
    method = small_method(name).eval()
    for direction in method.trained_directions():
        net = method.synthesizer(direction)
        batch = some_batch(size=max(64, net.size_multiple))
        source = batch.photo if direction == "photo2sketch" else batch.sketch
        target = batch.sketch if direction == "photo2sketch" else batch.photo
        assert set(source_priors(net, direction)) <= set(method.priors)
        with torch.no_grad():
            drawn = net(source, batch.style, *(batch.priors[p] for p in source_priors(net, direction)))
        assert drawn.shape == target.shape
        assert drawn.abs().max() <= 1


@pytest.mark.parametrize("name", names())
def test_rates_and_moments_that_adam_refuses_are_refused_before_a_run_begins(name):
    settings = method_class(name).settings_class
    for field in (f for f in fields(name) if f.startswith(("lr", "rcs_lr"))):
        with pytest.raises(UsageError, match=f"{field} must be at least 0"):
            settings(**{field: -1e-4})
    for field in (f for f in fields(name) if f.startswith("beta")):
        for value in (-0.1, 1.0):
            with pytest.raises(UsageError, match=f"{field} must be"):
                settings(**{field: value})
    with pytest.raises(UsageError, match="at least one epoch"):
        settings(n_epochs=0, n_epochs_decay=0)


@pytest.mark.parametrize("name", ["pix2pix", "cut", "cyclegan"])
def test_a_baseline_that_makes_photos_becomes_a_graph_that_does_as_torch(name):
    """The other methods' own tests export them, in both directions."""
    method = small_method(
        name, **({"direction": "sketch2photo"} if "direction" in fields(name) else {})
    ).eval()
    net = average_networks([method.synthesizer("sketch2photo")])
    model = _to_onnx(net, _inputs(net, method, "sketch2photo", 64, 96, batch=2), "sketch2photo")
    picture = _inputs(net, method, "sketch2photo", 128, 64, batch=3)
    assert _difference(model, net, picture, ("style",)) < 1e-3


@pytest.mark.parametrize("name", names())
def test_every_setting_says_where_it_comes_from(name):
    assert all(f.metadata.get("source") for f in fields(name).values())


def test_the_discriminator_step_leaves_the_generator_alone():
    method = small_method("pencil")
    optimizer, losses = next(method.training_step(some_batch()))
    assert optimizer == "discriminator"
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in method.generator.parameters())


def test_pix2pix_weighs_the_pixel_loss_as_the_paper():
    method = Pix2Pix(Pix2PixSettings(), ("x",)).eval()
    batch = some_batch(styles=1, size=256, count=1)
    with torch.no_grad():
        steps = list(method.training_step(batch))
        fake = method.generator(batch.photo, batch.style)
    torch.testing.assert_close(steps[1][1]["g_l1"], 100 * (fake - batch.sketch).abs().mean())


def test_batch_statistics_are_fixed_towards_the_end():
    method = small_method("pencil").train()
    norms = [m for m in method.generator.modules() if isinstance(m, nn.BatchNorm2d)]
    for progress, training in ((0.2, True), (0.9, False)):
        method.progress = progress
        next(method.training_step(some_batch()))
        assert all(m.training is training for m in norms)


def test_the_schedule_is_constant_then_linear_to_zero():
    method = small_method("pix2pix")
    stage = method.stages()[0]
    factors = []
    for method.progress in (0.0, 0.5, 0.75, 1.0):
        factors.append(method.lr_factor(stage))
    assert factors == [1.0, 1.0, 0.5, 0.0]
