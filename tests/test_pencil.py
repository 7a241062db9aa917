"""The light student's recipe: crops whose pixels are real ones, strokes compared in a window, another run's start."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from drawn import draw_pair, write_pair_folders
from lab import write_dataset
from silverpoint.data.augment import Augmentation, draw_crop, take_crop
from silverpoint.data.batches import Batch, Batches
from silverpoint.data.pairs import Example
from silverpoint.data.prepare import prepare
from silverpoint.errors import DataError, ModelError, RunError, UsageError
from silverpoint.methods.pencil import Pencil, Settings, around
from silverpoint.synthesis.model import Model, open_model
from silverpoint.training.export import export, load_run, load_synthesizer
from silverpoint.training.trainer import RunOptions, Trainer

TINY = {"batch_size": 2, "crop_size": 48, "lambda_perceptual": 0.0, "discriminator_width": 8}


def appears_in(crop: np.ndarray, image: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)
    return bool((windows == crop).all(axis=(2, 3)).any())


def test_a_plain_crop_is_a_piece_of_the_picture_unresampled():
    _, sketch = draw_pair(2)
    for seed in range(6):
        moved = Augmentation(rotation=9.0, tone=1.0).only_moved()
        where = draw_crop(*sketch.shape, 48, moved, torch.Generator().manual_seed(seed))
        crop = take_crop(torch.from_numpy(sketch)[None].float(), where)[0].numpy()
        assert appears_in(crop, sketch) or appears_in(crop[:, ::-1], sketch)


def test_plain_is_a_probability():
    sketch = np.random.default_rng(0).integers(0, 256, (80, 64)).astype(np.uint8)  # no two places alike
    photo = np.repeat(sketch[:, :, None], 3, axis=2)
    examples = [Example(str(i), "x", "x", photo, sketch) for i in range(8)]

    def share_of_plain(plain: float) -> float:
        batches = Batches(
            examples, ["x"], batch_size=8, crop_size=48, augmentation=Augmentation(plain=plain, flip=0.0)
        )
        crops = [c for step in range(3) for c in batches.batch(step).sketch]
        levels = [np.rint((c[0].numpy() + 1) * 127.5).astype(np.uint8) for c in crops]
        return float(np.mean([appears_in(level, sketch) for level in levels]))

    assert share_of_plain(1.0) == 1
    assert share_of_plain(0.0) == 0
    assert 0.2 < share_of_plain(0.5) < 0.8


def test_strokes_are_compared_in_a_window_that_reaches_every_pixel():
    method = Pencil(Settings(lambda_perceptual=0.0, stroke_window=32), ("x",))
    image, seen = torch.zeros(1, 1, 48, 40), torch.zeros(48, 40)
    torch.manual_seed(0)
    for _ in range(2000):
        window = image[method._stroke_window(image)]
        assert window.shape[2:] == (32, 32)
        seen[method._stroke_window(image)] += 1
    assert bool((seen > 0).all())
    whole = Pencil(Settings(lambda_perceptual=0.0, stroke_window=0), ("x",))
    assert image[whole._stroke_window(image)].shape == image.shape


def test_the_hand_is_judged_at_full_and_at_half_resolution_without_the_photo():
    """Against a transcription: least squares on the logits of sketch and style planes, the mean of two scales."""
    torch.manual_seed(0)
    method = Pencil(Settings(**TINY), ("a", "b"))
    sketch, style = torch.randn(2, 1, 48, 48), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for real, label in ((True, 1.0), (False, 0.0)):
        losses = []
        for scale, discriminator in zip((1, 2), method.discriminators, strict=True):
            small = sketch.reshape(2, 1, 48 // scale, scale, 48 // scale, scale).mean((3, 5))
            planes = style[:, :, None, None] * torch.ones(1, 1, *small.shape[2:])
            losses.append(((discriminator(torch.cat([planes, small], 1)) - label) ** 2).mean())
        torch.testing.assert_close(method._adversarial(sketch, style, real), sum(losses) / 2)


@pytest.mark.parametrize("style", ["", "b"])
def test_the_background_changes_no_drawing_in_another_hand(style):
    """Weighted L1, in the next pair's style or the one that is named, to what the run began with draws of the same
    person before white.
    """
    torch.manual_seed(0)
    method = Pencil(
        Settings(**TINY, lambda_background=8.0, paper_weight=3.0, background_style=style), ("a", "b")
    )
    assert method.priors == ("person",)
    method.progress = 1.0  # batch norm fixed
    styles, person = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1, 48, 48)
    person[..., :24] = 1
    batch = Batch(torch.randn(2, 3, 48, 48), torch.ones(2, 1, 48, 48), styles, priors={"person": person})
    before_white = batch.photo.clone()
    before_white[..., 24:] = 1
    *_, (name, losses) = method.train().training_step(batch)
    assert name == "generator"
    hand = torch.tensor([[0.0, 1.0], [0.0, 1.0]]) if style else styles.flip(0)
    with torch.no_grad():
        drawn = method.eval().generator(batch.photo, hand)
        near, paper = around(person), 2 * 253 / 255 - 1
        target = near * method.beginning(before_white, hand) + (1 - near) * paper
        expected = 8 * ((near + 3 * (1 - near)) * (drawn - target).abs()).mean()
    assert losses["g_background"] > 0
    torch.testing.assert_close(losses["g_background"], expected)

    losses["g_background"].backward()
    assert method.generator.stem[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*method.discriminators.parameters(), *method.beginning.parameters()])
    learning = {id(p) for spec in method.optimizers(method.stages()[0]).values() for p in spec.parameters}
    assert not any(id(p) in learning for p in method.beginning.parameters())


def test_ink_may_be_at_a_margin_around_the_person():
    person = torch.zeros(1, 1, 40, 40)
    person[..., :10] = 1
    near = around(person, margin=8)[0, 0]
    assert bool((near[:, :14] == 1).all())  # ten, and eight but for the fading's half
    assert bool((near[:, 22:] == 0).all())
    assert bool((near[:, 14:22].diff(dim=1) < 0).all())


def test_a_crop_too_small_for_the_coarsest_discriminator_is_refused():
    with pytest.raises(UsageError, match="crop_size must be at least 48 with discriminator_scales 2, not 32"):
        Settings(crop_size=32)
    smallest = Pencil(Settings(**TINY | {"crop_size": 48}), ("x",))
    assert smallest._adversarial(torch.zeros(1, 1, 48, 48), torch.ones(1, 1), real=True).isfinite()


def test_a_run_can_begin_with_the_networks_of_another(tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))  # validation goes without LPIPS
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    prepare("pairs", write_pair_folders(tmp_path / "mine", 6, (64, 80)), tmp_path / "dataset", val=0.34)

    def run(name: str, seed: int, start_from: str | None = None) -> Trainer:
        options = RunOptions(
            (str(tmp_path / "dataset"),), seed=seed, accelerator="cpu", select="ssim", start_from=start_from
        )
        settings = Settings(**TINY, n_epochs=1, n_epochs_decay=0, lr=1e-12, lr_discriminator=1e-12)
        trainer = Trainer("pencil", settings, options, tmp_path / name)
        trainer.fit()
        return trainer

    # Learning at 1e-12 changes nothing: runs of two seeds differ by where they began.
    first, other = run("first", 0).method, run("other", 1).method
    second = run("second", 1, str(tmp_path / "first")).method
    for name, tensor in first.generator.named_parameters():
        torch.testing.assert_close(second.generator.get_parameter(name), tensor, atol=1e-6, rtol=0)
    assert not torch.allclose(first.generator.stem[0].weight, other.generator.stem[0].weight, atol=1e-3)


def test_a_hand_the_run_did_not_know_begins_as_the_mean_of_those_it_knew():
    torch.manual_seed(0)
    settings = Settings(**TINY)
    old = Pencil(settings, ("a", "b"))
    new = Pencil(settings, ("b", "c"))
    theirs = {f"method.{k}": v for k, v in old.state_dict().items()}
    adopted = new.adopt(theirs, old.styles)
    new.load_state_dict({k.removeprefix("method."): v for k, v in adopted.items()})
    old.eval(), new.eval()
    photo, sketch = torch.randn(1, 3, 48, 48), torch.randn(1, 1, 48, 48)

    def seen(method: Pencil, style: list[float]) -> list[torch.Tensor]:
        hot = torch.tensor([style], dtype=torch.float32)
        planes = hot[:, :, None, None].expand(-1, -1, 48, 48)
        drawn = method.generator(photo, hot)
        return [drawn, *(d(torch.cat([planes, sketch], 1)) for d in method.discriminators)]

    for ours, before in (([1, 0], [0, 1]), ([0, 1], [0.5, 0.5])):
        torch.testing.assert_close(seen(new, ours), seen(old, before))
    assert new.adopt(theirs, new.styles) == theirs


def test_the_beginning_is_the_average_where_there_is_one():
    torch.manual_seed(0)
    old, new = Pencil(Settings(**TINY), ("a",)), Pencil(Settings(**TINY, lambda_background=1.0), ("a",))
    theirs = {f"method.{k}": v for k, v in old.state_dict().items()}
    averaged = {f"average/photo2sketch.module.{k}": v + 1 for k, v in old.generator.state_dict().items()}
    for more, difference in ({}, 0.0), (averaged, 1.0):
        adopted = new.adopt(theirs | more, old.styles)
        new.load_state_dict({k.removeprefix("method."): v for k, v in adopted.items() if "average" not in k})
        torch.testing.assert_close(new.beginning.out.weight, old.generator.out.weight + difference)


# ---- a model file as the beginning of a run ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A dataset, a run over it, and its model file."""
    root = tmp_path_factory.mktemp("finished")
    write_dataset(root / "dataset", train=4, val=2)
    settings = Settings(**TINY, n_epochs=2, n_epochs_decay=0, lr=0.01)
    options = RunOptions((str(root / "dataset"),), accelerator="cpu", select="ssim")
    Trainer("pencil", settings, options, root / "run").fit()
    export(root / "run", root / "model.onnx")
    return root


