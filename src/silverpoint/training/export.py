"""From a run to one ONNX file that says what it is: weights, sizes, styles, licence and scores."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.fx.experimental.optimization import fuse

import silverpoint
from silverpoint.data.layout import PARTS
from silverpoint.errors import RunError, UsageError
from silverpoint.methods import method_class
from silverpoint.methods.method import Method
from silverpoint.training.checkpoint import load_into, read_checkpoint, write_whole
from silverpoint.training.trainer import read_run

FORMAT = 1
PRIOR_CHANNELS = {"saliency": 1, "layout": len(PARTS)}
FRAME = {"size": [200, 250], "eyes": [[75, 125], [125, 125]]}


def load_run(run: Path, checkpoint: str = "last") -> tuple[Method, dict[str, nn.Module]]:
    """The method of a run and, per direction, its synthesizer with the averaged weights, in eval mode.

    `checkpoint` is last, best or, of a method of several stages, stage-<name>. Raises RunError when the folder holds
    no such checkpoint.
    """
    settings, _, name = read_run(run)
    tensors, state = read_checkpoint(run / "checkpoints" / f"{checkpoint}.safetensors")
    method = method_class(name)(settings, tuple(state["styles"]))
    for stage in method.stages()[: state["stage"] + 1]:
        method.start_stage(stage)
    load_into(method, "method", tensors)
    nets = {}
    for direction in method.trained_directions():
        nets[direction] = deepcopy(method.synthesizer(direction)).eval()
        average = f"average/{direction}.module"
        if any(key.startswith(average) for key in tensors):
            load_into(nets[direction], average, tensors)
    return method, nets


def load_synthesizer(
    run: Path, direction: str | None = None, checkpoint: str = "last"
) -> tuple[Method, str, nn.Module]:
    """The method, the direction (the run's only or first one by default) and its synthesizer: see `load_run`.

    Raises UsageError for a direction the run does not have.
    """
    method, nets = load_run(run, checkpoint)
    direction = direction or min(nets)
    if direction not in nets:
        raise UsageError(f"{run}: has no direction {direction}; it has {', '.join(sorted(nets))}")
    return method, direction, nets[direction]


def export(
    run: Path,
    out: Path,
    *,
    direction: str | None = None,
    checkpoint: str = "last",
    half: bool = True,
    about: dict[str, object] | None = None,
) -> float:
    """Write the model file `out`; returns the worst difference to torch over a random picture, in [-1, 1] units.

    `half` stores the weights in 16 bits (they are computed with in 32). `about` adds to the metadata: dataset,
    licence, metrics, trained, name. Raises UsageError for a direction the run does not have, RunError when the
    file does not agree with torch.
    """
    method, direction, net = load_synthesizer(run, direction, checkpoint)
    prior_names: tuple[str, ...] = getattr(net, "priors", ())
    photo = torch.rand(1, 3 if direction == "photo2sketch" else 1, 256, 256) * 2 - 1
    style = torch.eye(len(method.styles))[:1]
    priors = [torch.rand(1, PRIOR_CHANNELS[name], *photo.shape[2:]) for name in prior_names]
    model = _to_onnx(net, photo, style, priors, direction)
    if half:
        _halve_weights(model)
    metadata = {
        "format": FORMAT,
        "name": method.name,
        "method": method.name,
        "direction": direction,
        "styles": list(method.styles) if _uses(model, "style") else [],
        "default_style": method.styles[0] if _uses(model, "style") else None,
        "size_multiple": net.size_multiple,
        **({"receptive_margin": net.receptive_margin} if hasattr(net, "receptive_margin") else {}),
        "frame": FRAME,
        "framing": method.settings.framing,
        "fill": method.settings.fill,
        "priors": [name for name in prior_names if _uses(model, name)],
        "silverpoint": silverpoint.__version__,
        **(about or {}),
    }
    helper.set_model_props(model, {"silverpoint": json.dumps(metadata)})
    onnx.checker.check_model(model)
    difference = _compare(model, net, (photo, style, *priors), ("style", *prior_names))
    if difference > (2e-2 if half else 1e-3):
        raise RunError(f"{out}: not written; the exported graph differs from torch by {difference:.1e}")
    write_whole(out, model.SerializeToString())
    return difference


def _to_onnx(
    net: nn.Module, photo: Tensor, style: Tensor, priors: list[Tensor], direction: str
) -> onnx.ModelProto:
    """Batch norm folded into the convolutions before it; dynamic batch, height and width."""
    source, result = ("photo", "sketch") if direction == "photo2sketch" else ("sketch", "photo")
    folded = fuse(symbolic_trace(net))
    multiple = int(net.size_multiple)  # type: ignore[arg-type]
    batch = torch.export.Dim("batch", min=1, max=4096)
    height = multiple * torch.export.Dim("rows", min=2, max=4096)
    width = multiple * torch.export.Dim("columns", min=2, max=4096)
    image = {0: batch, 2: height, 3: width}
    program = torch.onnx.export(
        folded,
        (photo.repeat(2, 1, 2, 3), style.repeat(2, 1), *(p.repeat(2, 1, 2, 3) for p in priors)),
        dynamo=True,
        input_names=[source, "style", *getattr(net, "priors", ())],
        output_names=[result],
        dynamic_shapes=(image, {0: batch}, *(image for _ in priors)),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # the exporter's stack traces carry this machine's paths
    model.graph.ClearField("value_info")
    for unused in [i for i in model.graph.input if not _uses(model, i.name)]:
        model.graph.input.remove(unused)
    return model


def _uses(model: onnx.ModelProto, name: str) -> bool:
    return any(name in node.input for node in model.graph.node)


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store float initializers in half precision, cast back by the graph; runtimes fold the casts when loading."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < 64:
            continue
        name = weight.name
        halved = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), name + "_half")
        weight.CopyFrom(halved)
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)


def _compare(
    model: onnx.ModelProto, net: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...]
) -> float:
    """`names` are those of all inputs but the first."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    first, *rest = (i.name for i in session.get_inputs())
    tensors = dict(zip(names, inputs[1:], strict=True))
    feeds = {first: inputs[0].numpy()} | {name: tensors[name].numpy() for name in rest}
    with torch.inference_mode():
        expected = net(*inputs).numpy()
    return float(np.abs(session.run(None, feeds)[0] - expected).max())
