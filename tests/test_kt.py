"""KT: its correspondence, its four equations, who learns from whom, and a run from end to end."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import nn

import silverpoint.methods.kt as kt
import silverpoint.training.export as training_export
import silverpoint.training.maps as maps
from conftest import ROOT
from drawn import draw_pair
from lab import write_dataset
from silverpoint.cli.main import main
from silverpoint.data.augment import draw_crop, take_crop
from silverpoint.data.batches import Batch
from silverpoint.data.pairs import Example, read_split
from silverpoint.errors import UsageError
from silverpoint.losses.transfer import map_distance
from silverpoint.methods.kt import CORRESPONDENCE, KT, Settings, in_order
from silverpoint.nets.seresnet import DilatedSEBlock, DilatedSEResNet, SqueezeExcitation
from silverpoint.nets.vgg import VGG19
from silverpoint.synthesis.model import Model


def untrained_vgg(taps):
    """Teachers of random weights: what is tested here does not depend on what they know."""
    torch.manual_seed(5)
    return VGG19(taps)


@pytest.fixture(autouse=True)
def _shallow_and_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(kt, "load_vgg19", untrained_vgg)
    monkeypatch.setattr(kt, "DilatedSEResNet", partial(DilatedSEResNet, blocks=1))
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")


def method(**changes):
    torch.manual_seed(0)
    return KT(Settings(**changes), ("x",)).eval()


def some_batch(count=2, size=(16, 24)):
    torch.manual_seed(1)
    photo, sketch = torch.rand(count, 3, *size) * 2 - 1, torch.rand(count, 1, *size) * 2 - 1
    return Batch(photo, sketch, torch.ones(count, 1), ["a", "b"][:count])


def grads(m):
    return [p.grad for p in m.parameters()]


# ---- the correspondence ------------------------------------------------------------------------------------------


def test_the_order_of_the_maps_is_that_of_section_3_2():
    teachers = ["P: Relu1-1", "P: Relu2-1", "P: Relu3-1", "S: Relu3-1", "S: Relu2-1", "S: Relu1-1"]
    to_ptos = ["IC", "DC1", "DC2", "Block", "UC1", "UC2"]
    to_stop = ["UC2", "UC1", "Block", "DC2", "DC1", "IC"]
    named = [f"{c.teacher[-1]}: {c.layer.capitalize().replace('_', '-')}" for c in CORRESPONDENCE]
    assert named == teachers
    assert [c.ptos for c in CORRESPONDENCE] == to_ptos
    assert [c.stop for c in CORRESPONDENCE] == to_stop


@pytest.mark.parametrize("size", [(16, 24), (64, 64)])
def test_what_corresponds_has_one_shape(size):
    m, batch = method(), some_batch(1, size)
    rows = m.maps(batch.photo, batch.sketch)
    assert list(rows) == ["Teachers", "Stu-PtoS", "Stu-StoP"]
    for teacher, ptos, stop in zip(*rows.values(), strict=True):
        assert teacher.shape == ptos.shape == stop.shape
        assert min(float(x.min()) for x in (teacher, ptos, stop)) >= 0  # all after their ReLU
    assert [tuple(x.shape[1:]) for x in rows["Teachers"]] == [
        (c, size[0] // s, size[1] // s)
        for c, s in zip((64, 128, 256, 256, 128, 64), (1, 2, 4, 4, 2, 1), strict=True)
    ]


def test_each_teacher_looks_at_its_own_picture():
    m, batch = method(), some_batch(1)
    sketch = batch.sketch.expand(-1, 3, -1, -1)
    vgg = untrained_vgg(["relu1_1", "relu2_1", "relu3_1"])
    with torch.no_grad():
        of = {"Teacher-P": vgg((batch.photo + 1) / 2), "Teacher-S": vgg((sketch + 1) / 2)}
    for c, found in zip(CORRESPONDENCE, m.teach(batch.photo, sketch), strict=True):
        torch.testing.assert_close(found, of[c.teacher][c.layer])


# ---- the equations -----------------------------------------------------------------------------------------------


def test_the_distance_of_maps_by_hand():
    maps = [torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0]], [[3.0]]]])]
    targets = [torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[[[1.0]], [[0.0]]]])]
    assert float(map_distance(maps, targets)) == pytest.approx((1 + 4) / 2 + (0 + 9) / 2)
    with pytest.raises(ValueError, match="zip"):
        map_distance(maps, targets[:1])
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 2\) cannot learn from one of \(1, 2, 1, 1\)"):
        map_distance(maps, targets[::-1])  # which would broadcast


def printed(a, b, size):
    """||a - b||_2^2 / size for each image of a batch, number by number; the mean over the batch."""
    total = 0.0
    for x, y in zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True):
        total += (x - y) ** 2
    return total / size / len(a)


@pytest.mark.parametrize("reconstruction", ["balanced", "sum"])
def test_the_losses_are_equations_1_to_4(reconstruction):
    m, batch = method(reconstruction=reconstruction, lambda_rec=7.0), some_batch()
    photo, sketch = batch.photo, batch.sketch.expand(-1, 3, -1, -1)
    with torch.no_grad():
        (_, ptos), (_, stop) = list(m.training_step(batch))
        vgg = untrained_vgg(["relu1_1", "relu2_1", "relu3_1"])
        phi_p, phi_s = vgg((photo + 1) / 2), vgg((sketch + 1) / 2)
        phi = [phi_p[f"relu{i}_1"] for i in (1, 2, 3)] + [phi_s[f"relu{i}_1"] for i in (3, 2, 1)]
        g, maps = m.ptos(photo)
        f, other = m.stop(sketch)
    up = [maps[k] for k in ("IC", "DC1", "DC2", "Block", "UC1", "UC2")]
    down = [other[k] for k in ("UC2", "UC1", "Block", "DC2", "DC1", "IC")]
    sizes = [a[0].numel() for a in phi]  # C H W
    eq1 = [sum(map(printed, phi, student, sizes)) for student in (up, down)]
    eq2 = sum(map(printed, up, down, sizes))
    scale = 1 if reconstruction == "sum" else 3 * 16 * 24 / 7.0
    eq3 = [printed(sketch, g, scale), printed(photo, f, scale)]
    assert float(ptos["ptos_teacher"]) == pytest.approx(eq1[0], rel=1e-4)
    assert float(stop["stop_teacher"]) == pytest.approx(eq1[1], rel=1e-4)
    assert float(ptos["ptos_student"]) == pytest.approx(eq2, rel=1e-4)
    assert float(stop["stop_student"]) == pytest.approx(eq2, rel=1e-4)
    assert float(ptos["ptos_rec"]) == pytest.approx(eq3[0], rel=1e-4)
    assert float(stop["stop_rec"]) == pytest.approx(eq3[1], rel=1e-4)


# ---- who learns from whom ----------------------------------------------------------------------------------------


def test_neither_the_teachers_nor_the_other_student_learn_from_an_update():
    m, batch = method(), some_batch(1)
    learners = {"ptos": (m.ptos, m.stop), "stop": (m.stop, m.ptos)}
    for name, losses in m.training_step(batch):
        m.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # without `inputs`: what is detached is seen
        learner, other = learners[name]
        assert all(float(g.abs().sum()) > 0 for g in grads(learner)[:1])
        assert all(g is not None for g in grads(learner))
        assert all(g is None for g in grads(other))
    assert all(p.grad is None and not p.requires_grad for p in m._vgg.parameters())


def test_the_teachers_run_without_a_graph_and_are_not_in_the_checkpoint():
    m, batch = method(), some_batch(1)
    photo = batch.photo.requires_grad_()
    assert not any(k.requires_grad for k in m.teach(photo, photo))
    assert {name.split(".")[0] for name in m.state_dict()} == {"ptos", "stop"}


def test_joint_updates_descend_equation_4():
    """With both updates from one forward, each student's gradient is that of the whole objective."""
    m, batch = method(), some_batch(1)
    found = []
    for name, losses in m.training_step(batch):
        parameters = list(getattr(m, name).parameters())
        found += torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, retain_graph=True)
    photo, sketch = batch.photo, batch.sketch.expand(-1, 3, -1, -1)
    g, up = m.ptos(photo)
    f, down = m.stop(sketch)
    total = 10 * ((sketch - g).square().mean() + (photo - f).square().mean())
    for c, k in zip(CORRESPONDENCE, m.teach(photo, sketch), strict=True):
        a, b = up[c.ptos], down[c.stop]
        total = total + (k - a).square().mean() + (k - b).square().mean() + (a - b).square().mean()
    for a, b in zip(found, torch.autograd.grad(total, list(m.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("alternation", ["joint", "fresh"])
def test_the_second_update_sees_the_first_only_where_that_is_asked(alternation):
    m, batch = method(alternation=alternation), some_batch(1)
    sketch = batch.sketch.expand(-1, 3, -1, -1)
    steps = m.training_step(batch)
    next(steps)
    with torch.no_grad():
        before = in_order(m.ptos(batch.photo)[1], "ptos")
        for p in m.ptos.parameters():
            p.mul_(1.5)
        after = in_order(m.ptos(batch.photo)[1], "ptos")
        _, losses = next(steps)
        mine = in_order(m.stop(sketch)[1], "stop")
    expected = map_distance(mine, after if alternation == "fresh" else before)
    torch.testing.assert_close(losses["stop_student"].detach(), expected)
    assert abs(float(map_distance(mine, after) - map_distance(mine, before))) > 0.1


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"lambda_teacher": 0, "lambda_student": 0}, {"rec"}),
        ({"lambda_student": 0}, {"rec", "teacher"}),
        ({}, {"rec", "teacher", "student"}),
    ],
)
def test_the_configurations_of_table_1_are_settings(settings, terms, monkeypatch):
    if "teacher" not in terms:
        monkeypatch.setattr(kt, "load_vgg19", lambda _: pytest.fail("no teacher is needed"))
    for name, losses in method(**settings).training_step(some_batch(1)):
        assert set(losses) == {f"{name}_{term}" for term in terms}


