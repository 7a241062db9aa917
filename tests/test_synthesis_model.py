"""Model files: what is accepted, what is drawn, and that tiles change nothing."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from conftest import ROOT, card
from silverpoint.errors import ModelError, UsageError
from silverpoint.image import to_grey
from silverpoint.synthesis import model as models
from silverpoint.synthesis.model import Model, available, built_in, open_model
from silverpoint.synthesis.sketcher import load

WriteModel = Callable[..., Path]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 300), (250, 200)])
def test_draws_any_size_as_it_is(tiny_model: Path, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    drawn = Model(tiny_model, threads=1).draw(image[None])
    assert drawn.shape == (1, *shape)
    assert drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn[0], image.mean(axis=2), atol=1)


@pytest.mark.parametrize("framing", ["pad256", "resize256", "resize286"])
@pytest.mark.parametrize("shape", [(250, 200), (300, 420), (17, 5)])
def test_a_framed_model_draws_any_size_in_its_place(
    tmp_path: Path, write_model: WriteModel, framing: str, shape: tuple[int, int]
) -> None:
    model = Model(write_model(tmp_path / "m.onnx", framing=framing, fill="white", size_multiple=256))
    image = np.repeat(np.linspace(0, 255, shape[0]).astype(np.uint8)[:, None, None], shape[1], 1).repeat(3, 2)
    drawing = model.draw(image[None])[0]
    assert drawing.shape == shape
    assert np.abs(drawing.astype(int) - image[..., 0]).max() <= (1 if framing == "pad256" else 12)


@pytest.mark.parametrize("framing", ["pad256", "crop"])
def test_a_face_of_the_training_frame_meets_the_network_as_in_training(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    described = {"framing": framing, "fill": "white", "size_multiple": 256, "receptive_margin": None}
    model = Model(write_model(tmp_path / "m.onnx", **described))
    seen = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda image, *rest: seen.append(image) or run(image, *rest))
    image = noise(250, 200)
    model.draw(image[None])
    assert [s.shape for s in seen] == [(256, 256, 3)]
    assert np.array_equal(seen[0][3:253, 28:228], image)  # the field's convention
    assert seen[0][:3].min() == seen[0][:, 228:].min() == 255


@pytest.mark.parametrize("shape", [(250, 200), (33, 17)])
def test_a_network_that_sees_the_whole_has_no_more_around_it_than_its_multiple_asks_for(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """With a norm over the picture every row that is added changes every pixel: it is framed as it was scored."""
    torch = pytest.importorskip("torch")
    from silverpoint.data.framing import frame

    model = Model(write_model(tmp_path / "m.onnx", framing="crop", size_multiple=16, receptive_margin=None))
    seen = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda image, *rest: seen.append(image) or run(image, *rest))
    image = noise(*shape)
    assert model.draw(image[None]).shape == (1, *shape)
    scored, _ = frame(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float(), "crop", 16)
    np.testing.assert_array_equal(seen[0], scored[0].numpy().transpose(1, 2, 0))


def test_style_changes_the_drawing(tiny_model: Path) -> None:
    model = Model(tiny_model, threads=1)
    grey = np.full((1, 20, 20, 3), 128, np.uint8)
    np.testing.assert_array_equal(model.draw(grey), model.draw(grey, "cufs"))
    assert model.draw(grey, "fs2k1").max() < model.draw(grey, "cufs").min()
    with pytest.raises(UsageError, match="no style 'oil'; its styles: cufs, fs2k1"):
        model.draw(grey, "oil")


def test_a_model_without_styles_takes_none(tmp_path: Path, write_model: WriteModel) -> None:
    model = Model(write_model(tmp_path / "m.onnx", styles=[], default_style=None), threads=1)
    assert model.draw(noise(20, 20)[None]).shape == (1, 20, 20)
    with pytest.raises(UsageError, match="its styles: none"):
        model.draw(noise(20, 20)[None], "cufs")


def test_a_colour_model_draws_colour(tmp_path: Path, write_model: WriteModel) -> None:
    model = Model(write_model(tmp_path / "m.onnx", channels=3), threads=1)
    assert model.draw(noise(40, 30)[None]).shape == (1, 40, 30, 3)


def test_a_batch_is_drawn_as_its_images_are(tmp_path: Path, write_model: WriteModel) -> None:
    model = Model(write_model(tmp_path / "m.onnx", depth=3), threads=1)
    images = np.stack([noise(50, 70, seed) for seed in range(3)])
    singles = [model.draw(image[None])[0] for image in images]
    np.testing.assert_array_equal(model.draw(images), singles)


@pytest.mark.parametrize("shape", [(240, 250), (100, 611)])
def test_tiles_give_the_untiled_drawing(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    model = Model(write_model(tmp_path / "m.onnx", depth=6), threads=1)  # receptive radius 2 * 5 + 1 < margin
    image = noise(*shape)[None]
    whole = model.draw(image)
    assert whole.std() > 5
    monkeypatch.setattr(models, "TILE_PIXELS", 80 * 80)
    np.testing.assert_array_equal(model.draw(image), whole)


def test_a_margin_too_small_is_noticed(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above proves something."""
    model = Model(write_model(tmp_path / "m.onnx", depth=6, receptive_margin=0), threads=1)
    image = noise(240, 250)[None]
    whole = model.draw(image)
    monkeypatch.setattr(models, "TILE_PIXELS", 80 * 80)
    assert (model.draw(image) != whole).any()


