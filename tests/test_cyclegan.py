"""CycleGAN: the losses against the authors' step written out, the image pool, and runs from end to end."""

import dataclasses
import os
import signal

import pytest
import torch

from drawn import write_pair_folders
from lab import noting
from silverpoint.data.batches import Batch, Batches
from silverpoint.data.prepare import prepare
from silverpoint.methods.cyclegan import CycleGAN, ImagePool, Settings
from silverpoint.training.checkpoint import read_checkpoint
from silverpoint.training.export import export
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import RunOptions, Trainer, resumed

SMALL = {"framing": "crop", "crop_size": 32, "ngf": 4, "ndf": 4, "pool_size": 3}


def method(**changes):
    torch.manual_seed(0)
    return CycleGAN(build_settings(Settings, SMALL | changes), ("x",))


def some_batch(unpaired=False):
    generator = torch.Generator().manual_seed(1)
    photo, sketch, other = (torch.rand(1, c, 32, 32, generator=generator) * 2 - 1 for c in (3, 1, 1))
    return Batch(photo, sketch, torch.ones(1, 1), ["a"], unpaired=other if unpaired else None)


# ---- losses ------------------------------------------------------------------------------------------------------


def written_out(m, photo, sketch, s):
    """The step of the authors' code, one image through one network at a time; the pool still fills."""
    real_A, real_B = photo, sketch.repeat(1, 3, 1, 1)
    G_A, G_B = m.G_A.net, m.G_B.net
    fake_B, fake_A = G_A(real_A), G_B(real_B)
    rec_A, rec_B = G_B(fake_B), G_A(fake_A)
    wants_real = lambda logits: ((logits - 1) ** 2).mean()  # noqa: E731
    wants_fake = lambda logits: (logits**2).mean()  # noqa: E731
    return {
        "G_A": wants_real(m.D_A(fake_B)),
        "G_B": wants_real(m.D_B(fake_A)),
        "cycle_A": (rec_A - real_A).abs().mean() * s.lambda_A,
        "cycle_B": (rec_B - real_B).abs().mean() * s.lambda_B,
        "idt_A": (G_A(real_B) - real_B).abs().mean() * s.lambda_B * s.lambda_identity,
        "idt_B": (G_B(real_A) - real_A).abs().mean() * s.lambda_A * s.lambda_identity,
        "D_A": (wants_real(m.D_A(real_B)) + wants_fake(m.D_A(fake_B))) * 0.5,
        "D_B": (wants_real(m.D_B(real_A)) + wants_fake(m.D_B(fake_A))) * 0.5,
    }


def test_the_losses_are_those_of_the_authors_step():
    m = method(lambda_A=7.0, lambda_B=11.0, lambda_identity=0.3)
    batch = some_batch()
    with torch.no_grad():
        expected = written_out(m, batch.photo, batch.sketch, m.settings)
        updates = list(m.training_step(batch))
    assert [name for name, _ in updates] == ["generator", "discriminator"]
    found = updates[0][1] | updates[1][1]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_without_identity_its_passes_are_not_made():
    m, passes = method(lambda_identity=0.0), []
    for net in (m.G_A.net, m.G_B.net):
        net.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    updates = list(m.training_step(some_batch()))
    assert not {"idt_A", "idt_B"} & updates[0][1].keys()
    assert passes == [1, 1, 1, 1]


def test_a_compiled_generator_is_what_trains():
    plain, compiled, runs = method(lambda_identity=0.0), method(lambda_identity=0.0), []
    for generator in (compiled.G_A, compiled.G_B):
        generator.compile(backend=noting(runs), fullgraph=True)
    expected, found = (dict(m.training_step(some_batch())) for m in (plain, compiled))
    assert len(runs) == 4  # there and back, from either side
    torch.testing.assert_close(found, expected)


def test_each_update_moves_its_own_networks():
    m = method()
    specs = m.optimizers(m.stages()[0])
    for name, losses in m.training_step(some_batch()):
        m.zero_grad()
        torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
        touched = {n.split(".")[0] for n, p in m.named_parameters() if p.grad is not None}
        assert touched == ({"G_A", "G_B"} if name == "generator" else {"D_A", "D_B"})