def begun(finished: Path, out: Path, start_from: str, **settings: object) -> Trainer:
    values = {"n_epochs": 1, "n_epochs_decay": 0, "lr": 1e-12, "lr_discriminator": 1e-12, **TINY, **settings}
    options = RunOptions(
        (str(finished / "dataset"),), accelerator="cpu", select="ssim", start_from=start_from, seed=5
    )
    return Trainer("pencil", Settings(**values), options, out)


def test_a_run_can_begin_with_a_model_file_and_draws_as_it_does(finished, tmp_path):
    run = begun(finished, tmp_path / "run", str(finished / "model.onnx"))
    run._run_stage = lambda *_: None
    run.fit()
    photo = draw_pair(7, (96, 96))[0]
    x = torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1
    drawn = Model(finished / "model.onnx")._run(photo, np.ones((1, 1), np.float32), {})
    for net in (run.method.generator, run.averages["photo2sketch"].module):
        with torch.no_grad():
            ours = ((net.eval()(x, torch.ones(1, 1))[0, 0] + 1) * 127.5).round()
        assert (ours - torch.from_numpy(drawn.astype(np.float32))).abs().max() <= 1


def test_its_batch_norm_has_the_statistics_of_what_it_will_train_on(finished, tmp_path):
    """Where a batch's own statistics take the place of the running ones, the drawing is the same."""
    run = begun(finished, tmp_path / "run", str(finished / "model.onnx"), batch_size=4)
    run._run_stage = lambda *_: None
    run.fit()
    batch, net = run.batches.batch(0), run.method.generator
    with torch.no_grad():
        still, moving = (net.train(mode)(batch.photo, batch.style) for mode in (False, True))
    assert (still - moving).abs().max() < 1e-3


