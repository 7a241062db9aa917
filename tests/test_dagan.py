"""DA-GAN against its paper: sizes, equations, who learns in which update, and runs from end to end."""

import math
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import silverpoint.methods.dagan as dagan
from drawn import write_pair_folders
from lab import noting
from silverpoint.data.batches import Batch, Batches
from silverpoint.data.prepare import prepare
from silverpoint.errors import RunError, UsageError
from silverpoint.losses.domain import confuse_domains, tell_domains_apart
from silverpoint.losses.total_variation import total_variation
from silverpoint.losses.variational import gaussian_kl, sample_gaussian
from silverpoint.methods.dagan import DAGAN, Settings
from silverpoint.metrics.domain_gap import domain_gap
from silverpoint.nets.init import he_init
from silverpoint.nets.invnet import DomainNet, InvNet, Residual, Upsample
from silverpoint.nets.vgg import VGG19
from silverpoint.training.checkpoint import read_checkpoint
from silverpoint.training.export import export, load_run
from silverpoint.training.processes import Agreement
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import RunOptions, Trainer, resumed


@pytest.fixture(autouse=True)
def _untrained_vgg(monkeypatch):
    """VGG-19 with random weights: what is tested is where its features are taken and what is done with them."""

    def load(taps):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            vgg = VGG19(taps)
            he_init(vgg)
            return vgg

    monkeypatch.setattr(dagan, "load_vgg19", load)


def small_batch(size=32, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    photo, sketch, other = (torch.rand(count, c, size, size, generator=generator) * 2 - 1 for c in (3, 1, 1))
    return Batch(photo, sketch, torch.ones(count, 1), ["a"] * count, unpaired=other)


def method(**changes):
    torch.manual_seed(0)
    return DAGAN(build_settings(Settings, {"crop_size": 32, "width": 32, **changes}), ("x",))


def test_compiled_encoder_and_decoder_are_what_trains():
    plain, compiled, runs = method(), method(), []
    compiled.inverter.compile(backend=noting(runs), fullgraph=True)
    found = []
    for each in (plain, compiled):
        torch.manual_seed(3)
        found.append([torch.stack(list(losses.values())) for _, losses in each.training_step(small_batch())])
    assert len(runs) >= 2
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected)


# ---- Table 1 -----------------------------------------------------------------------------------------------------


def sizes(net, layers, x):
    """The activation size (C, H, W) after each of `layers` when `net` sees x."""
    found = {}
    for layer in layers:
        layer.register_forward_hook(lambda module, _, y: found.__setitem__(module, tuple(y.shape[1:])))
    with torch.no_grad():
        net(x)
    return [found[layer] for layer in layers]


def test_the_encoder_has_the_activation_sizes_of_table_1():
    net = InvNet().eval()
    assert sizes(net.encoder, list(net.encoder), torch.zeros(1, 1, 96, 96)) == [
        (16, 96, 96),
        (32, 48, 48),
        (64, 24, 24),
        (128, 12, 12),
        (512, 6, 6),
        (512, 6, 6),
        (512, 6, 6),
    ]
    kernels = [
        next(m for m in layer.modules() if isinstance(m, nn.Conv2d)).kernel_size for layer in net.encoder
    ]
    assert kernels == [(9, 9), (5, 5), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3)]


def test_the_decoder_has_the_activation_sizes_of_table_1():
    net = InvNet().eval()
    assert sizes(net.decoder, list(net.decoder), torch.zeros(1, 256, 6, 6)) == [
        (256, 6, 6),
        (256, 6, 6),
        (128, 12, 12),
        (64, 24, 24),
        (32, 48, 48),
        (16, 96, 96),
        (3, 96, 96),
    ]
    wide = [m.out_channels for m in net.decoder[0].modules() if isinstance(m, nn.Conv2d)]
    assert wide == [512, 256]
    kernels = {m.kernel_size for m in net.decoder.modules() if isinstance(m, nn.Conv2d)}
    assert kernels == {(3, 3)}