def test_students_come_nearer_to_their_teachers_and_to_each_other():
    """What Fig. 4 shows: with transfer the maps agree, without they do not."""
    distances = {}
    for label, weight in (("with", 1.0), ("without", 0.0)):
        m = method(lambda_teacher=weight, lambda_student=weight, lambda_rec=1.0).train()
        batch = some_batch(1, (32, 32))
        specs = m.optimizers(m.stages()[0])
        optimizers = {n: torch.optim.Adam(s.parameters, 2e-2, s.betas) for n, s in specs.items()}
        for _ in range(15):
            for name, losses in m.training_step(batch):
                optimizers[name].zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                optimizers[name].step()
        teachers, ptos, stop = m.maps(batch.photo, batch.sketch).values()
        distances[label] = [
            float(map_distance(a, b)) for a, b in ((ptos, teachers), (stop, teachers), (ptos, stop))
        ]
    assert all(a < 0.5 * b for a, b in zip(distances["with"], distances["without"], strict=True)), distances


# ---- the students ------------------------------------------------------------------------------------------------


def test_the_student_is_the_one_of_the_paper():
    """IC-k7s1n64, DC1-k3s2n128, DC2-k3s2n256, nine blocks, UC1-k3n128, UC2-k3n64, OC-k7s1n3; SE reduction 16."""
    convolutions = [
        (7, 3, 64),
        (3, 64, 128),
        (3, 128, 256),
        *[(3, 256, 256)] * 18,
        (3, 256, 128),
        (3, 128, 64),
    ]
    expected = sum(k * k * i * o + o + 2 * o for k, i, o in convolutions)  # weights, biases, affine norm
    expected += 7 * 7 * 64 * 3 + 3 + 9 * (256 * 16 + 16 + 16 * 256 + 256)
    net = DilatedSEResNet()
    assert sum(p.numel() for p in net.parameters()) == expected
    block = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.dilation == (2, 2)]
    assert len(block) == 18


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_students_draw_any_multiple_of_four_in_range(norm):
    net = DilatedSEResNet(blocks=1, norm=norm).eval()
    with torch.no_grad():
        image, maps = net(torch.rand(2, 3, 20, 28) * 2 - 1)
    assert image.shape == (2, 3, 20, 28)
    assert float(image.abs().max()) <= 1
    assert list(maps) == ["IC", "DC1", "DC2", "Block", "UC1", "UC2"]


