"""Arrays out of pickled weights, without running anything: torch files, TorchScript, pickled numpy arrays.

A pickle may name any callable and have it called. This unpickler knows a dozen names, maps each to an inert
stand-in of its own and refuses all others, so the worst a hostile file can do is fail to load. One reader
serves every format, needs no torch, and does not lean on `torch.load(weights_only=True)`, which could be made
to run code up to torch 2.5 (CVE-2025-32434).
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from silverpoint.errors import AssetError

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# the first object of torch's older format: the integer 0x1950a86a20f9469cfc6c, pickled with protocol 2
_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Every array in a pickled file, by its dotted path (`features.0.weight`); anything else is dropped.

    Raises AssetError when the file asks for a callable that weights do not need, or cannot be read.
    """
    try:
        if data.startswith(b"PK"):
            tree, storages = _read_torch_zip(data)
        elif data.startswith(_LEGACY_MAGIC):
            tree, storages = _read_torch_legacy(data)
        else:
            tree, storages = _Unpickler(io.BytesIO(data)).load(), {}
        return dict(_flatten(tree, storages, ""))
    except AssetError:
        raise
    except (
        Exception
    ) as error:  # a malformed pickle can raise nearly anything; none of it is more than "damaged"
        raise AssetError(f"the weights cannot be read: {type(error).__name__}: {error}") from error


class _Storage(NamedTuple):
    """A flat run of numbers somewhere in the file; `key` says where."""

    dtype: str
    key: str


class _Tensor(NamedTuple):
    """A view of a storage: what torch pickles in place of the numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, storages: dict[str, bytes]) -> np.ndarray:
        flat = np.frombuffer(storages[self.storage.key], self.storage.dtype)
        contiguous = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        if self.stride != contiguous:
            raise AssetError(f"a tensor of shape {self.shape} is stored with strides {self.stride}")
        view = flat[self.offset : self.offset + math.prod(self.shape)]
        return view.reshape(self.shape)  # raises if the storage is too short


class _Module:
    """A TorchScript module: its attributes, none of its code."""

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


class _Dtype:
    """numpy.dtype as pickled: a type code, then a state that holds the byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = f"{state[1]}{self.code}"


class _Array:
    """numpy.ndarray as pickled: an empty one, then (version, shape, dtype, fortran order, bytes)."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        if dtype.code.lstrip("<|=") not in {"f2", "f4", "f8", "i4", "i8", "u1"}:
            raise AssetError(f"an array of type {dtype.code!r} is not a weight")
        return np.frombuffer(data, dtype.code).reshape(shape, order="F" if fortran else "C")


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: object) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


_STAND_INS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.jit._pickle", "build_intlist"): list,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__."):
            return _Module
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise AssetError(
                f"the file asks for {module}.{name}, which weights do not need: refused"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key = pid[:3]
        return _Storage(dtype, str(key))


def _read_torch_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """torch >= 1.6 and TorchScript: `<top>/data.pkl` beside one `<top>/data/<key>` per storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        tree = _Unpickler(io.BytesIO(archive.read(index))).load()
        folder = index.removesuffix(".pkl") + "/"
        names = [name for name in archive.namelist() if name.startswith(folder)]
        return tree, {name.removeprefix(folder): archive.read(name) for name in names}


def _read_torch_legacy(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """torch < 1.6: magic, version, system info, object, storage keys; then each storage after its length."""
    stream = io.BytesIO(data)
    _, _, _, tree, keys = (_Unpickler(stream).load() for _ in range(5))
    itemsize = {t.storage.key: np.dtype(t.storage.dtype).itemsize for t in _tensors(tree)}
    storages = {}
    for key in keys:
        length = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(length * itemsize[key])
    return tree, storages


def _children(tree: Any) -> Iterator[tuple[str, Any]]:
    attributes = tree.attributes if isinstance(tree, _Module) else tree
    if isinstance(attributes, dict):
        yield from attributes.items()


def _tensors(tree: Any) -> Iterator[_Tensor]:
    if isinstance(tree, _Tensor):
        yield tree
    for _, child in _children(tree):
        yield from _tensors(child)


def _flatten(tree: Any, storages: dict[str, bytes], path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, _Tensor):
        yield path, tree.array(storages)
    elif isinstance(tree, _Array):
        yield path, tree.array()
    for name, child in _children(tree):
        yield from _flatten(child, storages, f"{path}.{name}" if path else str(name))