def test_the_domain_network_has_the_activation_sizes_of_table_1():
    net = DomainNet().eval()
    layers = list(net.convolutions) + [m for m in net.classifier if isinstance(m, nn.Linear)]
    assert sizes(net, layers, torch.zeros(1, 256, 6, 6)) == [
        (256, 6, 6),
        (16, 6, 6),
        (16, 6, 6),
        (32, 6, 6),
        (64, 6, 6),
        (64, 6, 6),
        (1000,),
        (1,),
    ]


def test_every_activation_is_a_leaky_relu_of_slope_one_fifth():
    for net in (InvNet(), DomainNet()):
        slopes = {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)}
        assert slopes == {0.2}
        known = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LeakyReLU, nn.Identity, nn.Flatten)
        known += (nn.AdaptiveAvgPool2d, nn.Sequential, Residual, Upsample, InvNet, DomainNet)
        assert all(isinstance(m, known) for m in net.modules())


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_larger_pictures_and_other_norms(norm):
    net = InvNet(norm).eval()
    with torch.no_grad():
        mean, log_variance = net.encode(torch.rand(1, 1, 64, 112))
        assert mean.shape == log_variance.shape == (1, 256, 4, 7)
        photo = net(torch.rand(1, 1, 64, 112))
        assert DomainNet()(mean).shape == (1, 1)
    assert photo.shape == (1, 3, 64, 112)
    assert float(photo.abs().max()) <= 1


def test_a_latent_may_be_negative():
    """The encoder ends in a sum, not in an activation."""
    mean, log_variance = InvNet().eval().encode(torch.rand(2, 1, 32, 32))
    for moment in (mean, log_variance):
        assert 0.2 < float((moment < 0).float().mean()) < 0.8


def test_synthesis_decodes_the_mean():
    net, sketch = InvNet().eval(), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(sketch), net.decode(net.encode(sketch)[0]))


def test_a_size_the_network_cannot_halve_four_times_is_refused():
    with pytest.raises(UsageError, match="multiple of 16"):
        Settings(crop_size=100)


# ---- Eqs. 5 and 6 ------------------------------------------------------------------------------------------------


def test_kl_is_that_of_two_gaussians():
    mean, log_variance = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).mean()
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
    assert float(gaussian_kl(torch.zeros(5), torch.zeros(5))) == 0
    # by hand: mean 2, variance e: (4 + e - 1 - 1) / 2
    assert float(gaussian_kl(torch.tensor([2.0]), torch.tensor([1.0]))) == pytest.approx((2 + math.e) / 2)


def test_kl_equals_the_expected_log_ratio():
    mean, log_variance = torch.tensor([0.7, -1.2]).double(), torch.tensor([-0.5, 0.4]).double()
    torch.manual_seed(0)
    z = sample_gaussian(mean.expand(400_000, 2), log_variance.expand(400_000, 2))
    variance = log_variance.exp()
    log_q = -0.5 * ((z - mean) ** 2 / variance + log_variance)
    ratio = (log_q + 0.5 * z**2).mean()
    assert float(ratio) == pytest.approx(float(gaussian_kl(mean, log_variance)), abs=5e-3)


def test_the_reparameterised_gradient_is_the_gradient_of_the_expectation():
    """E[z^2] = mean^2 + variance and E[sin z] = sin(mean) exp(-variance / 2): both have exact derivatives."""
    mean = torch.tensor(0.6, dtype=torch.double, requires_grad=True)
    log_variance = torch.tensor(-0.4, dtype=torch.double, requires_grad=True)
    torch.manual_seed(0)
    z = sample_gaussian(mean.expand(1_000_000), log_variance.expand(1_000_000))
    variance = math.exp(-0.4)
    for value, slopes in (
        (z.square().mean(), (2 * 0.6, variance)),
        (
            z.sin().mean(),
            (
                math.cos(0.6) * math.exp(-variance / 2),
                -math.sin(0.6) * math.exp(-variance / 2) * variance / 2,
            ),
        ),
    ):
        found = torch.autograd.grad(value, (mean, log_variance), retain_graph=True)
        assert [float(g) for g in found] == pytest.approx(slopes, abs=5e-3)


