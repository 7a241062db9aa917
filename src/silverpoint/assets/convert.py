"""From a published file to ours: the same numbers under the names their torch module uses, as safetensors.

Each function takes the members of one asset (their bytes) and gives the bytes of the file we keep. The result
is the same to the last bit on every machine, so the manifest pins its sha256 like that of any other file.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Callable

import numpy as np

from silverpoint.assets.pickles import read_arrays

Arrays = dict[str, np.ndarray]


def safetensors(arrays: Arrays) -> bytes:
    """The safetensors file of `arrays`: header length, JSON header, then the numbers.

    Written here rather than by the library because the manifest pins the bytes, and a release of the library
    may order or pad them differently. Wide types come first, as there, so that every array is aligned.
    """
    types = {"float32": "F32", "int64": "I64"}
    header, offset, body = {}, 0, []
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {
            "dtype": types[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        body.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *body])


def unchanged(member: bytes) -> bytes:
    return member


def state_dict(member: bytes) -> bytes:
    """A torch checkpoint: its state dict as it is."""
    arrays = read_arrays(member)
    return safetensors({name.removeprefix("state_dict."): array for name, array in arrays.items()})


def vgg19(member: bytes) -> bytes:
    """The normalised net: its convolutions, renamed from Sequential indices to `conv1_1` ... `conv5_4`."""
    arrays = read_arrays(member)
    indices = sorted({int(name.split(".")[0]) for name in arrays})
    blocks = [(block, conv) for block, depth in enumerate((2, 2, 4, 4, 4), 1) for conv in range(1, depth + 1)]
    names = ["preprocess", *(f"conv{block}_{conv}" for block, conv in blocks)]
    return safetensors(
        {
            f"{name}.{kind}": arrays[f"{index}.{kind}"]
            for index, name in zip(indices, names, strict=True)
            for kind in ("weight", "bias")
        }
    )


def lpips_heads(alex: bytes, vgg: bytes, squeeze: bytes) -> bytes:
    """The 1x1 convolutions of the three LPIPS nets: `alex.lin0` ..., each (1, C, 1, 1)."""
    heads = {}
    for net, member in (("alex", alex), ("vgg", vgg), ("squeeze", squeeze)):
        for name, array in read_arrays(member).items():  # lin0.model.1.weight
            heads[f"{net}.{name.split('.')[0]}"] = array
    return safetensors(heads)


def flax_backbone(*torchvision_indices: int) -> Callable[[bytes], bytes]:
    """A flax net's `Conv_i` in torchvision's names; kernels from (kh, kw, in, out) to (out, in, kh, kw)."""

    def convert(member: bytes) -> bytes:
        arrays = {}
        for name, array in read_arrays(member).items():  # VGG16_0.Conv_3.kernel; NetLinLayer_* are the heads
            if match := re.fullmatch(r"(?:VGG16|AlexNet)_0\.Conv_(\d+)\.(kernel|bias)", name):
                layer = f"features.{torchvision_indices[int(match[1])]}"
                if match[2] == "kernel":
                    arrays[f"{layer}.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
                else:
                    arrays[f"{layer}.bias"] = array
        return safetensors(arrays)

    return convert


def inception(member: bytes) -> bytes:
    """FID's Inception-v3 in torchvision's names (`Mixed_5b.branch1x1.conv.weight`), without the classifier.

    The net has no batch-norm scale; `bn.weight` is written as ones so that BatchNorm2d loads it (eps 0.001).
    """
    blocks = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    stem = ["1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"]
    kinds = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    arrays = {}
    for name, array in read_arrays(member).items():  # net.layers.mixed_4.tower_1.conv_3.weight
        *path, kind = name.removeprefix("net.layers.").split(".")
        if len(path) == 1:
            layer = f"Conv2d_{stem[_number(path[0])]}"
        else:
            mixed = blocks[_number(path[0])]
            layer = f"Mixed_{mixed}.{_inception_branch(mixed, '.'.join(path[1:]))}"
        arrays[f"{layer}.{kinds[kind]}"] = array
        if kind == "beta":
            arrays[f"{layer}.bn.weight"] = np.ones_like(array)
    return safetensors(arrays)


def _inception_branch(mixed: str, path: str) -> str:
    """torchvision's name of a convolution inside one Inception block."""
    if mixed in ("7b", "7c"):
        return {
            "conv": "branch1x1",
            "tower_conv": "branch3x3_1",
            "tower_mixed_conv": "branch3x3_2a",
            "tower_mixed_conv_1": "branch3x3_2b",
            "tower_1_conv": "branch3x3dbl_1",
            "tower_1_conv_1": "branch3x3dbl_2",
            "tower_1_mixed_conv": "branch3x3dbl_3a",
            "tower_1_mixed_conv_1": "branch3x3dbl_3b",
            "tower_2_conv": "branch_pool",
        }[path]
    direct, tower, tower_1 = {
        "5": ("branch1x1", "branch5x5", "branch3x3dbl"),
        "6": ("branch1x1", "branch7x7", "branch7x7dbl"),
        "6a": ("branch3x3", "branch3x3dbl", ""),
        "7a": ("", "branch3x3", "branch7x7x3"),
    }[mixed if mixed in ("6a", "7a") else mixed[0]]
    if path == "conv":
        return direct
    if path == "tower_2.conv":
        return "branch_pool"
    branch, conv = path.split(".")  # tower_1, conv_3
    return f"{tower if branch == 'tower' else tower_1}_{_number(conv) + 1}"


def _number(name: str) -> int:
    """TensorFlow's count of layers of one name: 0 for `conv`, 3 for `conv_3`."""
    return int(name.partition("_")[2] or 0)


def facenet(member: bytes) -> bytes:
    """Keras' InceptionResnetV1 by layer name; kernels become (out, in, kh, kw), the dense one (out, in)."""
    h5py = importlib.import_module("h5py")  # not among our dependencies: for this one file only

    kinds = {
        "kernel:0": "weight",
        "bias:0": "bias",
        "beta:0": "bias",
        "moving_mean:0": "running_mean",
        "moving_variance:0": "running_var",
    }
    arrays = {}

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            *_, layer, kind = path.split("/")  # model_weights/Conv2d_1a_3x3/Conv2d_1a_3x3/kernel:0
            array = item[()]
            if kind == "kernel:0":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            arrays[f"{layer}.{kinds[kind]}"] = np.ascontiguousarray(array)

    with h5py.File(io.BytesIO(member)) as file:
        file["model_weights"].visititems(visit)
    return safetensors(arrays)


CONVERTERS: dict[str, Callable[..., bytes]] = {
    "unchanged": unchanged,
    "state_dict": state_dict,
    "vgg19": vgg19,
    "lpips_heads": lpips_heads,
    "alexnet": flax_backbone(0, 3, 6, 8, 10),
    "vgg16": flax_backbone(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "inception": inception,
    "facenet": facenet,
}