def test_a_block_reaches_four_pixels_in_steps_of_two():
    block, x = DilatedSEBlock(16), torch.randn(1, 16, 17, 17, requires_grad=True)
    for i, layer in enumerate(block.layers):
        if isinstance(layer, (nn.InstanceNorm2d, SqueezeExcitation, nn.ReLU)):
            block.layers[i] = (
                nn.Identity()
            )  # statistics reach everywhere; the convolutions are what is measured
    block.layers(x)[0, :, 8, 8].sum().backward()
    touched = x.grad[0].abs().sum(0).nonzero()
    assert sorted({int(v) for v in touched.flatten()}) == [4, 6, 8, 10, 12]


def test_squeeze_and_excitation_by_hand():
    se, x = SqueezeExcitation(16), torch.randn(2, 16, 3, 5)
    (w1, b1), (w2, b2) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (se.excite[0], se.excite[2])
    )
    for image, found in zip(x.numpy(), se(x).detach().numpy(), strict=True):
        z = np.array([channel.sum() / 15 for channel in image])  # Eq. 2
        s = 1 / (1 + np.exp(-(w2 @ np.maximum(w1 @ z + b1, 0) + b2)))  # Eq. 3
        np.testing.assert_allclose(found, image * s[:, None, None], rtol=1e-4, atol=1e-6)  # Eq. 4


