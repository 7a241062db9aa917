"""MOST-Net: what its step computes beside a slow transcription, what learns from what, and what is exported."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper

import silverpoint.methods.mostnet as mostnet
from drawn import write_pair_folders
from silverpoint.data.batches import Batch
from silverpoint.data.pairs import Example
from silverpoint.errors import UsageError
from silverpoint.methods.mostnet import CONTENT, STYLE, MOSTNet, Recall, Settings
from silverpoint.nets.memory import MemoryDictionary, attention_entropy
from silverpoint.nets.vgg import VGG19

TINY = Settings(batch_size=2, width=4, blocks=1, hidden=4, slots=7, discriminator_width=4)


@pytest.fixture(autouse=True)
def _random_vgg(monkeypatch):
    """VGG-19 without its weights: the equations do not depend on them, and the tests need no download."""

    def load(taps):
        torch.manual_seed(5)
        return VGG19(taps)

    monkeypatch.setattr(mostnet, "load_vgg19", load)


def method(**changes) -> MOSTNet:
    torch.manual_seed(0)
    return MOSTNet(replace(TINY, **changes), ("x",)).train()


def some_batch(size=32) -> Batch:
    torch.manual_seed(1)
    photo, sketch = torch.rand(2, 3, size, size) * 2 - 1, torch.rand(2, 1, size, size) * 2 - 1
    return Batch(photo, sketch, torch.ones(2, 1), ["a", "b"])


def losses_of(net: MOSTNet, batch: Batch) -> dict[str, torch.Tensor]:
    return {name: loss for _, losses in net.training_step(batch) for name, loss in losses.items()}


# ---- the networks --------------------------------------------------------------------------------------------------


def test_the_encoders_are_alike_and_share_nothing():
    net = MOSTNet(Settings(), ("x",))
    photo, sketch = net.generator.encoder, net.sketch_encoder
    shapes = [[tuple(p.shape) for p in e.parameters()] for e in (photo, sketch)]
    assert shapes[0][1:] == shapes[1][1:]
    assert (shapes[0][0], shapes[1][0]) == ((64, 3, 7, 7), (64, 1, 7, 7))
    assert not {id(p) for p in photo.parameters()} & {id(p) for p in sketch.parameters()}
    assert len(net.generator.injections) == 3
    assert tuple(net.generator.memory.keys.shape) == (512, 256)
    with torch.no_grad():
        assert photo(torch.zeros(1, 3, 64, 48)).shape == (1, 256, 16, 12)
    assert sum(p.numel() for p in net.generator.parameters()) == pytest.approx(19.33e6, rel=1e-3)


def test_a_sketch_is_drawn_from_the_photo_and_the_memory_and_nothing_else():
    net, batch = method().eval(), some_batch()
    with torch.no_grad():
        drawn = net.synthesizer("photo2sketch")(batch.photo, batch.style)
        assert drawn.shape == batch.sketch.shape
        assert float(drawn.abs().max()) <= 1
        for p in net.sketch_encoder.parameters():
            p.add_(1.0)
        assert torch.equal(net.synthesizer("photo2sketch")(batch.photo, batch.style), drawn)
        net.generator.memory.values.normal_()
        assert not torch.allclose(net.synthesizer("photo2sketch")(batch.photo, batch.style), drawn)


# ---- the losses ----------------------------------------------------------------------------------------------------


def log_loss(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """-E log D or -E log (1 - D) of Eq. 10, in double precision."""
    p = torch.sigmoid(logits.double())
    return -torch.log(p if real else 1 - p).mean()


@torch.no_grad()
def transcribed(net: MOSTNet, batch: Batch, before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Eqs. 4, 5, 10-16 one place at a time, of a method whose memory has moved once since `before`."""
    x, y = batch.photo, batch.sketch
    fake = net.generator(x, batch.style)
    d = net.discriminator
    found = {
        "d_fake": log_loss(d(torch.cat([x, fake], 1)), False),
        "d_real": log_loss(d(torch.cat([x, y], 1)), True),
        "g_gan": log_loss(d(torch.cat([x, fake], 1)), True),
        "g_rec": 200 * (y - fake).abs().mean(),
    }
    vgg = VGG19([*STYLE, *CONTENT])
    vgg.load_state_dict(net._vgg[0].state_dict())
    of = {name: vgg((image + 1) / 2) for name, image in (("y", y), ("x", x), ("fake", fake))}
    found["g_style"] = 40 * sum(
        w * (of["y"][tap] - of["fake"][tap]).square().mean() for tap, w in (("pool1", 0.5), ("pool2", 1.0))
    )
    target = of["y" if net.settings.content_of == "sketch" else "x"]["pool4"]
    found["g_content"] = 40 * 0.125 * (target - of["fake"]["pool4"]).square().mean()
    f, s = net.generator.encoder(x), net.sketch_encoder(y)
    distance = 0.0
    for b, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(8), torch.arange(8)).tolist():
        one_hot = []
        for feature, slots in ((f, before["keys"]), (s, before["values"])):
            cosines = [F.cosine_similarity(feature[b, :, row, column], slot, dim=0) for slot in slots]
            one_hot.append(F.one_hot(torch.stack(cosines).argmax(), len(slots)))
        distance += int((one_hot[0] - one_hot[1]).abs().sum()) / (2 * 8 * 8)
    found["g_mr"] = torch.tensor(10 * distance)
    return found


