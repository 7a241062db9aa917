from pathlib import Path

import numpy as np
import pytest

import silverpoint.faces.layout as layout
from silverpoint.errors import AssetError
from silverpoint.faces.layout import CLASSES, PART_OF_CLASS, PARTS, parse, part_mask, read_safetensors

torch = pytest.importorskip("torch")


@pytest.fixture
def random_parser(tmp_path, monkeypatch):
    """The torch parser with random weights, and the shipped graph reading the same weights from a file."""
    from safetensors.torch import save_file

    import silverpoint.assets
    from silverpoint.nets.bisenet import BiSeNet

    torch.manual_seed(0)
    net = BiSeNet()
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.copy_(
                torch.rand_like(buffer) + 0.5 if name.endswith("var") else torch.randn_like(buffer) * 0.1
            )
    save_file(net.state_dict(), tmp_path / "bisenet.safetensors")
    monkeypatch.setattr(silverpoint.assets, "fetch", lambda name: tmp_path / f"{name}.safetensors")
    layout._session.cache_clear()
    yield net
    layout._session.cache_clear()


def test_every_class_of_the_parser_belongs_to_one_part():
    assert sorted(name for names in PARTS.values() for name in names) == sorted(CLASSES)
    assert len(PARTS) == 12
    assert list(PARTS)[PART_OF_CLASS[CLASSES.index("hat")]] == "hair"


def test_a_mask_is_the_union_of_its_parts():
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    mask = part_mask(numbers, "background", "hair")
    assert mask.tolist() == [[255, 0, 0, 0], [0] * 4, [0, 0, 0, 255]]


def test_the_shipped_graph_is_the_torch_network(random_parser):
    for rows, columns in ((128, 96), (64, 160)):
        x = torch.rand(1, 3, rows, columns)
        (logits,) = layout._session().run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), random_parser(x), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("random_parser")
def test_a_layout_has_the_size_of_its_picture():
    photo = np.random.default_rng(0).integers(0, 256, (250, 200, 3), np.uint8)
    parsed = parse(photo)
    assert parsed.shape == (250, 200)
    assert parsed.dtype == np.uint8
    assert parsed.max() < 12


def test_no_weights_are_shipped():
    shipped = Path(layout.__file__).with_name("bisenet.onnx")
    assert shipped.stat().st_size < 100_000


def test_the_shipped_graph_takes_the_weights_that_the_exporter_declares():
    onnx = pytest.importorskip("onnx")
    from silverpoint.training.parser_graph import parser_graph

    shipped = onnx.load(Path(layout.__file__).with_name("bisenet.onnx"), load_external_data=False)
    again = onnx.load_from_string(parser_graph())
    names = [{i.name for i in m.graph.initializer if i.data_location == i.EXTERNAL} for m in (shipped, again)]
    assert names[0] == names[1]
    assert "cp.resnet.conv1.weight" in names[0]


def test_safetensors_are_read_without_their_library(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float32)}
    save_file({**arrays, "n": np.array([3])}, tmp_path / "x.safetensors")
    found = read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[k], arrays[k]) for k in arrays)


def test_a_real_face_has_its_parts_in_their_places(portrait):
    from silverpoint import assets
    from silverpoint.faces.align import align
    from silverpoint.faces.detect import detect
    from silverpoint.image import read_image

    try:
        assets.fetch("bisenet", offline=True)
    except AssetError:
        pytest.skip("the parser's weights are not in the cache")
    photo = read_image(portrait)
    face, _ = align(photo, detect(photo)[0])
    found = parse(face)
    eyes = np.argwhere(part_mask(found, "eyes"))
    assert abs(eyes[:, 0].mean() - 125) < 12
    assert 75 < eyes[:, 1].mean() < 125
    assert np.argwhere(part_mask(found, "lips"))[:, 0].mean() > 150
    assert (
        np.argwhere(part_mask(found, "hair"))[:, 0].mean()
        < np.argwhere(part_mask(found, "skin"))[:, 0].mean()
    )