def test_total_variation_is_the_printed_sum_over_its_terms():
    image = torch.rand(2, 3, 5, 4).double()
    total = 0.0
    for b in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(3):
                    here, down, right = image[b, c, i, j], image[b, c, i + 1, j], image[b, c, i, j + 1]
                    total += math.sqrt((down - here) ** 2 + (right - here) ** 2)
    assert float(total_variation(image, epsilon=0)) == pytest.approx(total / (2 * 3 * 4 * 3), rel=1e-6)


def test_total_variation_of_a_flat_image_has_a_gradient():
    image = torch.zeros(1, 1, 4, 4, requires_grad=True)
    total_variation(image).backward()
    assert bool(torch.isfinite(image.grad).all())


# ---- Eq. 8 -------------------------------------------------------------------------------------------------------


def eq8(source, target):
    """As printed: E[log(1 - D(rho_T))] + E[log D(rho_S)]."""
    return (1 - target.sigmoid()).log().mean() + source.sigmoid().log().mean()


def test_the_game_about_domains_against_a_transcription():
    source, target = torch.randn(7).double(), torch.randn(5).double()
    printed = eq8(source, target)
    torch.testing.assert_close(
        tell_domains_apart(source, target, "minimax").double(), printed, rtol=1e-5, atol=0
    )
    for mode in ("vanilla", "minimax"):
        torch.testing.assert_close(
            confuse_domains(source, target, mode).double(), -printed, rtol=1e-5, atol=0
        )
    right = -(target.sigmoid().log().mean() + (1 - source.sigmoid()).log().mean())
    torch.testing.assert_close(tell_domains_apart(source, target).double(), right, rtol=1e-5, atol=0)
    squares = ((target - 1) ** 2).mean() + (source**2).mean()
    torch.testing.assert_close(
        tell_domains_apart(source, target, "lsgan").double(), squares, rtol=1e-5, atol=0
    )


def slope_at(loss, source, target):
    """d loss / d target logit."""
    target = torch.tensor([target], requires_grad=True)
    loss(torch.tensor([source]), target).backward()
    return float(target.grad)


def test_as_printed_d_learns_least_where_it_is_most_wrong_and_has_no_bound():
    """Minimising Eq. 8 rewards D's confidence without end, and ignores a target latent it takes for a source's."""
    printed = lambda s, t: tell_domains_apart(s, t, "minimax")  # noqa: E731
    assert abs(slope_at(printed, 0.0, -8.0)) < 1e-3  # wrong: no gradient
    assert abs(slope_at(printed, 0.0, 8.0)) > 0.99  # right: all of it
    assert float(printed(torch.tensor([-1e3]), torch.tensor([1e3]))) < -1e3
    assert abs(slope_at(tell_domains_apart, 0.0, -8.0)) > 0.99
    assert float(tell_domains_apart(torch.tensor([-1e3]), torch.tensor([1e3]))) == 0
    # the encoder's side of Eq. 8 does not saturate while D is right
    assert abs(slope_at(confuse_domains, 0.0, 8.0)) > 0.99


# ---- Algorithm 1 -------------------------------------------------------------------------------------------------


def test_the_three_updates_come_in_order_and_as_often_as_asked():
    m = method(itrs_inv=2, itrs_G=3, itrs_D=1)
    names = [name for name, _ in m.training_step(small_batch())]
    assert names == ["inversion"] * 2 + ["adaptation"] * 3 + ["domain"]


def test_the_inversion_loss_is_eq_7():
    m, batch = method(norm="none", lambda_vae=2.0, lambda_kl=0.3, lambda_tv=0.7), small_batch()
    torch.manual_seed(5)
    _, losses = next(m.training_step(batch))
    torch.manual_seed(5)
    with torch.no_grad():
        mean, log_variance = m.inverter.net.encoder(batch.sketch).split(16, dim=1)
        z = mean + log_variance.exp().sqrt() * torch.randn(mean.shape)
        fake = m.inverter.net.decoder(z).tanh()
        features = [m.vgg[0]((x + 1) / 2)["relu3_4"] for x in (fake, batch.photo)]
    assert features[0].shape == (2, 256, 8, 8)
    printed = {
        "perceptual": 2 * (features[0] - features[1]).norm() ** 2 / features[0].numel(),
        "kl": 2 * 0.3 * 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).mean(),
        "tv": 0.7 * total_variation(fake),
    }
    assert losses.keys() == printed.keys()
    for name, value in printed.items():
        torch.testing.assert_close(losses[name].detach(), value, rtol=1e-4, atol=1e-7)