@pytest.mark.parametrize("content_of", ["sketch", "photo"])
def test_every_loss_is_the_equation_with_the_weight_of_the_paper(content_of):
    net, batch = method(content_of=content_of), some_batch()
    before = {k: v.clone() for k, v in net.generator.memory.state_dict().items()}
    found = losses_of(net, batch)
    expected = transcribed(net, batch, before)
    assert found.keys() == expected.keys()
    assert 0 < float(found["g_mr"].detach()) <= 20
    for name, loss in found.items():
        torch.testing.assert_close(loss.detach().double(), expected[name].double(), rtol=1e-4, atol=1e-6)


def test_a_term_of_weight_zero_costs_nothing():
    net = method(lambda_style=0.0, lambda_content=0.0, lambda_mr=0.0)
    assert losses_of(net, some_batch()).keys() == {"d_fake", "d_real", "g_gan", "g_rec", "g_mr"}
    assert not net._vgg


# ---- what learns from what -----------------------------------------------------------------------------------------


def gradients(net: MOSTNet, module: torch.nn.Module, chosen: str) -> float:
    """How much of the loss `chosen` arrives at the parameters of `module`."""
    loss = losses_of(net, some_batch())[chosen]
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return sum(float(g.abs().sum()) for g in found if g is not None)


@pytest.mark.parametrize("loss", ["g_gan", "g_rec", "g_style", "g_content"])
def test_nothing_but_the_refinement_teaches_the_sketch_encoder(loss):
    """Slots move by Eq. 6 and not by gradients, so what the values are made of is out of every other loss's reach."""
    net = method()
    assert gradients(net, net.sketch_encoder, loss) == 0
    assert gradients(net, net.generator, loss) > 0


def test_the_refinement_teaches_both_encoders_and_not_the_decoder():
    net = method()
    assert gradients(net, net.sketch_encoder, "g_mr") > 0
    assert gradients(net, net.generator.encoder, "g_mr") > 0
    assert gradients(net, net.generator.decoder, "g_mr") == 0
    assert gradients(net, net.generator.injections, "g_mr") == 0


def test_as_printed_the_refinement_is_a_number_without_a_gradient():
    """Eqs. 14-15 compare choices, which are constant almost everywhere: the sketch encoder stays as initialised."""
    net = method(mr_gradient="none")
    losses = losses_of(net, some_batch())
    assert float(losses["g_mr"]) > 0
    assert not losses["g_mr"].requires_grad
    stage = net.stages()[0]
    trained = {id(p) for p in net.optimizers(stage)["generator"].parameters}
    assert not trained & {id(p) for p in net.sketch_encoder.parameters()}
    assert trained == {id(p) for p in net.generator.parameters()}


