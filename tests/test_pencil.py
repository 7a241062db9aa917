"""The light student's recipe: crops whose pixels are real ones, strokes compared in a window, another run's start."""

import numpy as np
import torch

from drawn import draw_pair, write_pair_folders
from silverpoint.data.augment import Augmentation, draw_crop, take_crop
from silverpoint.data.batches import Batches
from silverpoint.data.pairs import Example
from silverpoint.data.prepare import prepare
from silverpoint.methods.pencil import Pencil, Settings
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
        return [drawn, method.discriminator(torch.cat([photo, planes, sketch], 1))]

    for ours, before in (([1, 0], [0, 1]), ([0, 1], [0.5, 0.5])):
        torch.testing.assert_close(seen(new, ours), seen(old, before))
    assert new.adopt(theirs, new.styles) is theirs