def test_a_new_hand_begins_as_the_mean_of_those_of_the_file_that_ships(finished, tmp_path):
    run = begun(finished, tmp_path / "run", "pencil")
    run._run_stage = lambda *_: None
    run.fit()
    weights = {
        i.name: numpy_helper.to_array(i) for i in onnx.load(open_model("pencil").path).graph.initializer
    }
    theirs = weights["decode4.modulation.weight_half"].astype(np.float32)
    assert theirs.shape[1] > 1
    ours = run.method.generator.decode4.modulation.weight.detach()
    np.testing.assert_allclose(ours, theirs.mean(1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_what_a_run_began_with_stays_beside_what_it_learns(finished, tmp_path):
    """From a file, from a run that kept nothing of the kind, and when it is loaded."""
    root = write_dataset(tmp_path / "dataset", train=4, val=2, masks=True)
    options = partial(RunOptions, (str(root),), accelerator="cpu", select="ssim")
    settings = Settings(**TINY, n_epochs=1, n_epochs_decay=1, lr=0.01, lambda_background=8.0)
    Trainer(
        "pencil", Settings(**TINY, n_epochs=1, n_epochs_decay=0, lr=1e-12), options(), tmp_path / "first"
    ).fit()
    export(tmp_path / "first", tmp_path / "first.onnx")
    source = torch.from_numpy(draw_pair(7, (96, 96))[0]).permute(2, 0, 1)[None] / 127.5 - 1
    draw = torch.no_grad()(lambda net: net.eval()(source, torch.ones(1, 1)))
    expected = draw(load_synthesizer(tmp_path / "first")[2])
    for start in ("first.onnx", "first"):
        out = tmp_path / f"of-{start}"
        run = Trainer("pencil", settings, options(start_from=str(tmp_path / start)), out)
        run.fit()
        for method in (run.method, load_run(out)[0]):
            torch.testing.assert_close(draw(method.beginning), expected, atol=5e-3, rtol=0)
            assert (draw(method.generator) - expected).abs().max() > 0.05
    plain = Settings(**TINY, n_epochs=1, n_epochs_decay=0)
    Trainer("pencil", plain, options(start_from=str(out)), tmp_path / "after").fit()
    with pytest.raises(UsageError, match=r"learns from what it began with: .* --start-from"):
        Trainer("pencil", settings, options(), tmp_path / "scratch")
    with pytest.raises(UsageError, match="background_style: no pair is of 'cufs'; choose from mine"):
        begun(tmp_path, tmp_path / "other", "pencil", lambda_background=8.0, background_style="cufs").fit()
    with pytest.raises(DataError, match="has no person; prepare it with --priors saliency layout"):
        begun(finished, tmp_path / "wanting", "pencil", lambda_background=8.0).fit()


def test_a_file_that_cannot_be_begun_with_is_named(finished, tmp_path):
    export(finished / "run", tmp_path / "eight.onnx", bits=8)
    with pytest.raises(RunError, match=r"eight\.onnx: does not hold the network of pencil in 16 or 32 bits"):
        begun(finished, tmp_path / "run", str(tmp_path / "eight.onnx")).fit()
    with pytest.raises(ModelError, match=r"none\.onnx: no such model file"):
        begun(finished, tmp_path / "other", str(tmp_path / "none.onnx")).fit()
    card = {"format": 1, "name": "x", "method": "kt", "direction": "photo2sketch"}
    model = onnx.load(finished / "model.onnx")
    helper.set_model_props(model, {"silverpoint": json.dumps(card | {"styles": ["mine"]})})
    onnx.save(model, tmp_path / "kt.onnx")
    with pytest.raises(UsageError, match=r"kt\.onnx: a model of kt, not of pencil"):
        begun(finished, tmp_path / "third", str(tmp_path / "kt.onnx")).fit()