def test_every_weight_that_learns_is_in_one_optimizer():
    net = method()
    specs = net.optimizers(net.stages()[0])
    listed = [id(p) for spec in specs.values() for p in spec.parameters]
    assert sorted(listed) == sorted(id(p) for p in net.parameters())
    assert (specs["generator"].lr, specs["discriminator"].lr) == (4e-4, 1e-3)
    assert specs["generator"].betas == specs["discriminator"].betas == (0.9, 0.999)


def test_a_step_moves_the_memory_once_and_validation_never():
    net, batch = method(slots=500), some_batch()  # more than there are features
    memory = net.generator.memory
    start = memory.keys.clone()
    losses_of(net, batch)
    moved = (memory.keys - start).abs().amax(1) > 0
    assert 0 < int(moved.sum()) <= 2 * 8 * 8
    assert bool((memory.idle[moved] == 0).all())
    after = {k: v.clone() for k, v in memory.state_dict().items()}
    net.eval()
    net.inspect(batch)
    net.synthesizer("photo2sketch")(batch.photo, batch.style)
    list(net.training_step(batch))
    assert all(torch.equal(v, after[k]) for k, v in memory.state_dict().items())


def test_processes_that_each_see_a_half_of_the_batch_hold_the_memory_of_the_whole():
    batch, sent = some_batch(), []
    halves = [
        Batch(batch.photo[i : i + 1], batch.sketch[i : i + 1], torch.ones(1, 1), ["a"]) for i in range(2)
    ]
    alone = method(slots=20)
    losses_of(alone, batch)
    for half in halves:  # what each sends does not depend on what comes back
        net, mine = method(slots=20), []
        net.reduce = lambda t, m=mine: m.append(t) or t
        losses_of(net, half)
        sent.append(mine)
    means = [torch.stack(tensors).mean(0) for tensors in zip(*sent, strict=True)]
    for half in halves:
        net, answers = method(slots=20), iter(means)
        net.reduce = lambda t, a=answers: next(a)
        losses_of(net, half)
        torch.testing.assert_close(
            dict(net.generator.memory.state_dict()), dict(alone.generator.memory.state_dict())
        )


def test_values_may_follow_the_choice_of_the_keys():
    batch, moved = some_batch(), {}
    for choice in ("own", "key"):
        net = method(value_choice=choice, slots=500)
        keys, values = net.generator.memory.keys.clone(), net.generator.memory.values.clone()
        losses_of(net, batch)
        memory = net.generator.memory
        moved[choice] = [
            ((a - b).abs().amax(1) > 0) for a, b in ((memory.keys, keys), (memory.values, values))
        ]
    assert torch.equal(*moved["key"])
    assert torch.equal(moved["own"][0], moved["key"][0])
    assert not torch.equal(*moved["own"])


def test_in_low_precision_losses_are_finite_and_the_memory_keeps_its_own():
    net = method()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.isfinite(v) for v in losses_of(net, some_batch()).values())
    assert net.generator.memory.keys.dtype == torch.float32