def test_a_network_that_sees_the_whole_draws_it_in_one_piece_up_to_a_limit(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(write_model(tmp_path / "m.onnx", depth=6, receptive_margin=None), threads=1)
    image = noise(240, 250)[None]
    whole = model.draw(image)
    monkeypatch.setattr(models, "TILE_PIXELS", 80 * 80)
    np.testing.assert_array_equal(model.draw(image), whole)
    monkeypatch.setattr(models, "WHOLE_PIXELS", 200 * 200)
    with pytest.raises(UsageError, match=r"sees a picture as one.* size of at most 141"):
        model.draw(image)


def test_a_model_of_unaligned_pictures_sees_each_as_in_training(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(write_model(tmp_path / "m.onnx", framing="resize256", frame=None), threads=1)
    assert model.card.frame is None
    seen = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda image, *rest: seen.append(image.shape) or run(image, *rest))
    assert model.draw(noise(300, 420)[None]).shape == (1, 300, 420)
    assert seen == [(256, 256, 3)]


def test_priors_are_made_of_what_the_network_sees_on_the_models_threads(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drawing on yellowed paper is a grey one to a network of sketches, and to those that prepared its data."""
    seen = []

    def saliency(image: np.ndarray, threads: int) -> np.ndarray:
        seen.append((image, threads))
        return np.zeros(image.shape[:2], np.uint8)

    monkeypatch.setattr(models, "PRIORS", {"saliency": saliency})
    model = Model(write_model(tmp_path / "m.onnx"), threads=1)
    monkeypatch.setattr(model, "card", dataclasses.replace(model.card, priors=("saliency",)))
    monkeypatch.setattr(model, "_run", lambda image, *_: image[:, :, 0])
    image = noise(64, 64)
    for grey, expected in ((False, image), (True, np.stack([to_grey(image)] * 3, -1))):
        monkeypatch.setattr(model, "_grey", grey)
        model.draw(image[None])
        assert np.array_equal(seen[-1][0], expected)
        assert seen[-1][1] == 1


def test_threads_share_a_model(tmp_path: Path, write_model: WriteModel) -> None:
    model = Model(write_model(tmp_path / "m.onnx", depth=3), threads=1)
    images = [noise(40 + 16 * n, 60, n)[None] for n in range(8)]
    expected = [model.draw(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for drawn, wanted in zip(pool.map(model.draw, images), expected, strict=True):
            np.testing.assert_array_equal(drawn, wanted)


def test_the_card_is_read(tiny_model: Path) -> None:
    read = Model(tiny_model, threads=1).card
    assert (read.name, read.direction, read.styles) == ("tiny", "photo2sketch", ("cufs", "fs2k1"))
    assert read.frame.size() == (200, 250)
    assert read.metrics == {"fsim": 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a silverpoint model"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("null", "damaged"),
        (json.dumps({"format": 1}), "damaged"),
        (json.dumps(card(direction="sideways")), "damaged"),
        (json.dumps(card(default_style="oil")), "damaged"),
        (json.dumps(card(size_multiple=0)), "damaged"),
        (json.dumps(card(frame={"size": [200], "eyes": []})), "damaged"),
        (json.dumps(card(format=2)), "newer than this silverpoint"),
        (json.dumps(card(styles=[])), "not those of a silverpoint model"),
    ],
)
def test_a_file_with_a_wrong_card_is_refused(
    tmp_path: Path, write_model: WriteModel, text: str, says: str
) -> None:
    path = write_model(tmp_path / "m.onnx", text=text)
    with pytest.raises(ModelError, match=says) as caught:
        Model(path, threads=1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing like a model", None])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, tiny_model: Path, content: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_model.read_bytes()[:100] if content is None else content)
    with pytest.raises(ModelError, match=r"m\.onnx: not a model ONNX Runtime \d+\.\d+.* can open") as caught:
        Model(path, threads=1)
    assert "\n" not in str(caught.value)


def test_models_by_name_or_path(tmp_path: Path, tiny_model: Path) -> None:
    assert open_model(tiny_model, threads=1).card.name == "tiny"
    with pytest.raises(ModelError, match="no such model file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="no built-in model 'chalk'"):
        open_model("chalk")


def test_built_in_models_keep_their_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that ships: found by name, licensed, light, and the same drawn in tiles."""
    cards = available()
    assert [card.name for card in cards] == built_in()
    for shipped in cards:
        model = open_model(shipped.name, threads=2)
        assert shipped.licence
        assert shipped.dataset
        assert model.path.stat().st_size <= 6_000_000
        if model.card.receptive_margin is not None:
            image, style = noise(500, 400)[None], shipped.default_style
            whole, run = model.draw(image, style).astype(int), Mock(wraps=model._run)
            with monkeypatch.context() as patch:
                patch.setattr(models, "TILE_PIXELS", 160_000)
                patch.setattr(model, "_run", run)
                in_tiles = model.draw(image, style)
            assert run.call_count > 1
            assert np.abs(in_tiles - whole).max() <= 1  # sums are rounded in another order


def test_what_ships_draws_a_face_on_clean_paper_in_four_different_hands(portrait: Path) -> None:
    sketcher = load(threads=2)
    hands = sketcher.card.styles
    assert len(hands) == 4
    drawn = {hand: sketcher.sketch(portrait, style=hand, view="face").image.astype(float) for hand in hands}
    for face in drawn.values():  # grey levels beside what was drawn when this was written, of the four hands
        assert face.shape == (250, 200)
        assert face[:12, :12].mean() > 240  # paper, 252 to 253
        cheeks = face[154:166, 66:78].mean(), face[154:166, 122:134].mean()
        assert min(cheeks) > 200  # 246 to 254
        eyes = face[121:130, 71:80].mean(), face[121:130, 121:130].mean()
        assert max(eyes) < min(cheeks) - 60  # 69 to 154
        assert face[20:50, 60:140].mean() < min(cheeks) - 60  # hair, 67 to 136
    for one, other in itertools.combinations(drawn.values(), 2):
        assert np.abs(one - other).mean() > 10  # 19 to 33


def test_shipped_graphs_open_in_the_oldest_runtime_that_is_allowed() -> None:
    """ONNX Runtime 1.18 reads graphs of IR version 10, 1.17 of 9 (its docs, "ONNX Runtime compatibility")."""
    onnx = pytest.importorskip("onnx")
    floor = re.search(r'"onnxruntime>=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert floor is not None
    newest = 10 if (int(floor[1]), int(floor[2])) >= (1, 18) else 9
    graphs = sorted((ROOT / "src").rglob("*.onnx"))
    assert {"bisenet.onnx", "yunet.onnx"} <= {path.name for path in graphs}
    for path in graphs:
        assert onnx.load(path, load_external_data=False).ir_version <= newest, path