def test_sketches_without_photos_take_the_place_of_the_pairs():
    m, batch = method(pool_size=0), some_batch(unpaired=True)
    alone = Batch(batch.photo, batch.unpaired, batch.style, batch.ids)
    with torch.no_grad():
        found, expected = (list(m.training_step(b)) for b in (batch, alone))
    for (_, a), (_, b) in zip(found, expected, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_sketches_come_out_grey_and_photos_in_colour():
    m, batch = method().eval(), some_batch()
    with torch.no_grad():
        sketch = m.synthesizer("photo2sketch")(batch.photo, batch.style)
        photo = m.synthesizer("sketch2photo")(batch.sketch, batch.style)
        torch.testing.assert_close(sketch, m.G_A.net(batch.photo).mean(1, keepdim=True))
        torch.testing.assert_close(photo, m.G_B.net(batch.sketch.repeat(1, 3, 1, 1)))
    assert sketch.shape == (1, 1, 32, 32)
    assert photo.shape == (1, 3, 32, 32)


# ---- the pool ----------------------------------------------------------------------------------------------------


def numbered(first, count):
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_the_pool_is_the_one_of_the_authors():
    """Against a list and the same coin: fill, then keep or exchange with one drawn from all."""
    pool, kept, drawn, expected = ImagePool(5), [], [], []
    torch.manual_seed(3)
    for step in range(40):
        drawn += pool(numbered(2 * step, 2))[:, 0, 0, 0].tolist()
    torch.manual_seed(3)
    for image in range(80):
        if len(kept) < 5:
            kept.append(image)
            expected.append(image)
        elif torch.rand(()) >= 0.5:
            place = int(torch.randint(5, ()))
            expected.append(kept[place])
            kept[place] = image
        else:
            expected.append(image)
    assert drawn == expected
    assert pool.images[:, 0, 0, 0].tolist() == kept
    assert sum(a == b for a, b in zip(drawn, range(80), strict=True)) < 60  # the history is used


def test_an_empty_pool_hands_on_what_it_is_given_without_gradient():
    image = torch.rand(1, 3, 2, 2, requires_grad=True)
    for size in (0, 2):
        out = ImagePool(size)(image)
        assert torch.equal(out, image)
        assert not out.requires_grad


@pytest.mark.parametrize("steps", [0, 2, 9])
def test_a_pool_restored_goes_on_as_the_first(steps):
    pool, other = ImagePool(4), ImagePool(4)
    for step in range(steps):
        pool(numbered(step, 1))
    other.load_state_dict(pool.state_dict())
    for each in (pool, other):
        torch.manual_seed(0)
        each.later = [each(numbered(100 + i, 1)) for i in range(12)]
    assert all(torch.equal(a, b) for a, b in zip(pool.later, other.later, strict=True))


def test_a_history_of_another_size_is_forgotten():
    pool = ImagePool(4)
    pool(torch.rand(2, 3, 8, 8))
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(pool(image), image)
    assert pool.images.shape == (1, 3, 16, 16)


# ---- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare("pairs", write_pair_folders(root / "mine", 6, (48, 48)), root / "dataset", val=0.34)
    return root / "dataset"


def trainer(dataset, out):
    settings = build_settings(Settings, SMALL | {"n_epochs": 1, "n_epochs_decay": 2})
    options = RunOptions((str(dataset),), accelerator="cpu", save_minutes=60, select="ssim")
    return Trainer("cyclegan", settings, options, out)


def test_a_run_resumes_bit_for_bit_with_its_pools_and_is_exported(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))  # validation goes without LPIPS
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    trainer(dataset, tmp_path / "whole").fit()
    original = Batches.batch

    def interrupted(self, step):
        if step == 7:  # the pools of 3 are full
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(dataset, tmp_path / "run").fit()
    resumed(tmp_path / "run").fit(resume=True)
    whole, run = (
        read_checkpoint(tmp_path / n / "checkpoints" / "last.safetensors")[0] for n in ("whole", "run")
    )
    assert whole.keys() == run.keys()
    assert whole["method.fake_A_pool.images"].shape == (3, 3, 32, 32)
    assert all(torch.equal(whole[k], run[k]) for k in whole)
    assert export(tmp_path / "run", tmp_path / "m.onnx", direction="photo2sketch", bits=32).difference < 1e-4


def test_the_names_of_the_authors_settings_are_known():
    names = {"lambda_A", "lambda_B", "lambda_identity", "gan_mode", "pool_size", "ngf", "ndf", "lr", "beta1"}
    assert names <= {f.name for f in dataclasses.fields(Settings)}
    defaults = Settings()
    assert (defaults.lambda_A, defaults.lambda_B, defaults.lambda_identity) == (10.0, 10.0, 0.5)
    assert (defaults.pool_size, defaults.gan_mode, defaults.batch_size, defaults.lr) == (50, "lsgan", 1, 2e-4)
    assert (defaults.n_epochs, defaults.n_epochs_decay, defaults.framing) == (100, 100, "resize286")