def test_low_precision_chooses_the_same_slots():
    """Of the same features, exactly: who chose what, how often they disagree, and so where the slots go."""
    photo, sketch = torch.randn(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    found = []
    for enabled in (False, True):
        net = method(slots=300, temperature=0.05)
        net.sketch_encoder = torch.nn.Identity()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            refinement = net._remember(photo, sketch)
        found.append((refinement, net.generator.memory.keys, net.generator.memory.values))
    assert 0 < float(found[0][0]) < 2
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_the_refinement_has_a_temperature_of_its_own():
    nets = [method(), method(temperature=0.1), method(mr_temperature=0.5)]
    plain, other, sharper = (gradients(net, net.sketch_encoder, "g_mr") for net in nets)
    assert other == plain
    assert sharper > 1.5 * plain


def test_a_training_step_runs_the_compiled_generator():
    ran, batch = [], some_batch()

    def backend(graph, _):
        return lambda *inputs: ran.append(graph) or graph(*inputs)

    expected = losses_of(method(), batch)
    net = method()
    net.generator.compile(backend=backend)
    found = losses_of(net, batch)
    assert len(ran) >= 1 + 3 * 3 + 1  # encoder, three blocks with two injections each, decoder
    torch.testing.assert_close(found, expected)
    torch._dynamo.reset()


def test_training_draws_closer():
    net, batch = method(width=8, hidden=8, lambda_style=0.0, lambda_content=0.0), some_batch()
    batch.sketch = batch.photo.mean(1, keepdim=True)
    specs = net.optimizers(net.stages()[0])
    optimizer = torch.optim.Adam(specs["generator"].parameters, 2e-3, betas=(0.9, 0.999))
    found = []
    for _ in range(30):
        losses = dict(net.training_step(batch))["generator"]
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        found.append(float(losses["g_rec"].detach()))
    assert found[-1] < 0.7 * found[0]


def test_validation_shows_the_memory_at_work():
    net, batch = method().eval(), some_batch()
    figures, pictures = net.inspect(batch)
    assert 0 <= figures["agreement"] <= 1
    assert figures["agreement"] == pytest.approx(1 - float(losses_of(net, batch)["g_mr"].detach()) / 20)
    assert 0.9 < figures["attention_entropy"] <= 1
    assert figures["unused_slots"] == 0
    net.generator.memory.idle.fill_(100)
    assert net.inspect(batch)[0]["unused_slots"] == 7
    assert [p.shape for p in pictures] == [(2, 3, 32, 32)] * 2
    net.generator.memory.values.copy_(net.generator.memory.values[:1].expand(7, -1))  # nothing to read
    assert net.inspect(batch)[0]["sketch_without_reading_l1"] == pytest.approx(0, abs=1e-6)


def test_a_blank_margin_is_not_counted():
    net, batch = method().eval(), some_batch()
    batch.photo[..., :9], batch.sketch[..., :9] = 1, 1  # two places of eight, and a part of the third
    batch.photo[:, :, :8] = 1  # the sketch goes on
    recall = net.recall(batch)
    assert torch.equal(recall.shown, (torch.arange(8) >= 2).expand(2, 1, 8, 8))
    shown = [i for i in range(2 * 8 * 8) if i % 8 >= 2]
    keys, values = recall.key_cosines[shown], recall.value_cosines[shown]
    figures, _ = net.inspect(batch)
    agree = [int(k.argmax()) == int(v.argmax()) for k, v in zip(keys, values, strict=True)]
    assert figures["agreement"] == pytest.approx(sum(agree) / len(agree))
    assert figures["attention_entropy"] == pytest.approx(attention_entropy(keys, 1.0))
    l1 = (recall.without_reading - recall.sketch)[..., 8:].abs().mean()
    assert figures["sketch_without_reading_l1"] == pytest.approx(float(l1), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("content_of", "both"), ("slots", 1), ("memory_decay", 1.5), ("beta1", 1.0)],
)
def test_settings_out_of_their_range_are_refused(name, value):
    with pytest.raises(UsageError, match=name):
        Settings(**{name: value})


# ---- the model file ------------------------------------------------------------------------------------------------


