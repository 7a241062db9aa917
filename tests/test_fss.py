"""FSS on drawn faces: who learns what, where it looks, and that each row of its ablation trains."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

import silverpoint.methods.fss as fss
from drawn import draw_pair
from lab import UNSEEING, noting, take_step_unseeing
from silverpoint.cli.main import main
from silverpoint.data.batches import Batch
from silverpoint.data.layout import PARTS
from silverpoint.errors import AssetError
from silverpoint.losses.adversarial import adversarial
from silverpoint.losses.contrastive import multilayer_nce
from silverpoint.losses.patches import Samples
from silverpoint.methods.fss import (
    FEATURES,
    FSS,
    REGIONS,
    MaskedSynthesizer,
    Settings,
    contrast_within,
    intersection_over_union,
    mark_samples,
    part_plane,
)
from silverpoint.nets.rcs import RegionConstrainedSampling
from silverpoint.nets.vgg import VGG19, load_vgg19
from silverpoint.training.export import export, load_run
from silverpoint.training.options import RunOptions
from silverpoint.training.settings import build_settings, parse_flags
from silverpoint.training.trainer import Trainer

SIZE = 64
NARROW = {"ngf": 8, "ndf": 8, "netF_nc": 16, "num_face": 32, "num_hair": 16, "lambda_perceptual": 0.0}
BLUE, ORANGE, DARK_BLUE, RED = torch.tensor(
    [[-0.8, 0.4, 1.0], [1.0, 0.3, -1.0], [-1.0, -1.0, 0.6], [0.9, -1.0, -1.0]]
)
SKIN, HAIR, CLOTH, NOSE = (list(PARTS).index(part) for part in ("skin", "hair", "cloth", "nose"))
PAGE = (Path(__file__).parents[1] / "docs" / "methods" / "fss.md").read_text()
ABLATION = re.findall(r"silverpoint train (cut|fss) cufs/ --out runs/ablation-\d(.*)", PAGE)


def draw_layout(photo: np.ndarray) -> np.ndarray:
    """The parts of a face of tests/drawn.py, by its colours."""
    h, w = photo.shape[:2]
    skin, hair = photo[h // 2 + 4, w // 2], photo[round(0.17 * h), w // 2]
    layout = np.where((photo == 255).all(2), 0, CLOTH).astype(np.uint8)
    layout[(photo == hair).all(2)] = HAIR
    rows = np.arange(h)[:, None]
    layout[((photo == skin).all(2)) & (rows < 0.85 * h)] = SKIN
    return layout


def faces(count: int, size: int = SIZE) -> Batch:
    pairs = [draw_pair(seed, (size, size)) for seed in range(count)]
    photo = torch.from_numpy(np.stack([p for p, _ in pairs])).permute(0, 3, 1, 2) / 127.5 - 1
    sketch = torch.from_numpy(np.stack([s for _, s in pairs]))[:, None] / 127.5 - 1
    numbers = torch.from_numpy(np.stack([draw_layout(p) for p, _ in pairs])).long()
    layout = F.one_hot(numbers, len(PARTS)).permute(0, 3, 1, 2).float()
    priors = {"layout": layout, "saliency": 1 - layout[:, :1]}
    return Batch(photo, sketch, torch.ones(count, 1), [str(i) for i in range(count)], priors)


def small_fss(stage="main", **changes):
    torch.manual_seed(0)
    method = FSS(build_settings(Settings, NARROW | changes), ("x",))
    method.start_stage(next(s for s in method.stages() if s.name == stage))
    return method


def take_step(method, batch):
    """One update of each optimizer; returns the losses."""
    found = {}
    specs = method.optimizers(method.stages()[-1])
    for name, losses in method.training_step(batch):
        method.zero_grad()
        torch.stack(list(losses.values())).sum().backward(inputs=specs[name].parameters)
        assert all(torch.isfinite(p.grad).all() for p in specs[name].parameters)
        torch.optim.Adam(specs[name].parameters, specs[name].lr, specs[name].betas).step()
        found[name] = losses
    return found


def losses_of(method, batch):
    torch.manual_seed(7)
    return dict(method.training_step(batch))


def test_the_defaults_are_the_papers():
    s = Settings()
    assert (s.batch_size, s.n_epochs, s.n_epochs_decay, s.lr, s.beta1) == (1, 200, 200, 2e-4, 0.5)
    assert (s.lambda_l1, s.lambda_perceptual, s.num_face, s.num_hair) == (100, 1, 256, 128)
    assert (s.nce_layers, s.gan_mode, s.mask, s.structure, s.dss) == (
        "0,4,8,12,16",
        "vanilla",
        "layout",
        "rcs",
        True,
    )
    assert list(fss.PERCEPTUAL.values()) == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1]


# ---- region-constrained sampling -------------------------------------------------------------------------------


def test_the_module_is_equations_1_to_6():
    torch.manual_seed(0)
    rcs, photo = RegionConstrainedSampling("pixels"), torch.randn(2, 3, 8, 8)
    first, _, second, _ = rcs.excite
    for image, found in zip(photo, rcs(photo), strict=True):
        z_c = image.mean((1, 2))
        s = torch.sigmoid(second.weight @ torch.relu(first.weight @ z_c + first.bias) + second.bias)
        for y, x in ((0, 0), (3, 5), (7, 7)):
            p = image[:, y, x]
            p_c = rcs.channel.weight[:, :, 0, 0] @ (s * p) + rcs.channel.bias
            z_s = rcs.squeeze.weight[:, :, 0, 0] @ p + rcs.squeeze.bias
            fused = rcs.fused.weight[:, :, 0, 0] @ (torch.sigmoid(z_s) * p + p_c) + rcs.fused.bias
            hair = rcs.hair.weight[:, :, 0, 0] @ p_c + rcs.hair.bias
            face = rcs.face.weight[:, :, 0, 0] @ fused + rcs.face.bias
            torch.testing.assert_close(found[:, y, x], torch.cat([hair, face]))


def test_the_first_stage_learns_where_hair_and_face_are_and_nothing_else():
    method, batch = small_fss("rcs"), faces(4)
    specs = method.optimizers(method.stages()[0])
    assert list(specs) == ["rcs"]
    assert {id(p) for p in specs["rcs"].parameters} == {id(p) for p in method.rcs.parameters()}
    optimizer = torch.optim.Adam(specs["rcs"].parameters, lr=5e-3)
    for _ in range(60):
        (losses,) = losses_of(method, batch).values()
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    figures, heat = method.inspect(batch)
    assert figures["iou_hair"] > 0.7
    assert figures["iou_face"] > 0.8
    assert [h.shape for h in heat] == [batch.photo.shape] * 2
    # and where the map is red, the face is
    face = part_plane(batch.priors["layout"], REGIONS["face"]) > 0
    reddened = (heat[1] - batch.photo).abs().sum(1)
    assert float(reddened[face].mean()) > 3 * float(reddened[~face].mean())


def test_the_second_stage_leaves_the_sampling_module_as_it_is():
    method, batch = small_fss("main"), faces(1)
    specs = method.optimizers(method.stages()[-1])
    trained = {id(p) for spec in specs.values() for p in spec.parameters}
    assert trained == {id(p) for n, p in method.named_parameters() if not n.startswith("rcs.")}
    for name, losses in method.training_step(batch):
        method.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None for p in specs[name].parameters)
        assert all(p.grad is None for p in method.rcs.parameters())


def test_overlaps_by_hand():
    both, upper, lower, none = (
        torch.tensor(pixels).bool().view(1, 1, 2, 2)
        for pixels in ([1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0])
    )
    left = torch.tensor([1, 0, 1, 0]).bool().view(1, 1, 2, 2)
    cases = [(upper, lower, 0), (upper, left, 1 / 3), (upper, both, 1 / 2)]
    for a, b, expected in [*cases, (both, both, 1), (none, none, 1), (upper, none, 0)]:
        assert float(intersection_over_union(a, b)) == pytest.approx(expected)


def test_the_first_stage_has_its_own_schedule_and_can_be_left_out():
    method = small_fss("rcs")
    method.progress = 0.25
    assert [method.lr_factor(stage) for stage in method.stages()] == [0.75, 1.0]
    assert [stage.name for stage in small_fss(structure="layout").stages()] == ["main"]


# ---- sampling and drawing --------------------------------------------------------------------------------------


def with_features(batch: Batch) -> Batch:
    """A nose in the middle of every face."""
    layout = batch.priors["layout"]
    layout[:, :, SIZE // 2 : SIZE // 2 + 8, SIZE // 2 - 3 : SIZE // 2 + 3] = 0
    layout[:, NOSE, SIZE // 2 : SIZE // 2 + 8, SIZE // 2 - 3 : SIZE // 2 + 3] = 1
    return batch


def test_samples_are_of_the_parsers_regions_where_these_are_the_structure_and_doubled_at_features():
    method, batch = small_fss(structure="layout", num_face=300), with_features(faces(2))
    samples, layout = method.sample(batch), batch.priors["layout"]
    images = torch.arange(2)[:, None]
    hair, face, features = (part_plane(layout, p) for p in (*REGIONS.values(), FEATURES))
    assert (hair[images, samples.rows, samples.columns][:, :16] == 1).all()
    assert (face[images, samples.rows, samples.columns][:, 16:] == 1).all()
    expected = 1 + features[images, samples.rows, samples.columns]
    assert torch.equal(samples.counts, expected)
    assert float(samples.counts.max()) == 2


def test_the_target_of_the_maps_is_the_parsers_layout_by_parts():
    method, batch = small_fss(), with_features(faces(1))
    density = method.parsed_densities(batch)[0]
    parts = batch.priors["layout"][0].argmax(0)
    for part, hair, face in ((0, 0, 0), (CLOTH, 0, 0), (HAIR, 0.7, 0), (SKIN, 0, 0.7), (NOSE, 0, 1)):
        assert (parts == part).any()
        torch.testing.assert_close(
            density[0][parts == part], torch.full_like(density[0][parts == part], hair)
        )
        torch.testing.assert_close(
            density[1][parts == part], torch.full_like(density[1][parts == part], face)
        )


def test_hair_is_densest_at_its_strands_and_not_where_it_ends():
    region, photo = torch.zeros(2, 40, 60), torch.ones(2, 3, 40, 60)
    region[0, 5:35, 5:55] = 1  # with a pixel of the wall, as a parser has it
    photo[0, :, 6:34, 6:54] = -0.8
    photo[0, :, 6:34, 40:54:2] = 0.2  # strands, at its right
    strands = torch.zeros(2, 40, 60)
    strands[0, 11:29, 36:49] = 1
    assert torch.equal(contrast_within(region, photo), strands)  # none in a photo without hair
    faint = contrast_within(region, 1 + (photo - 1) / 1000)
    assert 0 < float(faint.max()) < 0.2  # less than a grey level is no strand


def test_densities_are_the_maps_within_their_regions_and_flat_without_dss():
    batch = faces(1)
    method, flat = small_fss(), small_fss(dss=False)
    maps = torch.sigmoid(method.rcs(batch.photo)).detach()
    expected = torch.where(maps > 0.35, maps, 0.0)
    assert int((expected > 0).sum()) > 0
    torch.testing.assert_close(method.densities(batch), expected)
    torch.testing.assert_close(flat.densities(batch), (expected > 0).float())
    assert float(flat.sample(batch).counts.max()) <= 1


def test_a_photo_without_hair_and_one_without_anybody_train():
    batch = faces(2)
    layout = batch.priors["layout"]
    layout[0, SKIN] += layout[0, HAIR]
    layout[0, HAIR] = 0
    layout[1] = 0
    layout[1, 0] = 1
    for optimizer, losses in take_step(small_fss(structure="layout"), batch).items():
        assert all(torch.isfinite(v) for v in losses.values()), optimizer


def test_photo_and_drawing_are_encoded_with_the_photos_mask():
    batch = faces(2)
    method = small_fss()
    for image in (batch.photo, batch.sketch):
        seen = method._encoded(image, batch)
        assert seen.shape[1] == 4
        assert torch.equal(seen[:, :3], image.expand(-1, 3, -1, -1))
        assert torch.equal(seen[:, 3] > 0, batch.priors["layout"].argmax(1) > 0)
        assert set(seen[:, 3].unique().tolist()) == {-1.0, 1.0}
    assert small_fss(mask="none")._encoded(batch.sketch, batch).shape[1] == 3


@pytest.mark.parametrize(
    ("mask", "batch_priors", "drawing_priors"),
    [
        ("layout", ("layout",), ("layout",)),
        ("saliency", ("layout", "saliency"), ("saliency",)),
        ("none", ("layout",), ()),
    ],
)
def test_priors_are_what_the_mask_needs(mask, batch_priors, drawing_priors):
    method, batch = small_fss(mask=mask), faces(1)
    assert method.priors == batch_priors
    net = method.synthesizer("photo2sketch")
    assert getattr(net, "priors", ()) == drawing_priors
    assert net(batch.photo, batch.style, *(batch.priors[p] for p in drawing_priors)).shape == (
        1,
        1,
        SIZE,
        SIZE,
    )


# ---- losses ----------------------------------------------------------------------------------------------------


def test_the_losses_are_equations_11_to_13(monkeypatch):
    monkeypatch.setattr(fss, "load_vgg19", VGG19)
    torch.manual_seed(0)
    method, batch = small_fss(lambda_perceptual=1.0), faces(1)
    found = losses_of(method, batch)
    fake = method.generator(batch.photo, batch.style, batch.priors["layout"]).detach()
    d, vgg = method.discriminator, method._vgg
    with torch.no_grad():
        torch.testing.assert_close(
            found["generator"]["g_gan"], adversarial(d(fake), real=True, mode="vanilla")
        )
        real = torch.sigmoid(d(batch.sketch)).log().mean()
        seen = (1 - torch.sigmoid(d(fake))).log().mean()
        torch.testing.assert_close(sum(found["discriminator"].values()), -(real + seen) / 2)
        torch.testing.assert_close(found["generator"]["g_l1"], 100 * (fake - batch.sketch).abs().mean())
        features = [vgg((image + 1) / 2) for image in (fake, batch.sketch)]
        expected = sum(w * (features[0][t] - features[1][t]).abs().mean() for t, w in fss.PERCEPTUAL.items())
        torch.testing.assert_close(found["generator"]["g_perceptual"], expected)


def test_the_patchwise_loss_compares_the_drawing_with_its_photo():
    method, batch = small_fss(), faces(2)
    found = losses_of(method, batch)["generator"]["g_nce"]
    found.backward()
    assert float(method.generator.net.layers[-1].weight.grad.abs().sum()) > 0  # through the drawing
    net, layers = method.generator.net, method.layers
    torch.manual_seed(7)
    samples = method.sample(batch)
    cells, counts = [samples.cells(*net.tap_geometry(n)) for n in layers], [samples.counts] * len(layers)
    with torch.no_grad():
        fake = method.generator(batch.photo, batch.style, batch.priors["layout"])
        drawn, photo = (net.encode(method._encoded(image, batch), layers) for image in (fake, batch.photo))
        expected = multilayer_nce(method.heads, drawn, photo, cells, counts, 0.07)
        swapped = multilayer_nce(method.heads, photo, drawn, cells, counts, 0.07)
    torch.testing.assert_close(found, expected)
    assert abs(float(found.detach() - swapped)) > 1e-3  # the queries are the drawing's


def test_the_ablation_of_the_page_is_the_papers():
    flags = [parse_flags(row.split()) for _, row in ABLATION]
    assert [name for name, _ in ABLATION] == ["cut", "fss", "fss", "fss", "fss"]
    assert [set(a) - set(b) for a, b in itertools.pairwise(flags[1:])] == [
        {"dss"}, {"mask"}, {"lambda_l1", "lambda_perceptual"},
    ]  # fmt: skip
    assert not flags[0]
    assert not flags[-1]


def test_every_row_of_the_ablation_begins_with_the_same_sampling_module():
    masked, unmasked = (small_fss("rcs", mask=mask).rcs.state_dict() for mask in ("layout", "none"))
    assert all(torch.equal(masked[name], unmasked[name]) for name in masked)


def test_weights_are_loaded_without_drawing_random_numbers(tmp_path, monkeypatch):
    weights = {name: torch.randn_like(p) for name, p in VGG19(["relu1_1"]).named_parameters()}
    asset = {name.replace("convs.", "conv"): weight for name, weight in weights.items()}
    save_file(asset, tmp_path / "vgg19.safetensors")
    monkeypatch.setattr("silverpoint.assets.fetch", lambda _: tmp_path / "vgg19.safetensors")
    before = torch.get_rng_state()
    loaded = load_vgg19(["relu1_1"])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, weights[name]) for name, p in loaded.named_parameters())
    assert not any(p.requires_grad for p in loaded.parameters())


def test_weights_that_are_missing_are_missed_in_the_first_stage(monkeypatch):
    def missing(taps):
        raise AssetError("vgg19: not here")

    monkeypatch.setattr(fss, "load_vgg19", missing)
    with pytest.raises(AssetError, match="not here"):
        losses_of(small_fss("rcs", lambda_perceptual=1.0), faces(1))
    assert losses_of(small_fss("rcs"), faces(1))


@pytest.mark.parametrize("stage", ["rcs", "main"])
@pytest.mark.parametrize("device", UNSEEING)
def test_a_step_waits_for_nothing_that_the_device_computes(device, stage, monkeypatch):
    monkeypatch.setattr(fss, "load_vgg19", VGG19)
    method = small_fss(stage, lambda_perceptual=1.0).to(device)
    take_step_unseeing(method, faces(2).to(torch.device(device)))


def test_a_compiled_generator_is_what_trains():
    batch, plain, compiled, runs = faces(1), small_fss(), small_fss(), []
    compiled.generator.compile(backend=noting(runs), fullgraph=True)
    expected, found = losses_of(plain, batch), losses_of(compiled, batch)
    assert len(runs) == 2  # drawing, and encoding what was drawn
    torch.testing.assert_close(found, expected)


# ---- a run -----------------------------------------------------------------------------------------------------


def test_the_picture_of_the_samples_shows_them_where_they_are():
    batch = with_features(faces(1))
    method = small_fss(structure="layout")
    torch.manual_seed(5)
    _, (picture,) = method.inspect(batch)
    torch.manual_seed(5)
    samples = method.sample(batch)
    doubled = samples.counts[0] == 2
    assert doubled.any()
    assert (
        picture[0][:, samples.rows[0, doubled], samples.columns[0, doubled]].T == RED
    ).all()  # painted last
    marked = ((picture[0] - (batch.photo[0] + 1) / 2).abs().sum(0) > 0).nonzero()
    places = torch.stack([samples.rows[0], samples.columns[0]], 1)
    assert int((marked[:, None] - places).abs().amax(2).amin(1).max()) <= 1


def test_every_kind_of_sample_has_its_colour_and_one_that_is_absent_none():
    places, counts = torch.arange(2, 38, 6)[None], torch.tensor([[1.0, 2.0, 0.0, 1.0, 2.0, 0.0]])
    photo = torch.zeros(1, 3, 40, 40)
    picture = mark_samples(photo, Samples(places, places, counts), num_hair=3)
    grey = torch.tensor([0.5, 0.5, 0.5])
    expected = torch.stack([BLUE, DARK_BLUE, grey, ORANGE, RED, grey])
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        torch.testing.assert_close(picture[0][:, places[0] + dy, places[0] + dx].T, expected)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rows = ["id,subset,split,photo,sketch,style,layout"]
    for i in range(5):
        photo, sketch = draw_pair(i, (SIZE, 80))
        for folder, image in (("photos", photo), ("sketches", sketch), ("layout", draw_layout(photo))):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(root / folder / f"p{i}.png")
        split = "train" if i < 4 else "val"
        rows.append(f"p{i},mine,{split},photos/p{i}.png,sketches/p{i}.png,mine,layout/p{i}.png")
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return root


def test_a_run_learns_the_structure_then_to_draw_and_its_model_file_takes_the_layout(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    values = NARROW | {
        "framing": "crop",
        "crop_size": 64,
        "rcs_epochs": 2,
        "n_epochs": 1,
        "n_epochs_decay": 1,
    }
    options = RunOptions((str(dataset),), accelerator="cpu", select="ssim")
    run = tmp_path / "run"
    metrics = Trainer("fss", build_settings(Settings, values), options, run).fit()
    assert 0 < metrics["photo2sketch"]["ssim"] < 1
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    figures = [line for line in log if line.get("validation") == "fss"]
    assert [line["stage"] for line in figures] == ["rcs", "rcs"]
    assert all(0 <= line["iou_face"] <= 1 for line in figures)
    sheets = {path.name.split("-")[0]: Image.open(path).size for path in (run / "samples").iterdir()}
    assert sheets["rcs"][1] == 3 * 250  # photo, hair, face
    assert sheets["photo2sketch"][1] == 4 * 250  # photo, drawing, sketch, samples
    assert export(run, tmp_path / "fss.onnx", bits=32).difference < 1e-4
    about = json.loads(onnx.load(tmp_path / "fss.onnx").metadata_props[0].value)
    assert about["priors"] == ["layout"]


TINY = {"rcs_epochs": 1, "epochs": 1, "ngf": 8, "ndf": 8, "netF_nc": 16, "framing": "crop", "crop_size": 64}


@pytest.mark.parametrize(("name", "row"), ABLATION)
def test_each_row_of_the_ablation_trains(name, row, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(fss, "load_vgg19", VGG19)
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    tiny = {key: value for key, value in TINY.items() if name == "fss" or key != "rcs_epochs"}
    flags = [text for key, value in tiny.items() for text in (f"--{key}", str(value))]
    run = tmp_path / "run"
    command = ["train", name, str(dataset), "--out", str(run), *row.split(), *flags]
    assert main([*command, "--accelerator", "cpu", "--select", "ssim"]) == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    learned = {key for line in lines for key in line if key.startswith(("g_", "rcs_"))}
    given = parse_flags(row.split())
    full, mine = name == "fss" and "lambda_l1" not in given, name == "fss"
    expected = {"g_gan", "g_nce"} | ({"g_l1", "g_perceptual"} if full else set())
    assert learned == expected | ({"rcs_bce", "rcs_dice"} if mine else set())
    generator = load_run(run)[0].generator
    assert isinstance(generator, MaskedSynthesizer) == (mine and "mask" not in given)
