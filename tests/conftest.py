"""What several tests need: a portrait, and model files small enough to be made on the spot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# The same examples in every run; `--hypothesis-profile default` searches anew.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# A worker per core already; and a sum is then the same on any number of cores. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
STYLES = ["cufs", "fs2k1"]


@pytest.fixture(scope="session", autouse=True)
def _runs_compute_alike_on_every_machine() -> Iterator[None]:
    """`--precision auto` is 32 bits in tests, also where the processor has bf16."""
    with pytest.MonkeyPatch.context() as patch:
        if "silverpoint.training.processes" in sys.modules:
            patch.setattr("silverpoint.training.processes.processor_has_bf16", lambda: False)
        yield


@pytest.fixture(scope="session")
def portrait() -> Path:
    """A real face, 675 x 675, freely licensed (examples/README.md)."""
    return ROOT / "examples" / "portrait.jpg"


def card(**changes: Any) -> dict[str, Any]:
    """The card of a model, as `export` writes it."""
    return {
        "format": 1,
        "name": "tiny",
        "method": "grey",
        "direction": "photo2sketch",
        "styles": STYLES,
        "default_style": "cufs",
        "size_multiple": 16,
        "receptive_margin": 16,
        "frame": {"size": [200, 250], "eyes": [[75, 125], [125, 125]]},
        "priors": [],
        "dataset": "none",
        "licence": "MIT",
        "metrics": {"fsim": 0.5},
        "trained": "2024-01-01",
        "silverpoint": "0.1.0",
        **changes,
    }


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Write a model of random 3x3 convolutions (`depth` of them, the first with stride 2) and their reverse.

    Style 0 leaves the drawing as it is, style 1 is darker by a quarter. `text` replaces the card's JSON.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def write(path: Path, depth: int = 0, channels: int = 1, text: str | None = None, **changes: Any) -> Path:
        described = card(**changes)
        rng = np.random.default_rng(0)
        weights = {"style_shift": np.array([[0.0], [-0.25]], np.float32)[: len(described["styles"])]}
        weights["grey"] = np.full((channels, 3, 1, 1), 1 / 3, np.float32)
        nodes = [helper.make_node("Conv", ["photo", "grey"], ["x"])]
        if depth:
            weights["down"] = rng.normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32)
            nodes = [helper.make_node("Conv", ["photo", "down"], ["y0"], strides=[2, 2], pads=[1] * 4)]
            for n in range(depth - 1):
                weights[f"w{n}"] = rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32)
                nodes += [
                    helper.make_node("Conv", [f"y{n}", f"w{n}"], [f"z{n}"], pads=[1] * 4),
                    helper.make_node("Relu", [f"z{n}"], [f"y{n + 1}"]),
                ]
            nodes.append(helper.make_node("DepthToSpace", [f"y{depth - 1}"], ["x"], blocksize=2))
        if described["styles"]:
            weights["shape"] = np.array([-1, 1, 1, 1])
            nodes += [
                helper.make_node("MatMul", ["style", "style_shift"], ["shift"]),
                helper.make_node("Reshape", ["shift", "shape"], ["shifts"]),
                helper.make_node("Add", ["x", "shifts"], ["sketch"]),
            ]
        else:
            nodes.append(helper.make_node("Identity", ["x"], ["sketch"]))
        inputs = [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["B", 3, "H", "W"])]
        if described["styles"]:
            shape = ["B", len(described["styles"])]
            inputs.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, shape))
        output = helper.make_tensor_value_info("sketch", TensorProto.FLOAT, ["B", channels, "H", "W"])
        initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "tiny", inputs, [output], initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        text = json.dumps(described) if text is None else text
        if text:
            helper.set_model_props(model, {"silverpoint": text})
        onnx.save(model, str(path))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    """A model that draws the grey of the photo, in two styles."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