def test_the_model_file_holds_the_memory_and_takes_the_photo_alone(tmp_path):
    import onnxruntime

    from silverpoint.data.prepare import prepare
    from silverpoint.training.export import export, load_run
    from silverpoint.training.trainer import RunOptions, Trainer

    prepare("pairs", write_pair_folders(tmp_path / "mine", 4, (64, 80)), tmp_path / "dataset", val=0.0)
    settings = replace(TINY, n_epochs=1, framing="crop", crop_size=32, lambda_style=0.0, lambda_content=0.0)
    run = tmp_path / "run"
    Trainer("mostnet", settings, RunOptions((str(tmp_path / "dataset"),), accelerator="cpu"), run).fit()
    net, averages = load_run(run)
    assert torch.equal(averages["photo2sketch"].memory.keys, net.generator.memory.keys)
    assert int((net.generator.memory.idle < 2).sum()) > 0  # it has moved

    assert export(run, tmp_path / "m.onnx", bits=32).difference < 1e-4
    model = onnx.load(tmp_path / "m.onnx")
    assert json.loads(model.metadata_props[0].value)["method"] == "mostnet"
    used = {name for node in model.graph.node for name in node.input}
    assert [i.name for i in model.graph.input if i.name in used] == ["photo"]
    held = [torch.from_numpy(numpy_helper.to_array(w).copy()) for w in model.graph.initializer]
    slots = (7, 16)
    memory = net.generator.memory
    for wanted in (F.normalize(memory.keys, dim=1), memory.values):
        alike = [w for w in held if w.shape == slots and torch.allclose(w, wanted)]
        alike += [w for w in held if w.shape == slots[::-1] and torch.allclose(w.t(), wanted)]
        alike += [w for w in held if w.shape == slots and torch.allclose(F.normalize(w, dim=1), wanted)]
        assert alike
    assert sum(w.numel() for w in held) < 1.05 * (
        sum(p.numel() for p in net.generator.parameters()) + 2 * 7 * 16
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    photo = torch.rand(3, 3, 64, 48) * 2 - 1
    names = [i.name for i in session.get_inputs()]
    feeds = {n: (photo if n == "photo" else torch.ones(3, 1)).numpy() for n in names}
    with torch.no_grad():
        expected = net.generator.eval()(photo, torch.ones(3, 1))
    torch.testing.assert_close(torch.from_numpy(session.run(None, feeds)[0]), expected, atol=1e-4, rtol=0)


# ---- the instruments -----------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_what_the_memory_leaves_unexplained_by_hand():
    instrument = runpy.run_path(str(EXAMPLES / "mostnet_memory.py"))
    memory = MemoryDictionary(2, 2)
    memory.values.copy_(torch.eye(2))
    sketch = torch.tensor([[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]])  # the third place is blank
    keys, values = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    none = torch.empty(0)
    recall = Recall(
        torch.tensor([True, True, False]).view(1, 1, 1, 3),
        none,
        sketch.t().view(1, 2, 1, 3),
        keys,
        values,
        *[none] * 3,
    )
    found = instrument["unexplained"](recall, memory, (1.0, 0.001))
    assert found["the value of the chosen key"] == pytest.approx(0 + (1 + 4))
    assert found["at best, the value the sketch chooses"] == pytest.approx(0 + 1)
    assert found["reading at 0.001"] == pytest.approx(found["the value of the chosen key"])
    a, b = 1 / (1 + np.exp(-0.8)), 1 / (1 + np.exp(-0.6))  # weights of the first slot
    assert found["reading at 1"] == pytest.approx(2 * (1 - a) ** 2 + b**2 + (1 + b) ** 2)
    assert recall.agreement() == 0.5


def test_letters_are_found_above_the_hair_and_a_copy_is_told_from_a_smudge():
    instrument = runpy.run_path(str(EXAMPLES / "copied_letters.py"))
    paper, saliency = np.full((250, 200), 240, np.uint8), np.zeros((250, 200), np.uint8)
    saliency[60:, 50:150] = 255
    real, other = paper.copy(), paper.copy()
    real[10:20, 60:120:4] = 40
    other[10:20, 62:122:4] = 40
    letters = real < 100
    real[50:] = 0  # hair, and the sheet's edge
    real[:, :5] = 0

    def example(sketch):
        return Example("a", "AR", "x", np.zeros((250, 200, 3), np.uint8), sketch, saliency=saliency)

    found = instrument["letters_of"](example(real))
    assert np.array_equal(found, letters)
    assert instrument["letters_of"](example(paper)) is None
    assert instrument["box_of"](found) == (slice(7, 23), slice(57, 120))
    ink, likeness, chance = instrument["score"](real, real, other, found)
    assert (ink, likeness) == pytest.approx((1, 1))
    assert chance < 0
    assert instrument["score"](paper, real, other, found) == (0, 0, 0)
    faint = (240 - (240 - real.astype(float)) / 4).round()
    assert instrument["score"](faint, real, other, found)[:2] == pytest.approx((0.25, 1))
    smudge = np.where(real[:45].min(0) < 100, 140, 240) * np.ones((250, 1))
    smudge[:, 58:122] = 140
    assert abs(instrument["score"](smudge, real, other, found)[1]) < 0.5
