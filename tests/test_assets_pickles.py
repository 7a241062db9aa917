"""Pickled weights are read as torch reads them, and nothing in them is ever run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from silverpoint.assets import convert
from silverpoint.assets.pickles import read_arrays
from silverpoint.errors import AssetError


def saved(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def weights() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        {
            "conv.weight": torch.randn(4, 3, 2, 2, generator=generator),
            "conv.bias": torch.randn(4, generator=generator),
            "bn.num_batches_tracked": torch.tensor(7),
            "half": torch.randn(5, generator=generator).half(),
            "empty": torch.zeros(0, 3),
        }
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_of_either_format_gives_the_numbers_torch_saved(zipped):
    arrays = read_arrays(saved(weights(), _use_new_zipfile_serialization=zipped))
    assert list(arrays) == list(weights())
    for name, tensor in weights().items():
        assert arrays[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_views_of_one_storage_are_told_apart(zipped):
    shared = torch.arange(10.0)
    arrays = read_arrays(saved({"a": shared[2:4], "b": shared[4:]}, _use_new_zipfile_serialization=zipped))
    assert arrays["a"].tolist() == [2, 3]
    assert arrays["b"].tolist() == [4, 5, 6, 7, 8, 9]


def test_a_checkpoint_gives_its_state_dict_and_nothing_else():
    arrays = read_arrays(saved({"epoch": 40, "name": "net", "state_dict": weights()}))
    assert set(arrays) == {f"state_dict.{name}" for name in weights()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_gives_its_weights_without_its_code():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(1, 3, 2, 2)), stream)
    arrays = read_arrays(stream.getvalue())
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


def test_pickled_numpy_arrays_are_read_in_both_orders():
    tree = {
        "net": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "f": np.asfortranarray(np.eye(3))}
    }
    arrays = read_arrays(pickle.dumps(tree, protocol=3))
    np.testing.assert_array_equal(arrays["net.kernel"], tree["net"]["kernel"])
    np.testing.assert_array_equal(arrays["net.f"], tree["net"]["f"])


class Runs:
    """Pickles to a call of `function`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]


@pytest.mark.parametrize(
    "hostile",
    [
        Runs(os.system, "touch ran"),
        Runs(eval, "open('ran', 'w')"),
        Runs(getattr, "", "join"),
        Runs(torch.load, "ran"),
        Runs(torch.storage._load_from_bytes, b""),
        Runs(np.load, "ran"),
    ],
    ids=lambda hostile: hostile.call[0].__name__,
)
@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_a_file_that_asks_for_any_other_callable_is_refused_and_nothing_runs(
    hostile, form, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tree = {"weight": hostile}
    data = (
        pickle.dumps(tree) if form == "pickle" else saved(tree, _use_new_zipfile_serialization=form == "zip")
    )
    with pytest.raises(AssetError, match="refused"):
        read_arrays(data)
    assert list(tmp_path.iterdir()) == []


def test_numpy_arrays_of_objects_are_refused():
    with pytest.raises(AssetError):
        read_arrays(pickle.dumps({"weight": np.array([1, "a"], dtype=object)}))


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80\x04.", b"not a pickle", saved(weights())[:-200]])
def test_a_malformed_file_is_one_clear_error(data):
    with pytest.raises(AssetError, match="cannot be read"):
        read_arrays(data)


def test_a_tensor_that_reaches_past_its_storage_is_refused():
    data = io.BytesIO(saved({"weight": torch.arange(8.0)}))
    shortened = io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(shortened, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:16] if name.endswith("/data/0") else content)
    with pytest.raises(AssetError, match="cannot be read"):
        read_arrays(shortened.getvalue())


def test_a_transposed_tensor_is_refused_rather_than_misread():
    with pytest.raises(AssetError, match="strides"):
        read_arrays(saved({"weight": torch.zeros(2, 3).t()}))


def test_our_safetensors_are_those_of_the_library_to_the_byte():
    from safetensors.numpy import save

    arrays = {
        name: tensor.numpy()
        for name, tensor in weights().items()
        if tensor.dtype in (torch.float32, torch.int64)
    }
    assert convert.safetensors(arrays) == save(arrays)


def test_vgg19_gets_the_names_of_its_layers():
    from safetensors.numpy import load

    indices = [0, 2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51]
    state = {f"{i}.{kind}": torch.full((1,), float(i)) for i in indices for kind in ("weight", "bias")}
    arrays = load(convert.vgg19(saved(state)))
    assert len(arrays) == 34
    assert arrays["preprocess.weight"] == 0
    assert arrays["conv1_1.weight"] == 2
    assert arrays["conv2_1.bias"] == 9
    assert arrays["conv3_4.weight"] == 25
    assert arrays["conv5_4.weight"] == 51


def test_flax_kernels_turn_into_torchs_order_and_heads_are_left_out():
    from safetensors.numpy import load

    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)  # kh, kw, in, out
    tree = {
        "AlexNet_0": {"Conv_0": {"kernel": kernel, "bias": np.zeros(5, np.float32)}},
        "NetLinLayer_0": {"Conv_0": {"kernel": kernel}},
    }
    arrays = load(convert.CONVERTERS["alexnet"](pickle.dumps(tree, protocol=3)))
    assert set(arrays) == {"features.0.weight", "features.0.bias"}
    assert arrays["features.0.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("conv_3", "Conv2d_3b_1x1"),
        ("mixed.tower.conv_1", "Mixed_5b.branch5x5_2"),
        ("mixed_3.tower.conv_2", "Mixed_6a.branch3x3dbl_3"),
        ("mixed_7.tower_1.conv_4", "Mixed_6e.branch7x7dbl_5"),
        ("mixed_8.tower_1.conv", "Mixed_7a.branch7x7x3_1"),
        ("mixed_10.tower_1_mixed_conv_1", "Mixed_7c.branch3x3dbl_3b"),
        ("mixed_9.tower_2_conv", "Mixed_7b.branch_pool"),
    ],
)
def test_inception_gets_torchvisions_names(published, name):
    from safetensors.numpy import load

    state = {f"net.layers.{published}.{kind}": torch.zeros(2) for kind in ("weight", "beta", "mean", "var")}
    arrays = load(convert.inception(saved(state)))
    kinds = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    assert set(arrays) == {f"{name}.{kind}" for kind in kinds}
    assert (arrays[f"{name}.bn.weight"] == 1).all()
