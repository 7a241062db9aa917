"""From a run to a model file, and what the file says and does beside torch."""

import csv
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import silverpoint.methods.method as registry
import silverpoint.synthesis.model as wing
import silverpoint.training.export as training_export
from drawn import draw_pair
from lab import write_dataset
from silverpoint.cli.main import main
from silverpoint.data import priors
from silverpoint.data.pairs import read_split
from silverpoint.errors import AssetError, DataError, ModelError, RunError, UsageError
from silverpoint.methods import method_class
from silverpoint.methods.method import CommonSettings, Method, OptimizerSpec, setting
from silverpoint.nets.seresnet import DilatedSEResNet
from silverpoint.synthesis.model import Model
from silverpoint.training.dilation import PhasedConv2d, undilated
from silverpoint.training.export import _store, average_networks, export, load_run, load_synthesizer
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import RunOptions, Trainer
from silverpoint.training.validation import synthesize_examples

BOTH = ("photo2sketch", "sketch2photo")
TINY = {
    "crop_size": 48,
    "lambda_perceptual": 0.0,
    "discriminator_width": 8,
    "n_epochs": 1,
    "n_epochs_decay": 0,
}


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


@pytest.fixture(scope="module")
def guided_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("guided")
    dataset = write_dataset(root / "dataset", train=2, val=2, masks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._REGISTRY, "guided", lambda: GuidedMethod)
        options = RunOptions((str(dataset),), accelerator="cpu", select="ssim")
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
    assert export(guided_run / "run", path, direction=direction, bits=32).difference < 1e-3
    card = json.loads(onnx.load(path).metadata_props[0].value)
    assert card["priors"] == ["saliency"]
    seen = []

    def upper_half(image, threads):
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