def test_sketches_are_grey_and_photos_coloured():
    m, batch = method(), some_batch(2)
    with torch.no_grad():
        sketch = m.synthesizer("photo2sketch")(batch.photo, batch.style)
        photo = m.synthesizer("sketch2photo")(batch.sketch, batch.style)
        drawn = m.ptos(batch.photo)[0]
    assert sketch.shape == (2, 1, 16, 24)
    assert photo.shape == (2, 3, 16, 24)
    torch.testing.assert_close(sketch[:, 0], (drawn[:, 0] + drawn[:, 1] + drawn[:, 2]) / 3)


@pytest.mark.parametrize("mirror", [True, False])
def test_pairs_are_mirrored_unless_that_is_turned_off(mirror):
    a = method(mirror=mirror).augmentation
    photo = torch.from_numpy(draw_pair(0, (32, 32))[0].transpose(2, 0, 1).copy())
    crops = [draw_crop(32, 32, 32, a, torch.Generator().manual_seed(seed)) for seed in range(20)]
    seen = [torch.equal(take_crop(photo, crop), photo.float()) for crop in crops]
    mirrored = [torch.equal(take_crop(photo, crop), photo.float().flip(2)) for crop in crops]
    assert any(seen)
    assert any(mirrored) == mirror
    assert all(a != b for a, b in zip(seen, mirrored, strict=True))


# ---- a run -------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "train-your-own.md").read_text()
SHORTER = {
    "prepare": ["--workers", "1"],
    "train": [
        *("--epochs", "1", "--framing", "crop", "--crop_size", "32"),
        *("--select", "ssim", "--accelerator", "cpu"),
    ],
    "evaluate": ["--metrics", "psnr,ssim"],
}


def write_portraits(root, portrait):
    """What the page begins with: seven photos and what passes for their sketches, me.jpg, drawing.png."""
    for folder in ("photos", "sketches"):
        (root / "mine" / folder).mkdir(parents=True)
    for i in range(7):
        photo = Image.open(portrait).convert("RGB").resize((300 + 8 * i, 300 + 8 * i))
        photo = ImageEnhance.Brightness(photo).enhance(0.8 + 0.05 * i)
        photo.save(root / "mine" / "photos" / f"p{i}.jpg")
        photo.convert("L").save(root / "mine" / "sketches" / f"p{i}.png")
    photo.save(root / "me.jpg")
    photo.convert("L").resize((200, 250)).save(root / "drawing.png")


