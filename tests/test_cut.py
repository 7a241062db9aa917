import json

import onnx
import pytest
import torch

from lab import UNSEEING, noting, take_step_unseeing, write_dataset
from silverpoint.data.batches import Batch
from silverpoint.errors import UsageError
from silverpoint.losses.adversarial import adversarial
from silverpoint.losses.contrastive import multilayer_nce
from silverpoint.losses.patches import draw_uniform
from silverpoint.methods.cut import CUT, Settings
from silverpoint.training.export import export
from silverpoint.training.options import RunOptions
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import Trainer

NARROW = {"ngf": 8, "ndf": 8, "netF_nc": 16, "num_patches": 32}


def small_cut(**changes):
    torch.manual_seed(0)
    return CUT(build_settings(Settings, NARROW | changes), ("x",))


def some_batch(count=2, size=32):
    torch.manual_seed(1)
    photo, sketch = torch.rand(count, 3, size, size) * 2 - 1, torch.rand(count, 1, size, size) * 2 - 1
    return Batch(photo, sketch, torch.ones(count, 1), list("abcd")[:count])


def losses_of(method, batch):
    torch.manual_seed(7)
    return dict(method.training_step(batch))


def test_the_defaults_are_the_authors():
    s = Settings()
    assert (s.lambda_GAN, s.lambda_NCE, s.nce_idt, s.nce_layers, s.nce_T) == (1, 1, True, "0,4,8,12,16", 0.07)
    assert (s.num_patches, s.netF_nc, s.gan_mode, s.lr, s.beta1) == (256, 256, "lsgan", 2e-4, 0.5)
    assert (s.batch_size, s.n_epochs, s.n_epochs_decay, s.framing) == (1, 200, 200, "resize286")


@pytest.mark.parametrize("layers", ["0,4,x", "", "0,0", "21", "-1,4"])
def test_layers_that_the_encoder_has_not_are_refused(layers):
    with pytest.raises(UsageError, match="nce_layers must be"):
        Settings(nce_layers=layers)


def test_the_losses_are_those_of_the_paper_computed_step_by_step():
    """Without sharing passes: source and drawing encoded by themselves, each domain's loss by itself."""
    method, batch = small_cut(), some_batch()
    found = losses_of(method, batch)["generator"]
    net, d = method.generator.net, method.discriminator
    photo, sketch = batch.photo, batch.sketch.expand(-1, 3, -1, -1)
    with torch.no_grad():
        images = net(torch.cat([photo, sketch]))
        torch.testing.assert_close(found["g_gan"], adversarial(d(images[:2]), real=True))
        source = [net.encode(x, method.layers) for x in (photo, sketch)]
        drawn = [net.encode(x.expand(-1, 3, -1, -1), method.layers) for x in (images[:2], images[2:])]
        torch.manual_seed(7)
        places = [draw_uniform(4, tuple(f.shape[2:]), 32, f.device) for f in source[0]]
        terms = []
        for half in (0, 1):
            part = slice(2 * half, 2 * half + 2)
            cells = [(p.rows[part], p.columns[part]) for p in places]
            counts = [p.counts[part] for p in places]
            terms.append(multilayer_nce(method.heads, drawn[half], source[half], cells, counts, 0.07))
    torch.testing.assert_close(found["g_nce"], (terms[0] + terms[1]) / 2)


def test_nothing_is_learnt_from_which_sketch_belongs_to_which_photo():
    method, batch = small_cut(nce_idt=False), some_batch()
    swapped = Batch(batch.photo, batch.sketch.flip(0), batch.style, batch.ids)
    ours, theirs = losses_of(method, batch), losses_of(method, swapped)
    for optimizer in ours:
        for name in ours[optimizer]:
            torch.testing.assert_close(ours[optimizer][name], theirs[optimizer][name])


def test_the_drawing_is_encoded_with_gradient_and_the_source_without():
    method, batch = small_cut(nce_idt=False, lambda_GAN=0.0), some_batch()
    net, parameters = method.generator.net, list(method.parameters())
    losses_of(method, batch)["generator"]["g_nce"].backward()
    found = [p.grad for p in parameters]
    assert float(net.layers[-1].weight.grad.abs().sum()) > 0  # through the drawing
    assert all(float(p.grad.abs().sum()) > 0 for n, p in method.heads.named_parameters() if "weight" in n)
    method.zero_grad()
    drawn = net.encode(net(batch.photo).expand(-1, 3, -1, -1), method.layers)
    with torch.no_grad():
        source = net.encode(batch.photo, method.layers)
    torch.manual_seed(7)
    places = [draw_uniform(2, tuple(f.shape[2:]), 32, f.device) for f in source]
    cells, counts = [(p.rows, p.columns) for p in places], [p.counts for p in places]
    multilayer_nce(method.heads, drawn, source, cells, counts, 0.07).backward()
    torch.testing.assert_close(found, [p.grad for p in parameters])


@pytest.mark.parametrize("device", UNSEEING)
def test_a_step_waits_for_nothing_that_the_device_computes(device):
    take_step_unseeing(small_cut().to(device), some_batch().to(torch.device(device)))


def test_a_compiled_generator_is_what_trains():
    batch, plain, compiled, runs = some_batch(), small_cut(), small_cut(), []
    compiled.generator.compile(backend=noting(runs), fullgraph=True)
    expected, found = losses_of(plain, batch), losses_of(compiled, batch)
    assert len(runs) == 2  # drawing, and encoding what was drawn
    torch.testing.assert_close(found, expected)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("direction", CUT.directions)
def test_a_step_in_either_direction_reaches_every_parameter(direction):
    method = small_cut(direction=direction)
    specs = method.optimizers(method.stages()[0])
    for name, losses in method.training_step(some_batch()):
        method.zero_grad()
        torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
        assert all(p.grad is not None for p in specs[name].parameters)
    trained = {id(p) for spec in specs.values() for p in spec.parameters}
    assert trained == {id(p) for p in method.parameters()}
    image = method.synthesizer(direction)(
        some_batch().photo[:, : 3 if direction == "photo2sketch" else 1], None
    )
    assert image.shape[1] == (1 if direction == "photo2sketch" else 3)


def test_under_autocast_the_losses_stay_close():
    method, batch = small_cut(init_type="normal"), some_batch()
    exact = losses_of(method, batch)["generator"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = losses_of(method, batch)["generator"]
    assert float(rough["g_nce"].detach()) == pytest.approx(float(exact["g_nce"].detach()), rel=0.1)


def test_a_run_trains_and_its_model_file_draws(tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    dataset = write_dataset(tmp_path / "data", 3, 1)
    values = NARROW | {"framing": "crop", "crop_size": 32, "n_epochs": 1, "n_epochs_decay": 1}
    options = RunOptions((str(dataset),), accelerator="cpu", select="ssim")
    metrics = Trainer("cut", build_settings(Settings, values), options, tmp_path / "run").fit()
    assert 0 < metrics["photo2sketch"]["ssim"] < 1
    assert export(tmp_path / "run", tmp_path / "cut.onnx", bits=32).difference < 1e-4
    about = json.loads(onnx.load(tmp_path / "cut.onnx").metadata_props[0].value)
    assert (about["method"], about["priors"], about["size_multiple"]) == ("cut", [], 4)