def test_each_update_reaches_its_own_network_alone():
    m = method()
    reached = {}
    for name, losses in m.training_step(small_batch()):
        m.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        parts = {"encoder": m.inverter.net.encoder, "decoder": m.inverter.net.decoder, "D": m.domain}
        reached[name] = {
            part for part, net in parts.items() if any(p.grad is not None for p in net.parameters())
        }
    assert reached["inversion"] == {"encoder", "decoder"}
    assert reached["adaptation"] == {"encoder", "D"}  # of which the optimizer moves the encoder alone
    assert reached["domain"] == {"D"}
    adapted = {id(p) for p in m.optimizers(m.stages()[0])["adaptation"].parameters}
    assert adapted == {id(p) for p in m.inverter.net.encoder.parameters()}


def test_the_encoder_learns_from_the_latents_of_both_domains():
    m = method(norm="none")
    for part in ("sketch", "unpaired"):
        batch = small_batch()
        setattr(batch, part, getattr(batch, part).clone().requires_grad_())
        _, losses = list(m.training_step(batch))[1]
        losses["g_domain"].backward()
        assert float(getattr(batch, part).grad.abs().sum()) > 0


def test_d_sees_the_latents_of_the_encoder_as_updated():
    m, seen = method(norm="none"), []
    m.domain.register_forward_pre_hook(lambda _, latents: seen.append(latents[0]))
    updates = m.training_step(small_batch())
    assert next(updates)[0] == "inversion"
    assert next(updates)[0] == "adaptation"
    with torch.no_grad():  # as if the update had made every sketch's latent the standard normal
        for p in m.inverter.net.encoder.parameters():
            p.zero_()
    seen.clear()
    assert next(updates)[0] == "domain"
    latents = torch.cat(seen)
    assert not latents.requires_grad
    assert float(latents.mean()) == pytest.approx(0, abs=0.25)
    assert float(latents.std()) == pytest.approx(1, abs=0.25)


def test_the_domain_network_sees_both_domains_in_one_pass_as_in_two():
    m, seen = method(norm="none"), []
    m.domain.register_forward_hook(lambda _, latents, logits: seen.append((latents[0], logits)))
    losses = {name: loss for _, found in m.training_step(small_batch()) for name, loss in found.items()}
    assert len(seen) == 2
    for (latents, _), name, loss in zip(
        list(seen), ("g_domain", "d_domain"), (confuse_domains, tell_domains_apart), strict=True
    ):
        source, target = (m.domain(half) for half in latents.chunk(2))
        torch.testing.assert_close(losses[name], loss(source, target))


def test_without_adaptation_the_target_is_ignored():
    batch = small_batch()
    alone = Batch(batch.photo, batch.sketch, batch.style, batch.ids)
    m = method(itrs_G=0, itrs_D=0)
    assert m.domain is None
    found = []
    for b in (batch, alone):
        torch.manual_seed(0)
        steps = list(m.training_step(b))
        assert [name for name, _ in steps] == ["inversion"]
        found.append(steps[0][1])
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])
    assert set(m.optimizers(m.stages()[0])) == {"inversion"}


def test_the_control_sees_the_target_and_is_not_adapted():
    m = method(itrs_G=0).train()
    assert [name for name, _ in m.training_step(small_batch())] == ["inversion", "domain"]
    assert set(m.optimizers(m.stages()[0])) == {"inversion", "domain"}


def test_an_encoder_is_not_pushed_by_a_domain_network_that_learns_nothing():
    with pytest.raises(UsageError, match="itrs_G without itrs_D"):
        Settings(itrs_D=0)