def test_the_walk_of_the_page_goes_through_and_its_files_draw_what_is_scored(
    tmp_path, monkeypatch, portrait, capsys
):
    """Every line, with crops of 32 for one epoch: then a file sees a picture whole that training saw in squares."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_export, "_seconds", lambda *_: 0.0)
    monkeypatch.setattr(training_export, "undilated", lambda _: None)  # one form to trace, not two
    write_portraits(tmp_path, portrait)
    walked = []
    for line in re.findall(r"(?:^    |`)silverpoint ([^`#\n]+)", PAGE, re.MULTILINE):
        command, *arguments = line.split()
        assert main([command, *arguments, *SHORTER.get(command, [])]) == 0, (line, capsys.readouterr())
        walked.append(command)
    commands = {"prepare", "check", "train", "synthesize", "evaluate", "maps", "export", "sketch", "photo"}
    assert commands <= set(walked)

    assert (tmp_path / "pairs" / "preview.png").is_file()
    sheets = {p.name.split("-")[0] for p in Path("runs/mine/samples").iterdir()}
    assert sheets == {"photo2sketch", "sketch2photo"}
    assert Image.open("maps.png").height > 3 * 128  # teachers and two students
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], {})
    drawings = {"me-sketch-face.png": "L", "drawing-photo-whole.png": "RGB", "me-sketch.png": "L"}
    for name, mode in drawings.items():
        assert (Image.open(name).size, Image.open(name).mode) == ((200, 250), mode)

    (example,) = read_split(Path("pairs"), "test")
    sources = {"sketch": ("sketches", example.photo), "photo": ("photos", np.stack([example.sketch] * 3, -1))}
    for kind, (folder, source) in sources.items():
        model = Model(f"mine-{kind}.onnx")
        assert (model.card.method, model.card.framing, model.card.styles) == ("kt", "crop", ())
        scored = np.asarray(Image.open(f"{folder}/{example.id}.png"))
        assert np.abs(model.draw(source[None])[0].astype(int) - scored).max() <= 1


def as_loaded(monkeypatch, **settings):
    monkeypatch.setattr(maps, "load_run", lambda *_: (method(framing="crop", **settings), {}))


def test_maps_reads_one_pair_and_says_how_far_the_students_are(monkeypatch, tmp_path, capsys):
    as_loaded(monkeypatch)
    dataset = write_dataset(tmp_path / "data", train=2, size=(16, 24))
    (dataset / "photos" / "p0.png").write_bytes(b"damaged")
    command = ["maps", "kt", str(dataset), "--split", "train", "--out", str(tmp_path / "maps.png")]
    assert main([*command, "--subset", "mine", "--id", "p1"]) == 0
    *_, ptos, stop = capsys.readouterr().out.splitlines()
    for line, student in ((ptos, "Stu-PtoS kt: "), (stop, "Stu-StoP kt: ")):
        assert line.startswith(student)
        assert all(float(d) > 0 for d in line.removeprefix(student).split())
    assert main([*command, "--id", "nobody"]) == 1
    assert "no pair nobody" in capsys.readouterr().err
    assert main([*command, "--subset", "yours"]) == 1
    assert "subset 'yours'" in capsys.readouterr().err


def test_a_student_that_looks_like_its_teacher_but_is_fainter_is_told(monkeypatch):
    """A tile's own black and white hide that."""
    as_loaded(monkeypatch)
    knowledge = [torch.rand(1, 2, 6, 4) for _ in CORRESPONDENCE]
    seen = {"Teachers": knowledge, "Stu-PtoS": [k / 100 for k in knowledge], "Stu-StoP": knowledge}
    monkeypatch.setattr(KT, "maps", lambda *_: seen)
    example = Example("p", "all", "x", *draw_pair(0, (16, 24)))
    teachers, ptos, stop = maps.map_rows([Path("kt")], example)
    assert list(teachers.distances) == []
    assert ptos.distances == pytest.approx([0.99**2] * 6)
    assert stop.distances == [0] * 6


def test_maps_of_runs_of_one_name_are_all_shown(monkeypatch):
    as_loaded(monkeypatch)
    example = Example("p", "all", "x", *draw_pair(0, (16, 24)))
    students = ("Stu-PtoS", "Stu-StoP")
    runs = [Path("a/kt"), Path("b/kt"), Path("c/other")]
    expected = [f"{s}\n{name}" for name in ("a/kt", "b/kt", "other") for s in students]
    assert [row.name for row in maps.map_rows(runs, example)] == ["Teachers", *expected]


def test_rows_of_unlike_framings_have_room_beside_each_other():
    wide, tall = ([torch.rand(1, 2, height, 4)] * len(CORRESPONDENCE) for height in (2, 8))
    named = {"Teachers": wide, "Stu-PtoS\n" + "long" * 20: tall, "Stu-StoP\nx": wide}
    sheet = maps.map_sheet([maps.Row(name, shown) for name, shown in named.items()])
    assert sheet.shape[0] == maps.TOP + 3 * (2 * maps.TILE + maps.GAP)
    assert sheet.shape[1] > 6 * (maps.TILE + maps.GAP) + 80 * 5  # a long name has room too


def test_maps_of_a_method_without_teachers_are_refused(monkeypatch, tmp_path):
    class Other:
        name = "pix2pix"

    monkeypatch.setattr(maps, "load_run", lambda *_: (Other(), {}))
    with pytest.raises(UsageError, match="pix2pix, which has no teachers"):
        maps.map_rows([tmp_path], None)