@pytest.mark.parametrize("direction", BOTH)
def test_priors_a_dataset_lacks_are_made_of_the_picture_that_is_drawn(
    guided_run, tmp_path, monkeypatch, direction
):
    bare, folders = (
        write_dataset(tmp_path / "bare", train=2, val=2),
        (tmp_path / "with", tmp_path / "without"),
    )
    (example, *_), grey = read_split(bare, "val"), direction == "sketch2photo"
    seen = []

    def half(picture):
        seen.append(picture)
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[np.s_[:40] if grey else np.s_[:, :32]] = 255  # as the other dataset has them
        return mask

    monkeypatch.setattr(priors, "predictor", {"saliency": half}.__getitem__)
    for dataset, out in zip((guided_run / "dataset", bare), folders, strict=True):
        arguments = ["--split", "val", "--direction", direction, "--out", str(out)]
        assert main(["synthesize", str(guided_run / "run"), str(dataset), *arguments]) == 0
    assert [p.name for p in sorted(folders[0].iterdir())] == ["p2.png", "p3.png"]
    for name in ("p2.png", "p3.png"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert len(seen) == 2
    assert np.array_equal(seen[0], np.stack([example.sketch] * 3, -1) if grey else example.photo)


def test_a_network_of_priors_that_cannot_be_had_ends_the_command(guided_run, tmp_path, monkeypatch, capsys):
    def none(kind):
        raise AssetError(f"no network of {kind}")

    monkeypatch.setattr(priors, "predictor", none)
    bare = write_dataset(tmp_path / "bare", train=2, val=2)
    out = tmp_path / "fakes"
    assert main(["synthesize", str(guided_run / "run"), str(bare), "--split", "val", "--out", str(out)]) == 1
    assert capsys.readouterr().err == "silverpoint: no network of saliency\n"
    assert not out.exists()


def test_a_pair_that_cannot_be_drawn_is_named_and_the_others_are_drawn(
    guided_run, tmp_path, monkeypatch, capsys
):
    def of_two_styles(*arguments):
        method, *others = load_synthesizer(*arguments)
        method.styles, method.styled = ("mine", "chalk"), True
        return method, *others

    monkeypatch.setattr(training_export, "load_synthesizer", of_two_styles)
    dataset, out = tmp_path / "dataset", tmp_path / "fakes"
    shutil.copytree(guided_run / "dataset", dataset)
    table = (dataset / "pairs.csv").read_text()
    (dataset / "pairs.csv").write_text(table.replace("p2.png,mine", "p2.png,ink"))
    arguments = ["synthesize", str(guided_run / "run"), str(dataset), "--split", "val", "--out", str(out)]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("silverpoint: p2: the run knows no style 'ink'")
    assert [path.name for path in out.iterdir()] == ["p3.png"]
    assert main([*arguments, "--style", "ink"]) == 2
    assert capsys.readouterr().err.count("silverpoint:") == 1


def test_a_style_the_run_does_not_know_is_named(guided_run):
    method, direction, net = load_synthesizer(guided_run / "run")
    example = read_split(guided_run / "dataset", "val")[:1]
    with pytest.raises(UsageError, match=r"no style 'ink'.*mine"):
        synthesize_examples(method, net, example, direction, torch.device("cpu"), style="ink")


def test_a_run_of_one_style_draws_a_dataset_of_any(guided_run):
    method, direction, net = load_synthesizer(guided_run / "run")
    (example,) = read_split(guided_run / "dataset", "val")[:1]
    pair = [example, replace(example, style="ink")]
    own, others = synthesize_examples(method, net, pair, direction, torch.device("cpu"))
    assert np.array_equal(own, others)
    method.styles = ("mine", "chalk")  # a method that draws in one hand whatever it learned from
    (again,) = synthesize_examples(method, net, pair[1:], direction, torch.device("cpu"))
    assert np.array_equal(again, own)


def test_a_method_of_several_hands_does_not_guess_which_is_meant(finished, dataset):
    method, direction, net = load_synthesizer(finished)
    (example,) = read_split(dataset, "val")[:1]
    method.styles = ("chalk", "mine")
    with pytest.raises(DataError, match=r"no style 'ink'.*chalk, mine"):
        synthesize_examples(method, net, [replace(example, style="ink")], direction, torch.device("cpu"))


def test_a_file_may_draw_in_some_of_the_hands_and_begin_with_another(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", train=6, val=2)
    rows = list(csv.DictReader((dataset / "pairs.csv").open()))
    for row, style in zip(rows, ("ink", "lead", "pen") * 3, strict=False):
        row["style"] = style
    with (dataset / "pairs.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    run = tmp_path / "run"
    values = build_settings(method_class("pencil").settings_class, TINY | {"batch_size": 6})
    Trainer("pencil", values, RunOptions((str(dataset),), accelerator="cpu", select="ssim"), run).fit()
    export(run, tmp_path / "all.onnx", bits=32)
    export(run, tmp_path / "some.onnx", bits=32, styles=["pen", "ink"])
    whole, some = Model(tmp_path / "all.onnx"), Model(tmp_path / "some.onnx")
    assert (whole.card.styles, some.card.styles) == (("ink", "lead", "pen"), ("pen", "ink"))
    assert some.card.default_style == "pen"
    photo = draw_pair(3)[0][None]
    for style in some.card.styles:
        assert np.array_equal(some.draw(photo, style), whole.draw(photo, style))
    assert not np.array_equal(some.draw(photo, "ink"), some.draw(photo, "pen"))
    with pytest.raises(UsageError, match=r"no style 'chalk'.*ink, lead, pen"):
        export(run, tmp_path / "other.onnx", styles=["ink", "chalk"])


def test_a_method_of_one_hand_has_none_to_choose_from(guided_run, tmp_path):
    with pytest.raises(UsageError, match="guided draws in one hand"):
        export(guided_run / "run", tmp_path / "model.onnx", styles=["mine"])


def test_methods_say_of_themselves_whether_their_network_reads_the_style(finished, guided_run, tmp_path):
    for run in (finished, guided_run / "run"):
        method, _, _ = load_synthesizer(run)
        export(run, tmp_path / "model.onnx", bits=32)
        assert method.styled == bool(Model(tmp_path / "model.onnx").card.styles)


def test_a_local_network_is_scored_as_it_draws(finished, dataset, whole):
    """With the same surroundings: zero padding within the network would otherwise show at the border."""
    method, direction, net = load_synthesizer(finished)
    example = read_split(dataset, "val")[0]
    (scored,) = synthesize_examples(method, net, [example], direction, torch.device("cpu"))
    drawn = Model(whole[0]).draw(example.photo[None], example.style)[0]
    assert np.abs(scored.astype(int) - drawn).max() <= 1


# ---- the file beside torch ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", train=2, val=2)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    values = build_settings(method_class("pencil").settings_class, TINY | {"batch_size": 2})
    Trainer("pencil", values, RunOptions((str(dataset),), accelerator="cpu", select="ssim"), out).fit()
    return out


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """The run's file with weights of 32 bits, and what is known of it."""
    path = tmp_path_factory.mktemp("whole") / "32.onnx"
    return path, export(finished, path, bits=32)


def test_the_model_file_agrees_with_torch_and_says_what_it_is(finished, tmp_path):
    exported = export(finished, tmp_path / "half.onnx", about={"licence": "research"})
    assert exported.difference < 2e-2
    assert exported.seconds > 0
    assert exported.torch_seconds > 0
    metadata = json.loads(onnx.load(tmp_path / "half.onnx").metadata_props[0].value)
    assert metadata["licence"] == "research"
    assert metadata["dataset"] == "dataset train"  # the folder's name: nobody has prepared it
    assert metadata["direction"] == "photo2sketch"
    assert metadata["size_multiple"] == 16
    assert onnx.load(tmp_path / "half.onnx").ir_version <= 9  # for runtimes of the last years
    kinds = {node.op_type for node in onnx.load(tmp_path / "half.onnx").graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds  # folded into the convolutions


def test_the_model_file_draws_batches_of_any_size(finished, whole):
    _, nets = load_run(finished)
    session = onnxruntime.InferenceSession(str(whole[0]))
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


def test_a_damaged_picture_is_named_and_the_others_are_drawn(dataset, finished, tmp_path, capsys):
    torn, fakes = tmp_path / "torn", tmp_path / "fakes"
    shutil.copytree(dataset, torn)
    (torn / "photos/p2.png").write_bytes(b"no picture")  # the first of the split
    assert main(["synthesize", str(finished), str(torn), "--split", "val", "--out", str(fakes)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"silverpoint: {torn / 'photos/p2.png'}: is not an image")
    assert captured.out.endswith("1 images, 1 failed\n")
    assert [path.name for path in fakes.iterdir()] == ["p3.png"]


def test_the_average_of_networks_is_that_of_their_weights():
    nets = [nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)) for _ in range(2)]
    for value, net in zip((1.0, 4.0), nets, strict=True):
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    average = average_networks(nets).state_dict()
    assert all(float(t) == 2.5 for t in average.values() if t.is_floating_point())
    assert int(average["1.num_batches_tracked"]) == 1


def test_a_run_averaged_with_itself_is_the_run_and_another_method_is_refused(
    guided_run, finished, whole, tmp_path
):
    export(finished, tmp_path / "same.onnx", bits=32, average_with=[finished])
    files = [onnx.load(path).graph for path in (whole[0], tmp_path / "same.onnx")]
    assert files[0].SerializeToString() == files[1].SerializeToString()
    with pytest.raises(UsageError, match="averaged"):
        export(finished, tmp_path / "two.onnx", average_with=[guided_run / "run"])


def test_people_of_one_number_in_two_subsets_are_kept_apart(dataset, finished, tmp_path):
    twins, fakes = tmp_path / "twins", tmp_path / "fakes"
    shutil.copytree(dataset, twins)
    with (twins / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:2]
    with (twins / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(
            row | {"split": "test", "id": "5", "subset": s} for row, s in zip(rows, "ab", strict=True)
        )
    assert main(["synthesize", str(finished), str(twins), "--out", str(fakes)]) == 0
    drawn = sorted(p.relative_to(fakes).as_posix() for p in fakes.rglob("*.png"))
    assert drawn == ["a/5.png", "b/5.png"]


@pytest.mark.parametrize(("bits", "worst", "share"), [(16, 2e-2, 0.55), (8, 0.4, 0.33)])
def test_weights_are_stored_in_fewer_bits_and_what_it_costs_is_measured(
    dataset, finished, whole, tmp_path, bits, worst, share
):
    small = export(finished, tmp_path / "small.onnx", bits=bits, judged_on=read_split(dataset, "val"))
    assert whole[1].difference < 1e-4
    assert whole[1].difference < small.difference < worst
    sizes = [path.stat().st_size for path in (tmp_path / "small.onnx", whole[0])]
    assert sizes[0] < share * sizes[1]
    card = json.loads(onnx.load(tmp_path / "small.onnx").metadata_props[0].value)
    assert card["bits"] == bits
    assert card["metrics"]["ssim"] == pytest.approx(small.metrics["ssim"], abs=1e-4)
    assert small.metrics["ssim"] != small.torch_metrics["ssim"]
    assert small.metrics["ssim"] == pytest.approx(small.torch_metrics["ssim"], abs=0.05)
    assert Model(tmp_path / "small.onnx").draw(draw_pair(0)[0][None]).shape == (1, 250, 200)


def test_weights_of_eight_bits_are_within_half_a_step_of_their_channels_scale():
    weight = np.random.default_rng(0).normal(0, [[1.0], [50.0]], (2, 600)).astype(np.float32)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["w"], ["y"])],
        "one",
        [],
        [value("y", onnx.TensorProto.FLOAT, [2, 600])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    _store(model, 8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    steps = np.abs(weight).max(1, keepdims=True) / 127
    assert (np.abs(session.run(None, {})[0] - weight) <= 0.5001 * steps).all()


def test_a_graph_that_does_not_agree_with_torch_is_not_written(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(training_export, "_difference", lambda *_: 0.5)
    with pytest.raises(RunError, match="differs from torch"):
        export(finished, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_says_size_agreement_speed_and_scores_and_nothing_else(
    dataset, finished, tmp_path, capfd
):
    model = str(tmp_path / "m.onnx")
    assert main(["export", str(finished), "--out", model, "--data", str(dataset), "--split", "val"]) == 0
    said = capfd.readouterr()
    assert "agrees with torch" in said.out
    assert " ms, in torch " in said.out
    assert "ssim: " in said.out
    assert said.err == ""


# ---- dilated convolutions ----------------------------------------------------------------------------------------


@given(
    height=st.integers(9, 24),
    width=st.integers(9, 24),
    dilation=st.integers(2, 4),
    padding=st.integers(0, 5),
    kernel=st.sampled_from([2, 3]),
    groups=st.sampled_from([1, 2]),
)
@settings(max_examples=40, deadline=None)
def test_a_dilated_convolution_over_phases_is_the_same_function(
    height, width, dilation, padding, kernel, groups
):
    conv = nn.Conv2d(4, 6, kernel, dilation=dilation, padding=padding, groups=groups)
    x = torch.randn(2, 4, height, width)
    torch.testing.assert_close(PhasedConv2d(conv)(x), conv(x), atol=1e-5, rtol=1e-4)


def test_only_dilated_convolutions_are_replaced_and_in_a_copy():
    net = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1),
        nn.Sequential(nn.Conv2d(2, 2, 3, dilation=2, padding=2), nn.Conv2d(2, 2, 3, stride=2, dilation=2)),
    )
    x = torch.randn(1, 2, 16, 16)
    plain = undilated(net)
    kinds = [type(m) for m in plain.modules() if not isinstance(m, nn.Sequential)]
    assert kinds == [nn.Conv2d, PhasedConv2d, nn.Conv2d]
    torch.testing.assert_close(plain(x), net(x))
    assert not any(isinstance(m, PhasedConv2d) for m in net.modules())
    assert undilated(net[0]) is None


@pytest.mark.parametrize("phases", [False, True])
def test_a_dilated_network_is_exported_in_the_faster_form_for_any_size(tmp_path, monkeypatch, phases):
    class Students(nn.Module):
        size_multiple = 4

        def __init__(self):
            super().__init__()
            self.net = DilatedSEResNet(width=4, blocks=2)

        def forward(self, source, style):
            return self.net(source)[0]

    torch.manual_seed(0)
    net, method = Students().eval(), GuidedMethod(GuidedSettings(), ("mine",))
    monkeypatch.setattr(training_export, "load_synthesizer", lambda *_: (method, "photo2sketch", net))
    monkeypatch.setattr(training_export, "_frame", lambda _: None)
    monkeypatch.setattr(training_export, "_dataset", lambda _: "")
    times = iter([2.0, 1.0 if phases else 3.0, 1.0, 1.0])
    monkeypatch.setattr(training_export, "_seconds", lambda *_: next(times))
    exported = export(tmp_path, tmp_path / "m.onnx", bits=32)
    assert exported.dilation == {"as they are": 2.0, "over phases": 1.0 if phases else 3.0}
    model = onnx.load(tmp_path / "m.onnx")
    dilations = [list(a.ints) for n in model.graph.node for a in n.attribute if a.name == "dilations"]
    assert ([2, 2] in dilations) != phases
    for size in ((64, 64), (60, 84)):
        inputs = torch.rand(1, 3, *size), torch.ones(1, 1)
        assert training_export._difference(model, net, inputs, ("style",)) < 1e-4
