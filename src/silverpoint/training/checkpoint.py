"""One file per checkpoint: safetensors with everything a run needs to go on. Nothing is ever unpickled."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from silverpoint import files
from silverpoint.errors import RunError


def write_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, object], keep: int = 1) -> None:
    """Write `tensors` and the plain `state` to `path`, whole or not at all.

    `keep` - 1 earlier ones stay beside it as <name>-1 (the one before), <name>-2, ... At every moment `path` is
    either the old checkpoint or the new one.
    """
    ours, stored = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in stored:  # one tensor under two names is written twice
            tensor = tensor.clone()
        stored.add(tensor.data_ptr())
        ours[name] = tensor
    with whole_file(path, "go on from the one before with --resume") as temporary:
        save_file(ours, temporary, {"silverpoint": json.dumps(state)})
        if keep > 1 and path.exists():
            for age in range(keep - 1, 1, -1):
                if (younger := earlier(path, age - 1)).exists():
                    os.replace(younger, earlier(path, age))
            _link(path, earlier(path, 1))
    for age in range(keep, keep + 100):
        if not (surplus := earlier(path, age)).exists():
            break
        surplus.unlink()


def earlier(path: Path, age: int) -> Path:
    """checkpoints/last.safetensors -> checkpoints/last-1.safetensors, the one before."""
    return path.with_name(f"{path.stem}-{age}{path.suffix}")


def _link(path: Path, to: Path) -> None:
    """`to` becomes a second name of `path`'s bytes, or a copy where the file system has no such thing."""
    if to.exists() and to.samefile(path):  # killed before `path` was renamed to
        return
    with files.whole_file(to) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


@contextmanager
def whole_file(path: Path, then: str = "try again") -> Iterator[Path]:
    """A temporary name beside `path` to write to; on leaving, `path` is renamed to it: never half a file. It may be
    read by whoever may read other new files: safetensors would keep it to its owner. Raises RunError when the disk
    is full or the folder cannot be written to.
    """
    try:
        with files.whole_file(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be written ({error}); make room, then {then}") from error


def write_whole(path: Path, data: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def remove_leftovers(folder: Path) -> None:
    """What a killed process had begun to write: under our own names, and under those that safetensors makes up."""
    for pattern in (".*.partial", ".tmp*"):
        for leftover in folder.glob(pattern):
            leftover.unlink()


def read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint, without its tensors."""
    return _read(path, with_tensors=False)[1]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and state of a checkpoint; RunError when it is missing or damaged."""
    return _read(path, with_tensors=True)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["silverpoint"])
            names = file.keys() if with_tensors else ()
            return {name: file.get_tensor(name) for name in names}, state
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        before = earlier(path, 1)
        hint = f"; {before} is the one before: rename it to {path.name}" if before.is_file() else ""
        raise RunError(f"{path}: not a readable checkpoint ({error}){hint}") from error


def load_into(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Load the tensors named <prefix>.<key> into a module; RunError when they do not fit."""
    state = {k[len(prefix) + 1 :]: t for k, t in tensors.items() if k.startswith(prefix + ".")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(
            f"the checkpoint does not fit the method's networks: {' '.join(str(error).split())}"
        ) from error


def optimizer_tensors(prefix: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: <prefix>.<parameter number>.<name>."""
    return {
        f"{prefix}.{number}.{name}": torch.as_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimizer(prefix: str, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`. Moments get the memory layout of their parameter: a fused Adam walks both."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix + "."):
            number, name = key[len(prefix) + 1 :].split(".")
            if tensor.shape == parameters[int(number)].shape and tensor.dim():
                tensor = torch.empty_like(parameters[int(number)]).copy_(tensor)
            state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
