"""From a run to a model file, and what the file says and does beside torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import silverpoint.methods.method as registry
import silverpoint.synthesis.model as wing
from drawn import draw_pair
from lab import write_dataset
from silverpoint.cli.main import main
from silverpoint.data.pairs import read_split
from silverpoint.errors import DataError, ModelError, UsageError
from silverpoint.methods import method_class
from silverpoint.methods.method import CommonSettings, Method, OptimizerSpec, setting
from silverpoint.synthesis.model import Model
from silverpoint.training.export import export, load_run, load_synthesizer
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import RunOptions, Trainer
from silverpoint.training.validation import synthesize_examples

BOTH = ("photo2sketch", "sketch2photo")


@dataclass(frozen=True)
class GuidedSettings(CommonSettings):
    n_epochs: int = setting(1, "test")
    n_epochs_decay: int = setting(0, "test")
    crop_size: int = setting(32, "test")


class Guided(nn.Module):
    """Draws with a prior: where the mask is 0 the result is -1."""

    size_multiple = 4
    priors = ("saliency",)

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, 1, 1)

    def forward(self, source, style, saliency):
        return torch.tanh(self.conv(source)) * saliency - (1 - saliency)


class GuidedMethod(Method):
    name = "guided"
    settings_class = GuidedSettings
    directions = BOTH
    priors = ("saliency", "sketch_saliency")

    def __init__(self, settings, styles):
        super().__init__(settings, styles)
        self.nets = nn.ModuleDict({"photo2sketch": Guided(3, 1), "sketch2photo": Guided(1, 3)})

    def optimizers(self, stage):
        return {d: OptimizerSpec(list(net.parameters()), 1e-3) for d, net in self.nets.items()}

    def training_step(self, batch):
        photo = self.nets["sketch2photo"](batch.sketch, batch.style, batch.priors["sketch_saliency"])
        sketch = self.nets["photo2sketch"](batch.photo, batch.style, batch.priors["saliency"])
        yield "photo2sketch", {"sketch": (sketch - batch.sketch).abs().mean()}
        yield "sketch2photo", {"photo": (photo - batch.photo).abs().mean()}

    def synthesizer(self, direction):
        return self.nets[direction]


def with_masks(dataset: Path, columns=("saliency", "sketch_saliency")) -> Path:
    """The dataset's photos have a person in their left half, its sketches in their upper half."""
    table = dataset / "pairs.csv"
    header, *rows = table.read_text().splitlines()
    mask = np.zeros((80, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(dataset / "saliency.png")
    mask = np.zeros((80, 64), np.uint8)
    mask[:40] = 255
    Image.fromarray(mask).save(dataset / "sketch_saliency.png")
    names = [n for n in header.split(",") if n not in columns]
    kept = [i for i, n in enumerate(header.split(",")) if n not in columns]
    lines = [",".join([*names, *columns])]
    for row in rows:
        cells = row.split(",")
        lines.append(",".join([*(cells[i] for i in kept), *(f"{c}.png" for c in columns)]))
    table.write_text("\n".join(lines) + "\n")
    return dataset


@pytest.fixture(scope="module")
def guided_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("guided")
    write_dataset(root / "dataset", train=2, val=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._REGISTRY, "guided", lambda: GuidedMethod)
        options = RunOptions((str(with_masks(root / "dataset")),), accelerator="cpu", select="ssim")
        Trainer("guided", GuidedSettings(), options, root / "run").fit()
        yield root


@pytest.mark.parametrize("direction", BOTH)
def test_a_network_with_a_prior_gets_that_of_its_source(guided_run, direction):
    method, _, net = load_synthesizer(guided_run / "run", direction)
    examples = read_split(guided_run / "dataset", "val")
    image = synthesize_examples(method, net, examples, direction, torch.device("cpu"))[0]
    empty, drawn = (image[:, 32:], image[:, :32]) if direction == "photo2sketch" else (image[40:], image[:40])
    assert empty.max() == 0
    assert drawn.min() > 0


@pytest.mark.parametrize("direction", BOTH)
def test_a_prior_is_an_input_of_the_model_file_that_the_users_wing_supplies(
    guided_run, tmp_path, monkeypatch, direction
):
    path = tmp_path / "guided.onnx"
    assert export(guided_run / "run", path, direction=direction, half=False) < 1e-3
    card = json.loads(onnx.load(path).metadata_props[0].value)
    assert card["priors"] == ["saliency"]
    seen = []

    def upper_half(image):
        seen.append(image.shape)
        return (
            np.where(np.arange(len(image))[:, None] < len(image) // 2, 255, 0).astype(np.uint8).repeat(64, 1)
        )

    monkeypatch.setattr(wing, "PRIORS", {"saliency": upper_half})
    drawing = Model(path).draw(draw_pair(0, (64, 80))[0][None])[0]
    assert seen == [(80, 64, 3)]
    assert drawing.shape == ((80, 64) if direction == "photo2sketch" else (80, 64, 3))
    assert drawing[:40].min() > 0
    assert drawing[40:].max() == 0


def test_a_prior_the_users_wing_cannot_make_is_named(guided_run, tmp_path, monkeypatch):
    path = tmp_path / "guided.onnx"
    export(guided_run / "run", path, direction="photo2sketch")
    monkeypatch.setattr(wing, "PRIORS", {})
    with pytest.raises(ModelError, match=r"guided\.onnx: needs the saliency .*silverpoint synthesize"):
        Model(path)


def test_a_style_the_run_does_not_know_is_named(guided_run):
    method, direction, net = load_synthesizer(guided_run / "run")
    example = read_split(guided_run / "dataset", "val")[:1]
    with pytest.raises(DataError, match=r"no style 'ink'.*mine"):
        synthesize_examples(method, net, example, direction, torch.device("cpu"), style="ink")


# ---- the file beside torch ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", train=2, val=2)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    tiny = {
        "crop_size": 48,
        "lambda_perceptual": 0.0,
        "discriminator_width": 8,
        "n_epochs": 1,
        "n_epochs_decay": 0,
    }
    settings = build_settings(method_class("pencil").settings_class, tiny | {"batch_size": 2})
    Trainer("pencil", settings, RunOptions((str(dataset),), accelerator="cpu", select="ssim"), out).fit()
    return out


def test_the_model_file_agrees_with_torch_and_says_what_it_is(finished, tmp_path):
    full = export(finished, tmp_path / "full.onnx", half=False)
    half = export(finished, tmp_path / "half.onnx", about={"licence": "research"})
    assert full < 1e-4
    assert half < 2e-2
    sizes = [(tmp_path / f"{n}.onnx").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    metadata = json.loads(onnx.load(tmp_path / "half.onnx").metadata_props[0].value)
    assert metadata["licence"] == "research"
    assert metadata["direction"] == "photo2sketch"
    assert metadata["size_multiple"] == 16


def test_the_model_file_draws_batches_of_any_size(finished, tmp_path):
    import onnxruntime

    export(finished, tmp_path / "m.onnx", half=False)
    _, nets = load_run(finished)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    photo, style = torch.rand(3, 3, 64, 112) * 2 - 1, torch.eye(1).repeat(3, 1)
    with torch.no_grad():
        expected = nets["photo2sketch"](photo, style).numpy()
    drawn = session.run(None, {"photo": photo.numpy(), "style": style.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(drawn), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_a_direction_the_run_does_not_have_is_refused(finished, tmp_path):
    with pytest.raises(UsageError, match="sketch2photo"):
        export(finished, tmp_path / "m.onnx", direction="sketch2photo")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_every_image_of_a_split_by_its_id(dataset, finished, tmp_path):
    assert (
        main(["synthesize", str(finished), str(dataset), "--split", "val", "--out", str(tmp_path / "fakes")])
        == 0
    )
    assert sorted(p.stem for p in (tmp_path / "fakes").iterdir()) == sorted(
        line.split(",")[0] for line in (dataset / "pairs.csv").read_text().splitlines() if ",val," in line
    )
