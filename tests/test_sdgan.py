import copy
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import silverpoint.assets
import silverpoint.synthesis.model as wing
import silverpoint.training.export as training_export
from lab import write_dataset
from silverpoint.data.batches import Batch
from silverpoint.data.pairs import read_split
from silverpoint.errors import UsageError
from silverpoint.faces import layout as parsing
from silverpoint.faces import saliency as masking
from silverpoint.faces.align import align
from silverpoint.faces.detect import detect
from silverpoint.image import read_image
from silverpoint.losses.graphs import graphs, inter_class_loss, intra_class_loss
from silverpoint.methods import method_class, sdgan
from silverpoint.methods.sdgan import SDGAN, Settings
from silverpoint.nets.bisenet import BiSeNet
from silverpoint.nets.injection import NORMS, ConstantInjection, InjectionUNet, inject
from silverpoint.nets.vgg import VGG19
from silverpoint.training.checkpoint import load_into
from silverpoint.training.export import export, load_run
from silverpoint.training.settings import build_settings, parse_flags
from silverpoint.training.trainer import RunOptions, Trainer, resumed
from silverpoint.training.validation import synthesize_examples

SMALL = {"width": 4, "hidden": 4, "discriminator_width": 4, "parser_size": 64}
SIDE = 256


@pytest.fixture(autouse=True)
def _networks_without_their_weights(monkeypatch):
    """The frozen networks, of random weights: nothing is fetched."""
    torch.manual_seed(0)
    monkeypatch.setattr(sdgan, "load_vgg19", VGG19)
    monkeypatch.setattr(sdgan, "load_bisenet", BiSeNet)