def test_batch_norm_sees_both_domains_in_every_update():
    """Else its running statistics would be of another mixture than the decoder was trained on."""
    m = method().train()
    first = m.inverter.net.encoder[0][0]
    counts = []
    first.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    list(m.training_step(small_batch()))
    assert counts == [4, 4, 4]
    counts.clear()
    m = method(norm="instance")
    m.inverter.net.encoder[0][0].register_forward_hook(
        lambda module, inputs, output: counts.append(len(inputs[0]))
    )
    list(m.training_step(small_batch()))
    assert counts == [2, 4, 4]


def test_descending_the_losses_lowers_the_perceptual_loss():
    m, batch = method(lr=2e-3).train(), small_batch()
    specs = m.optimizers(m.stages()[0])
    optimizers = {n: torch.optim.Adam(s.parameters, s.lr, s.betas) for n, s in specs.items()}
    history = []
    for step in range(20):
        torch.manual_seed(step)
        for name, losses in m.training_step(batch):
            optimizers[name].zero_grad()
            torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
            optimizers[name].step()
            if name == "inversion":
                history.append(float(losses["perceptual"].detach()))
    assert sum(history[-3:]) < 0.8 * sum(history[:3])


# ---- the instrument ----------------------------------------------------------------------------------------------


def latents(count, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 256, 2, 2, generator=generator)
    x[:, :8] += shift
    return x


def test_a_fresh_classifier_tells_apart_what_differs_and_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("graphics cards were seeded"))
    before = torch.random.get_rng_state()
    apart = [latents(64, shift, seed) for seed, shift in enumerate((0.0, 3.0, 0.0, 3.0))]
    alike = [latents(64, 0.0, seed) for seed in range(4)]
    accuracy, entropy = domain_gap(*apart, steps=40)
    assert accuracy > 0.95
    assert entropy < 0.1
    accuracy, entropy = domain_gap(*alike, steps=40)
    assert 0.35 < accuracy < 0.65  # held out: it has learnt the others by heart
    assert entropy > math.log(2)  # and is sure of it
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_domains_count_alike_whatever_their_sizes():
    few, many = latents(4, 0.0, 0), latents(60, 0.0, 1)
    accuracy, entropy = domain_gap(latents(60, 0.0, 2), latents(60, 0.0, 3), few, many, steps=10, seed=1)
    again = domain_gap(latents(60, 0.0, 2), latents(60, 0.0, 3), few, many, steps=10, seed=1)
    assert (accuracy, entropy) == again
    # one latent in four moves the mean of the two accuracies by an eighth, one in sixty by 1/120
    assert round(accuracy * 120) == pytest.approx(accuracy * 120, abs=1e-4)
    twice = domain_gap(latents(60, 0.0, 2), latents(60, 0.0, 3), torch.cat([few] * 2), many, steps=10, seed=1)
    assert twice == pytest.approx(again)


def blurs(count, seed, brightness):
    """(N, 1, 32, 32): the same kind of picture in every domain, lighter or darker."""
    small = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, (32, 32), mode="bilinear") - 0.5 + brightness


def gap_after_training(steps, **changes):
    """Of two domains that differ in their brightness alone, after the three updates of Algorithm 1."""
    fast = {"norm": "none", "lambda_perceptual": 0.0, "lambda_pixel": 1.0}
    m = method(**fast, width=16, lr=1e-3, lr_G=1e-3, lr_D=1e-3, **changes).train()
    specs = m.optimizers(m.stages()[0])
    optimizers = {n: torch.optim.Adam(s.parameters, s.lr, s.betas) for n, s in specs.items()}
    source, target = blurs(64, 1, -0.2), blurs(64, 2, 0.2)
    for step in range(steps):
        torch.manual_seed(step)
        at = torch.randperm(64)[:8]
        batch = Batch(source[at].expand(-1, 3, -1, -1), source[at], torch.ones(8, 1), unpaired=target[at])
        for name, losses in m.training_step(batch):
            optimizers[name].zero_grad()
            torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
            optimizers[name].step()
    with torch.no_grad():
        domains = (source, target, blurs(64, 3, -0.2), blurs(64, 4, 0.2))
        return domain_gap(*(m.inverter.net.encode(x)[0] for x in domains), steps=20)