def some_batch(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    photo = torch.rand(count, 3, SIDE, SIDE, generator=generator) * 2 - 1
    sketch = torch.rand(count, 1, SIDE, SIDE, generator=generator) * 2 - 1
    priors = {}
    for name in ("", "sketch_"):
        priors[name + "saliency"] = torch.rand(count, 1, SIDE, SIDE, generator=generator)
        numbers = torch.randint(12, (count, SIDE // 32, SIDE // 32), generator=generator)
        numbers = numbers.repeat_interleave(32, 1).repeat_interleave(32, 2)
        priors[name + "layout"] = F.one_hot(numbers, 12).permute(0, 3, 1, 2).float()
    return Batch(photo, sketch, torch.ones(count, 1), ["a"] * count, priors)


def small(**changes):
    torch.manual_seed(0)
    return SDGAN(Settings(**SMALL | changes), ("x",))


def losses_of(method, batch):
    return {name: loss for _, losses in method.training_step(batch) for name, loss in losses.items()}


# ---- the generator -------------------------------------------------------------------------------------------------


def test_the_generator_has_the_form_of_the_paper():
    net = InjectionUNet(4, 1)
    assert [m.weight.shape[0] for m in net.modules() if getattr(m, "stride", None) == (2, 2)] == [
        64, 128, 256, 512, 512, 512, 512,
    ]  # fmt: skip
    assert len(net.up) == 7
    small_net = InjectionUNet(4, 3, width=4, hidden=4).eval()
    layout = F.one_hot(torch.randint(12, (2, 256, 512)), 12).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        levels = small_net.levels(torch.rand(2, 4, 256, 512), small_net.modulations(layout))
    assert [tuple(level.shape[2:]) for level in levels] == [(2 * 2**i, 4 * 2**i) for i in range(7)] + [
        (256, 512)
    ]
    assert levels[-1].shape[:2] == (2, 3)
    assert float(levels[-1].abs().max()) <= 1


def test_the_layout_acts_where_it_is():
    torch.manual_seed(0)
    net = InjectionUNet(1, 1, width=4, hidden=8)
    layout = torch.zeros(1, 12, SIDE, SIDE)
    layout[:, 0] = 1
    changed = layout.clone()
    changed[:, 0, :128, :128], changed[:, 5, :128, :128] = 0, 1
    finest = [m[-1][0][0] for m in (net.modulations(layout), net.modulations(changed))]
    difference = (finest[0] - finest[1])[0].abs().sum(0)  # gamma of the finest block, at 128x128
    assert float(difference[:60, :60].min()) > 0
    assert float(difference[70:, 70:].max()) == 0


@pytest.mark.parametrize(("norm", "over"), [("instance", (2, 3)), ("batch", (0, 2, 3))])
def test_injection_is_a_normalisation_modulated_pixel_by_pixel(norm, over):
    x, gamma, beta = torch.randn(2, 3, 8, 8) * 5 + 2, torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    mean, deviation = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0).add(1e-5).sqrt()
    expected = (x - mean) / deviation * (1 + gamma) + beta
    torch.testing.assert_close(inject(NORMS[norm](3)(x), (gamma, beta)), expected)


def test_with_batch_norm_a_stage_has_statistics_of_its_own_and_its_teachers_keep_theirs():
    def statistics(nets):
        return {n: b.clone() for n, b in nets.named_buffers() if "running" in n}

    cheap = {"lambda_perceptual": 0.0, "lambda_bce": 0.0, "lambda_iag": 0.0, "lambda_itg": 0.0}
    method = small(stages=1, norm="batch", **cheap)
    fresh = statistics(method.generators)
    assert len(fresh) == 2 * 7 * 2 * 2  # directions, blocks, norms, mean and variance
    losses_of(method.train(), some_batch())
    learnt = statistics(method.generators)
    assert not any(torch.equal(fresh[n], learnt[n]) for n in fresh)
    method.start_stage(method.stages()[1])
    assert same(statistics(method.generators), fresh)
    teachers = statistics(method.teachers)
    losses_of(method.train(), some_batch())
    assert same(statistics(method.teachers), teachers)
    assert not statistics(small().generators)


# ---- the losses ----------------------------------------------------------------------------------------------------


def test_all_seven_losses_are_there_in_both_directions_and_finite():
    method = small(stages=1)
    method.start_stage(method.stages()[0])
    assert not [name for name in losses_of(method, some_batch()) if name.endswith("ict")]
    method.start_stage(method.stages()[1])
    losses = losses_of(method, some_batch())
    names = {"d_fake", "d_real", "gan", "content", "perceptual", "bce", "iag", "itg", "ict"}
    assert set(losses) == {f"{d}/{n}" for d in SDGAN.directions for n in names}
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.parametrize("direction", SDGAN.directions)
def test_each_loss_is_its_equation(direction):
    """Computed again one by one, each network run anew on each image."""
    s, batch = Settings(**SMALL, stages=1), some_batch(count=2)
    method = small(stages=1)
    method.start_stage(method.stages()[1])
    priors = batch.priors
    images = [batch.photo, batch.sketch]
    maps, layouts = [[priors[side + name] for side in ("", "sketch_")] for name in ("saliency", "layout")]
    if direction == "sketch2photo":
        images, maps, layouts = images[::-1], maps[::-1], layouts[::-1]
    target = images[1]
    with torch.no_grad():
        losses = losses_of(method, batch)
        source = torch.cat([images[0], maps[0]], 1)
        fake = method.generators[direction].net(source, layouts[0])
        judged = [method.discriminators[direction](torch.cat([source, x], 1)) for x in (fake, target)]
        vgg, parser = method._observers["vgg"], method._observers["parser"]
        seen = [vgg((x + 1) / 2) for x in (fake, target)]
        logits = [
            parser.coarse(
                F.interpolate((x + 1) / 2, (64, 64), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
            )
            for x in (fake, target)
        ]
        groups = method.groups.float()
        fake_parts, real_parts = (torch.einsum("kn,bnhw->bkhw", groups, x.softmax(1)) for x in logits)
        masks = layouts[0][:, :, ::2, ::2]
        fake_graphs, real_graphs = (graphs(x["relu2_2"] / sdgan.GRAPH_SCALE, masks) for x in seen)
        teacher = method.teachers[direction].net
        made, real = (
            teacher.levels(torch.cat([x, maps[1]], 1), teacher.modulations(layouts[1]))[2:]
            for x in (fake, target)
        )
    log_loss = F.binary_cross_entropy_with_logits
    yes, no = torch.ones_like(judged[0]), torch.zeros_like(judged[0])
    expected = {
        "d_fake": log_loss(judged[0], no) / 2,
        "d_real": log_loss(judged[1], yes) / 2,
        "gan": log_loss(judged[0], yes),
        "content": s.lambda_content * (fake - target).abs().mean(),
        "perceptual": s.lambda_perceptual
        * sum(w * (seen[0][tap] - seen[1][tap]).square().mean() for tap, w in sdgan.PERCEPTUAL.items()),
        "bce": s.lambda_bce * F.binary_cross_entropy(fake_parts, real_parts),
        "iag": s.lambda_iag * intra_class_loss(fake_graphs, real_graphs),
        "itg": s.lambda_itg * sdgan.ITG_SHARE * inter_class_loss(fake_graphs, real_graphs),
        "ict": s.lambda_ict * sum((a - b).abs().mean() for a, b in zip(made, real, strict=True)),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[f"{direction}/{name}"], value, rtol=1e-4, atol=1e-6, msg=name)


def test_no_image_passes_a_frozen_network_twice(monkeypatch):
    passes = []
    for net in (VGG19, BiSeNet):
        name = "coarse" if net is BiSeNet else "forward"
        original = getattr(net, name)

        def counted(self, image, *rest, original=original):
            passes.append((type(self).__name__, image.requires_grad))
            return original(self, image, *rest)

        monkeypatch.setattr(net, name, counted)
    losses_of(small(stages=0), some_batch())
    once = [(net, graph) for net in ("VGG19", "BiSeNet") for graph in (False, True)]
    assert sorted(passes) == sorted(once * 2)  # the real and the fake image of either direction


def test_frozen_networks_pass_gradients_to_the_image_and_take_none():
    method = small(stages=1).train()
    method.start_stage(method.stages()[1])
    steps = method.training_step(some_batch())
    _, losses = [next(steps), next(steps)][1]
    specs = method.optimizers(method.stages()[1])["generator/photo2sketch"]
    for name in ("perceptual", "bce", "iag", "itg", "ict"):
        gradients = torch.autograd.grad(
            losses[f"photo2sketch/{name}"], specs.parameters, retain_graph=True, allow_unused=True
        )
        assert any(g is not None and float(g.abs().max()) > 0 for g in gradients), name
    for net in method._observers.values():
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in method.teachers.parameters())
    assert not any(name.startswith("_observers") for name in method.state_dict())


def test_the_smallest_part_of_a_face_stays_where_its_layout_is_halved():
    layout = torch.zeros(2, 12, 8, 8)
    layout[:, 1] = 1
    layout[0, 1, 3, 2:6], layout[0, 7, 3, 2:6] = 0, 1  # a closed mouth: one row, an odd one
    layout[0, 1, 4, 2:6], layout[0, 8, 4, 2:6] = 0, 1  # below it a lip, and
    layout[0, 8, 4, 5], layout[0, 3, 4, 5] = 0, 1  # a pixel of yet another part
    small = sdgan.halved(layout)
    assert small.argmax(1)[0].tolist() == [[1, 1, 1, 1], [1, 7, 7, 1], [1, 8, 3, 1], [1, 1, 1, 1]]
    assert torch.equal(small.sum(1), torch.ones(2, 4, 4))
    assert small[1, 1].all()  # alone in its picture


def test_a_layout_is_halved_once_for_the_graphs_of_fake_and_real(monkeypatch):
    halved, calls = sdgan.halved, []
    monkeypatch.setattr(sdgan, "halved", lambda layout: calls.append(1) or halved(layout))
    losses_of(small(stages=0), some_batch())
    assert len(calls) == len(SDGAN.directions)


@pytest.mark.parametrize(("off", "other"), [("iag", "itg"), ("itg", "iag")])
def test_a_graph_loss_without_weight_is_not_computed(off, other):
    losses = losses_of(small(stages=0, **{f"lambda_{off}": 0.0}), some_batch())
    assert f"photo2sketch/{off}" not in losses
    assert losses[f"photo2sketch/{other}"].item() > 0


def test_the_parser_waits_for_no_numbers_from_the_host():
    class Operators(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = set()

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            self.names.add(str(op))
            return op(*args, **(kwargs or {}))

    parser = BiSeNet()
    with Operators() as seen:
        parser.coarse(torch.rand(1, 3, 64, 64))
    assert "aten.convolution.default" in seen.names
    assert not [name for name in seen.names if "lift" in name or "_to_copy" in name]


def test_each_update_reaches_its_own_networks_alone():
    method, batch = small(stages=1), some_batch()
    method.start_stage(method.stages()[1])
    specs = method.optimizers(method.stages()[1])
    assert len(specs) == 4
    for name, losses in method.training_step(batch):
        method.zero_grad()
        torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
        mine = {id(p) for p in specs[name].parameters}
        assert all((p.grad is not None) == (id(p) in mine) for p in method.parameters())


# ---- settings that take parts away (Tables IV and V) ---------------------------------------------------------------


@pytest.mark.parametrize("saliency", [True, False])
@pytest.mark.parametrize("injection", [True, False])
def test_the_ablations_ask_for_the_priors_they_use(saliency, injection):
    method = small(
        saliency=saliency, injection=injection, stages=0,
        lambda_perceptual=0.0, lambda_bce=0.0, lambda_iag=0.0, lambda_itg=0.0,
    )  # fmt: skip
    wanted = ("saliency",) * saliency + ("layout",) * injection
    assert method.priors == (*wanted, *(f"sketch_{n}" for n in wanted))
    batch = some_batch()
    batch = replace(batch, priors={n: batch.priors[n] for n in method.priors})
    assert {n.split("/")[1] for n in losses_of(method, batch)} == {"d_fake", "d_real", "gan", "content"}
    for direction in SDGAN.directions:
        net = method.synthesizer(direction).eval()
        assert net.priors == wanted
        source = batch.photo if direction == "photo2sketch" else batch.sketch
        priors = [batch.priors[n] for n in wanted]
        assert net(source, batch.style, *priors).shape[1] == (1 if direction == "photo2sketch" else 3)
    assert any(isinstance(m, ConstantInjection) for m in method.modules()) is not injection
    assert not method._observers


def test_graph_losses_need_a_layout_even_without_the_injection():
    method = small(injection=False, stages=0, graph_features="image", lambda_perceptual=0.0, lambda_bce=0.0)
    assert "layout" in method.priors
    assert method.synthesizer("photo2sketch").priors == ("saliency",)
    assert float(losses_of(method, some_batch())["sketch2photo/iag"]) > 0


def test_the_rows_of_the_ablation_are_commands():
    page = (Path(__file__).parents[1] / "docs" / "methods" / "sdgan.md").read_text()
    section = page.split("## Ablation")[1].split("## ")[0]
    rows = re.findall(r"silverpoint train (\w+) cufs/ --out ([\w/]+)([^`\n]*)", section)
    assert len({out for _, out, _ in rows}) == len(rows) == 11
    built = []
    for name, _, flags in rows:
        settings = build_settings(method_class(name).settings_class, parse_flags(flags.split()))
        built.append((name, settings))
    assert len(set(built)) == len(built)
    alike = [settings for name, settings in built if name == "sdgan"]
    # each row after the second switches on one part of the method
    parts = ("saliency", "injection", "lambda_perceptual", "lambda_bce", "lambda_iag", "lambda_itg", "stages")
    on = [[bool(getattr(s, part)) for part in parts] for s in alike[:-1]]
    assert on == [[True] * i + [False] * (7 - i) for i in range(8)]
    assert alike[-1] == replace(Settings(), graph_features="image", stages=0)


# ---- stages --------------------------------------------------------------------------------------------------------


def generator_weights(nets):
    return {d: copy.deepcopy(net.state_dict()) for d, net in nets.items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("injection", [True, False])
def test_a_new_stage_learns_from_the_one_before_and_begins_from_scratch(injection):
    method = small(stages=2, injection=injection)
    stages = method.stages()
    assert [s.name for s in stages] == ["initial", "cycle1", "cycle2"]
    assert {s.epochs for s in stages} == {200}
    method.start_stage(stages[0])
    fresh = [*method.generators.named_parameters(), *method.discriminators.named_parameters()]
    for _, p in fresh:
        torch.nn.init.constant_(p, 0.5)
    before = generator_weights(method.generators)
    method.start_stage(stages[1])
    assert same(method.teachers["photo2sketch"].state_dict(), before["sketch2photo"])
    assert same(method.teachers["sketch2photo"].state_dict(), before["photo2sketch"])
    for name, p in fresh:
        if name.endswith("weight"):
            assert float(p.detach().mean()) == pytest.approx(0, abs=0.01), name
            assert float(p.detach().std()) == pytest.approx(0.02, rel=0.5), name
        else:  # biases and, without the injection, gamma and beta
            assert not p.any(), name
    between = generator_weights(method.generators)
    method.start_stage(stages[2])
    assert same(method.teachers["photo2sketch"].state_dict(), between["sketch2photo"])


def test_a_checkpoint_of_any_stage_fits_the_method_that_has_come_so_far():
    method, loaded = small(stages=2), small(stages=2)
    for stage in method.stages()[:2]:
        method.start_stage(stage)
        loaded.start_stage(stage)
        loaded.load_state_dict(method.state_dict())
    assert same(loaded.state_dict(), method.state_dict())
    assert {k.split(".")[0] for k in loaded.state_dict()} == {"generators", "discriminators", "teachers"}


def test_a_run_can_begin_with_one_that_has_teachers():
    done = small(stages=1)
    for stage in done.stages():
        done.start_stage(stage)
    begun = small(stages=0)
    tensors = {f"method.{name}": tensor for name, tensor in done.state_dict().items()}
    load_into(begun, "method", begun.adopt(tensors, ("x",)))
    for nets in ("generators", "discriminators"):
        assert same(getattr(begun, nets).state_dict(), getattr(done, nets).state_dict())
    assert not begun.teachers


def test_a_crop_the_networks_cannot_take_is_refused():
    with pytest.raises(UsageError, match="multiple of 256, not 128"):
        small(framing="crop", crop_size=128)


def test_without_further_stages_there_are_no_teachers():
    method = small(stages=0)
    method.start_stage(method.stages()[0])
    assert not method.teachers
    assert len(method.stages()) == 1


# ---- from a run to a drawing ---------------------------------------------------------------------------------------

CHEAP = SMALL | {"lambda_perceptual": 0.0, "lambda_bce": 0.0, "graph_features": "image", "stages": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Drawn faces with made-up priors: the person is what is not white, hair above, cloth below."""
    root = write_dataset(tmp_path_factory.mktemp("sdgan") / "data", train=1, val=1)
    header, *rows = (root / "pairs.csv").read_text().splitlines()
    columns = ["saliency", "layout", "sketch_saliency", "sketch_layout"]
    for column in columns:
        saliency, layout = made_up_priors()
        Image.fromarray(saliency if "saliency" in column else layout).save(root / f"{column}.png")
    files = ",".join(f"{column}.png" for column in columns)
    (root / "pairs.csv").write_text(
        "\n".join([f"{header},{','.join(columns)}", *(f"{r},{files}" for r in rows)])
    )
    return root


def made_up_priors():
    layout = np.zeros((80, 64), np.uint8)
    layout[10:40, 10:54], layout[40:60, 16:48], layout[60:, 8:56] = 11, 1, 10
    return (layout > 0).astype(np.uint8) * 255, layout


def trainer(dataset, out):
    options = RunOptions((str(dataset),), accelerator="cpu", save_minutes=0.0, select="ssim")
    return Trainer("sdgan", Settings(**CHEAP, n_epochs=2, n_epochs_decay=0), options, out)


def test_a_run_stopped_in_its_second_stage_goes_on_there_and_its_file_draws_as_it_does(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))  # validation goes without LPIPS
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    trainer(dataset, tmp_path / "whole").fit()
    update = Trainer._update

    def interrupted(self, stage, step, total, batch):
        if stage.name == "cycle1" and step == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, stage, step, total, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, tmp_path / "run").fit()
    resumed(tmp_path / "run").fit(resume=True)
    whole, run = (load_file(tmp_path / r / "checkpoints" / "last.safetensors") for r in ("whole", "run"))
    assert same(whole, run)

    # each stage's networks by name; the first stage's are the second's teachers
    (method, first), (_, last) = (load_run(tmp_path / "run", f"stage-{s}") for s in ("initial", "cycle1"))
    teacher = {k.split("net.")[1]: v for k, v in run.items() if k.startswith("method.teachers.sketch2photo.")}
    assert same(teacher, first["photo2sketch"].net.state_dict())
    assert not same(last["photo2sketch"].state_dict(), first["photo2sketch"].state_dict())

    example = read_split(dataset, "val")[0]
    saliency, layout = made_up_priors()
    monkeypatch.setattr(
        wing, "PRIORS", {"saliency": lambda *_, **__: saliency, "layout": lambda *_, **__: layout}
    )
    for direction, checkpoint in (("photo2sketch", "stage-initial"), ("sketch2photo", "stage-cycle1")):
        path = tmp_path / f"{direction}.onnx"
        export(tmp_path / "run", path, direction=direction, checkpoint=checkpoint, bits=32)
        model = wing.Model(path)
        assert model.card.priors == ("saliency", "layout")
        assert (model.card.framing, model.card.fill) == ("pad256", "white")
        source = example.photo if direction == "photo2sketch" else np.stack([example.sketch] * 3, -1)
        net = (first if checkpoint == "stage-initial" else last)[direction]
        expected = synthesize_examples(method, net, [example], direction, torch.device("cpu"))[0]
        assert np.abs(model.draw(source[None])[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("changes", [{"saliency": False, "norm": "batch"}, {"injection": False}])
def test_every_form_of_the_generator_is_exported_in_16_bits(tmp_path, monkeypatch, changes):
    method = small(**changes)
    net = method.synthesizer("sketch2photo").train()
    batch = some_batch()
    priors = [batch.priors[f"sketch_{name}"] for name in net.priors]
    with torch.no_grad():
        net(batch.sketch, batch.style, *priors)  # batch norm has seen something
    monkeypatch.setattr(training_export, "load_synthesizer", lambda *_: (method, "sketch2photo", net.eval()))
    monkeypatch.setattr(training_export, "_frame", lambda _: None)
    monkeypatch.setattr(training_export, "_dataset", lambda _: "")
    monkeypatch.setattr(training_export, "_seconds", lambda *_: 0.0)
    assert 0 < export(tmp_path, tmp_path / "m.onnx", bits=16).difference < 2e-2
    model = onnx.load(tmp_path / "m.onnx")
    assert [i.name for i in model.graph.input] == ["sketch", *net.priors]
    assert wing.Model(tmp_path / "m.onnx").card.priors == net.priors


def test_a_face_is_drawn_with_its_priors_in_a_process_without_torch(portrait, tmp_path, monkeypatch):
    """By the parser's own graph and a stand-in of the saliency network, by a model that shows what it is given."""
    save_file(BiSeNet().state_dict(), tmp_path / "bisenet")
    square = ("x", TensorProto.FLOAT, [1, 3, masking.SIZE, masking.SIZE])
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    write_graph(tmp_path / "u2netp", nodes, [square], ("y", *square[1:]))
    planes = [
        (name, TensorProto.FLOAT, [1, n, 256, 256])
        for name, n in (("photo", 3), ("saliency", 1), ("layout", 12))
    ]
    weights = np.array([0.1, 0.1, 0.1, 0.2, *np.linspace(-0.5, 0.4, 12)], np.float32)
    nodes = [
        helper.make_node("Concat", [name for name, *_ in planes], ["all"], axis=1),
        helper.make_node("Conv", ["all", "weights"], ["sketch"]),
    ]
    card = {
        "format": 1, "name": "shows", "method": "sdgan", "direction": "photo2sketch", "size_multiple": 256,
        "framing": "pad256", "fill": "white", "priors": ["saliency", "layout"],
    }  # fmt: skip
    write_graph(
        tmp_path / "shows.onnx", nodes, planes, ("sketch", TensorProto.FLOAT, [1, 1, 256, 256]),
        [numpy_helper.from_array(weights.reshape(1, 16, 1, 1), "weights")], card,
    )  # fmt: skip
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "import silverpoint.assets\n"
        f"silverpoint.assets.fetch = lambda name: Path({str(tmp_path)!r}, name)\n"
        "from silverpoint.cli.main import main\n"
        f"sys.exit(main(['sketch', '--face', {str(portrait)!r}, '-o', {str(tmp_path / 'out.png')!r}, "
        f"'--model', {str(tmp_path / 'shows.onnx')!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

    monkeypatch.setattr(silverpoint.assets, "fetch", lambda name: tmp_path / name)
    parsing._session.cache_clear(), masking._session.cache_clear()
    photo = read_image(portrait)
    face, _ = align(photo, detect(photo, second_looks=1)[0])
    layout, saliency = parsing.parse(face), masking.saliency(face)
    parsing._session.cache_clear(), masking._session.cache_clear()
    assert len(np.unique(layout)) > 1
    drawn = (face / 127.5 - 1) @ weights[:3] + saliency / 255 * weights[3] + weights[4:][layout]
    expected = np.rint(np.clip((drawn + 1) * 127.5, 0, 255))
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png"), int) - expected).max() <= 1


def write_graph(path, nodes, inputs, output, initializers=(), card=None):
    inputs, output = (
        [helper.make_tensor_value_info(*i) for i in inputs],
        helper.make_tensor_value_info(*output),
    )
    graph = helper.make_graph(nodes, "graph", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card:
        helper.set_model_props(model, {"silverpoint": json.dumps(card)})
    onnx.save(model, path)