def test_adaptation_brings_the_domains_together():
    lengths = (60, 70)  # one end of a training says little: the two play on
    adapted, control = (
        sum(gap_after_training(n, **changes).cross_entropy for n in lengths)
        for changes in ({}, {"itrs_G": 0})
    )
    assert adapted > 10 * control  # 150 times and more, by the number of threads


# ---- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Pairs, and a set of sketches of another number."""
    root = tmp_path_factory.mktemp("data")
    prepare("pairs", write_pair_folders(root / "source", 5, (32, 32)), root / "pairs", val=0.2)
    prepare("pairs", write_pair_folders(root / "target", 3, (32, 32)), root / "hand-drawn", val=0.0)
    return root


def trainer(datasets, out, **changes):
    values = {"batch_size": 2, "crop_size": 32, "n_epochs": 1, "n_epochs_decay": 1, "width": 16} | changes
    options = RunOptions(
        (str(datasets / "pairs"),),
        unpaired=(str(datasets / "hand-drawn"),),
        accelerator="cpu",
        save_minutes=60,
        select="ssim",
    )
    return Trainer("dagan", build_settings(Settings, values), options, out)


def test_a_run_that_adapts_needs_a_target_before_its_folder_is_written(datasets, tmp_path):
    options = RunOptions((str(datasets / "pairs"),), accelerator="cpu")
    with pytest.raises(UsageError, match="--unpaired"):
        Trainer("dagan", Settings(), options, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    Trainer("dagan", Settings(itrs_G=0, itrs_D=0), options, tmp_path / "run")


def test_a_run_learns_from_sketches_that_have_no_photos(datasets, tmp_path):
    for sketch in (datasets / "target" / "sketches").iterdir():
        (tmp_path / "hand" / "sketches").mkdir(parents=True, exist_ok=True)
        shutil.copy(sketch, tmp_path / "hand" / "sketches")
    prepare("pairs", tmp_path / "hand", tmp_path / "hand-drawn")
    runs = [trainer(datasets, tmp_path / "run"), trainer(datasets, tmp_path / "run")]
    runs[1].options = replace(runs[1].options, unpaired=(str(tmp_path / "hand-drawn"),))
    for run in runs:
        run.all = Agreement(run.fabric)
        run._build()
    paired, alone = (run.batches.batch(1).unpaired for run in runs)
    assert torch.equal(paired, alone)


def test_a_resumed_run_refuses_another_target(datasets, tmp_path):
    run = trainer(datasets, tmp_path / "run")
    run._run_stage = lambda number, *_: run._save(number, 1)
    run.fit()
    prepare("pairs", write_pair_folders(tmp_path / "others", 3, (32, 32)), tmp_path / "hand-drawn", val=0.0)
    with pytest.raises(RunError, match="other training pairs or sketches"):
        resumed(tmp_path / "run", unpaired=(str(tmp_path / "hand-drawn"),)).fit(resume=True)


def test_a_run_resumes_bit_for_bit_and_its_inverter_is_exported(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))  # validation goes without LPIPS
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    trainer(datasets, tmp_path / "whole").fit()
    original = Batches.batch

    def interrupted(self, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer(datasets, tmp_path / "run").fit()
    resumed(tmp_path / "run").fit(resume=True)
    whole, run = (
        read_checkpoint(tmp_path / n / "checkpoints" / "last.safetensors")[0] for n in ("whole", "run")
    )
    assert whole.keys() == run.keys()
    assert all(torch.equal(whole[k], run[k]) for k in whole)
    assert export(tmp_path / "run", tmp_path / "inverter.onnx", bits=32).difference < 1e-4


def test_the_average_of_inv_net_draws_where_it_is_asked_for(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    assert method().average_decay() is None
    run = trainer(datasets, tmp_path / "run", ema=0.9)
    run.fit()
    drawing = load_run(tmp_path / "run")[1]["sketch2photo"]
    weights = [net.net.encoder[0][0].weight for net in (drawing, run.averages["sketch2photo"].module)]
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], run.method.inverter.net.encoder[0][0].weight)
