"""From a run to one ONNX file that says what it is: weights, sizes, styles, licence and scores."""

import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import silverpoint
from silverpoint.data.alignment import FRAMES
from silverpoint.data.batches import one_hot
from silverpoint.data.layout import PARTS
from silverpoint.data.pairs import Example, protocol_of
from silverpoint.errors import RunError, UsageError
from silverpoint.methods import method_class
from silverpoint.methods.method import Method
from silverpoint.training.checkpoint import load_into, read_checkpoint, write_whole
from silverpoint.training.dilation import undilated
from silverpoint.training.trainer import read_frame, read_run
from silverpoint.training.validation import synthesize_examples, validate

FORMAT = 1


def load_run(
    run: Path, checkpoint: str = "last", styles: Sequence[str] = ()
) -> tuple[Method, dict[str, nn.Module]]:
    """The method of a run and, per direction, its synthesizer with the averaged weights, in eval mode.

    `checkpoint` is last, best or, of a method of several stages, stage-<name>; `styles` are the hands to keep and their
    order, all as the run has them by default. A direction that no stage has begun to learn is left out. Raises
    RunError when the folder holds no such checkpoint, UsageError for a hand that the run does not draw.
    """
    settings, _, name = read_run(run)
    tensors, state = read_checkpoint(run / "checkpoints" / f"{checkpoint}.safetensors")
    known = tuple(state["styles"])
    method = method_class(name)(settings, tuple(styles) or known)
    if styles:
        if not method.styled:
            raise UsageError(f"{run}: {name} draws in one hand; leave out --styles")
        if unknown := [style for style in styles if style not in known]:
            raise UsageError(f"{run}: knows no style {unknown[0]!r}; --styles are of {', '.join(known)}")
        tensors = method.adopt(tensors, known)
    learned = set()
    for stage in method.stages()[: state["stage"] + 1]:
        method.start_stage(stage)
        learned |= {id(p) for spec in method.optimizers(stage).values() for p in spec.parameters}
    load_into(method, "method", tensors)
    nets = {}
    for direction in method.trained_directions():
        if not any(id(p) in learned for p in method.synthesizer(direction).parameters()):
            continue
        nets[direction] = deepcopy(method.synthesizer(direction)).eval()
        average = f"average/{direction}.module"
        if any(key.startswith(average) for key in tensors):
            load_into(nets[direction], average, tensors)
    return method, nets


def load_synthesizer(
    run: Path, direction: str | None = None, checkpoint: str = "last", styles: Sequence[str] = ()
) -> tuple[Method, str, nn.Module]:
    """The method, the direction (the run's only or first one by default) and its synthesizer: see `load_run`.

    Raises UsageError for a direction the run does not have, RunError for a run that has not begun to learn any.
    """
    method, nets = load_run(run, checkpoint, styles)
    if not nets:
        raise RunError(f"{run}: has not come to the stage that learns to draw; go on with --resume")
    direction = direction or min(nets)
    if direction not in nets:
        raise UsageError(f"{run}: has no direction {direction}; it has {', '.join(sorted(nets))}")
    return method, direction, nets[direction]


@dataclass(frozen=True)
class Exported:
    """What a model file is beside the network in torch."""

    difference: float  # worst pixel over a random picture, in [-1, 1] units
    seconds: float  # for one picture of the file's, in ONNX Runtime
    torch_seconds: float
    metrics: dict[str, float]  # of the file over the pairs it was judged on
    torch_metrics: dict[str, float]
    dilation: dict[str, float]  # seconds by the form of the dilated convolutions; the faster is written


def export(
    run: Path,
    out: Path,
    *,
    direction: str | None = None,
    checkpoint: str = "last",
    average_with: Sequence[Path] = (),
    styles: Sequence[str] = (),
    bits: int = 16,
    judged_on: Sequence[Example] = (),
    about: dict[str, object] | None = None,
) -> Exported:
    """Write the model file `out`: the weights stored in 32, 16 or 8 `bits` and computed with in 32.

    `average_with` names other runs whose networks are averaged with this one's (model soups, Wortsman et al. 2022):
    runs of one method and the same styles, one of which began with the other or both with a third. `styles` are the
    hands that the file is to draw in, the default one first (default: all that the run knows).
    Dilated convolutions are written in the form that ONNX Runtime is faster at on this machine.
    The metrics over the pairs `judged_on` go into the metadata, as does `about`: licence, trained, name, or another
    dataset than the run's.
    Raises UsageError for a direction or style the run does not have, RunError when the graph does not agree with torch.
    """
    method, direction, net = load_synthesizer(run, direction, checkpoint, styles)
    nets = [net]
    for other in average_with:
        its_method, _, its_net = load_synthesizer(other, direction, checkpoint, styles)
        if (its_method.name, its_method.styles) != (method.name, method.styles):
            raise UsageError(f"{other}: {run} can only be averaged with runs of its method and styles")
        nets.append(its_net)
    net = average_networks(nets)
    names = ("style", *getattr(net, "priors", ()))
    small, picture = (_inputs(net, method, direction, *sizes) for sizes in ((64, 96, 2), (256, 256)))
    model, dilation = _to_onnx(net, small, direction), {}
    if (plain := undilated(net)) is not None:
        forms = {"as they are": model, "over phases": _to_onnx(plain, small, direction)}
        dilation = {form: _seconds(OnnxNet(graph, net, names), picture) for form, graph in forms.items()}
        model = forms[min(dilation, key=lambda form: dilation[form])]
    exact = _difference(model, net, picture, names)
    if not exact < 1e-3:
        raise RunError(f"{out}: not written; the exported graph differs from torch by {exact:.1e}")
    if bits < 32:
        _store(model, bits)
    difference = _difference(model, net, picture, names)
    if bits == 16 and not difference < 2e-2:
        raise RunError(f"{out}: not written; in 16 bits it differs from torch by {difference:.1e}; use 32")
    with_styles = _reads(model, "style")
    drawn = OnnxNet(model, net, names)
    found = [_judge(method, n, judged_on, direction) for n in (drawn, net)] if judged_on else [{}, {}]
    metadata = {
        "format": FORMAT,
        "name": method.name,
        "method": method.name,
        "direction": direction,
        "styles": list(method.styles) if with_styles else [],
        "default_style": method.styles[0] if with_styles else None,
        "size_multiple": net.size_multiple,
        "receptive_margin": getattr(net, "receptive_margin", None),
        "frame": _frame(run),
        "framing": method.settings.framing,
        "fill": method.settings.fill,
        "priors": [name for name in names[1:] if _reads(model, name)],
        "bits": bits,
        "dataset": _dataset(run),
        "silverpoint": silverpoint.__version__,
        **({"metrics": {name: round(value, 4) for name, value in found[0].items()}} if judged_on else {}),
        **(about or {}),
    }
    helper.set_model_props(model, {"silverpoint": json.dumps(metadata)})
    onnx.checker.check_model(model)
    write_whole(out, model.SerializeToString())
    return Exported(
        difference, _seconds(drawn, picture), _seconds(net, picture), found[0], found[1], dilation
    )


def _dataset(run: Path) -> str:
    """What a run was trained on, in words: "cufs CUHK train"."""
    options = read_run(run)[1]
    subset = f" {options.subset}" if options.subset else ""
    return " and ".join(f"{protocol_of(Path(d))}{subset} train" for d in options.datasets)


def _frame(run: Path) -> dict[str, object] | None:
    """The frame of the faces a run was trained on, as a card has it; None where they were not aligned."""
    name = read_frame(run)
    if name is None:
        return None
    frame = FRAMES[name]
    return {"size": [frame.width, frame.height], "eyes": [list(frame.left_eye), list(frame.right_eye)]}


@torch.no_grad()
def average_networks(nets: Sequence[nn.Module]) -> nn.Module:
    """A network whose weights and statistics are the mean of those of `nets`, all of one shape; counters stay."""
    mean = deepcopy(nets[0])
    states = [net.state_dict() for net in nets]
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[name] for state in states]).mean(0))
    return mean


class OnnxNet(nn.Module):
    """The model file behind the interface of the synthesizer it was made from."""

    def __init__(self, model: onnx.ModelProto, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.names, self.inputs = names, [i.name for i in self.session.get_inputs()]
        self.size_multiple, self.priors = net.size_multiple, getattr(net, "priors", ())
        self.receptive_margin = getattr(net, "receptive_margin", None)

    def forward(self, source: Tensor, *others: Tensor) -> Tensor:
        known = dict(zip(self.names, others, strict=True))
        first, *rest = self.inputs
        feeds = {first: source.numpy()} | {name: known[name].numpy() for name in rest}
        return torch.from_numpy(self.session.run(None, feeds)[0])


def _inputs(
    net: nn.Module, method: Method, direction: str, height: int, width: int, batch: int = 1
) -> tuple[Tensor, ...]:
    """A random picture of at least this size with its style and priors, as the network takes them."""
    multiple = int(net.size_multiple)  # type: ignore[arg-type]
    # Two multiples at least where the size is to stay open: a tracer takes a dimension of one for a constant.
    low = 2 if batch > 1 else 1
    sides = [multiple * max(low, -(-side // multiple)) for side in (height, width)]
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(batch, 3 if direction == "photo2sketch" else 1, *sides, generator=generator) * 2 - 1
    numbers = torch.randint(len(PARTS), (batch, *sides), generator=generator)
    made = {
        "saliency": torch.rand(batch, 1, *sides, generator=generator),
        "layout": torch.stack([one_hot(n) for n in numbers]),
    }
    style = torch.eye(len(method.styles))[:1].repeat(batch, 1)
    return picture, style, *(made[name] for name in getattr(net, "priors", ()))


def _to_onnx(net: nn.Module, inputs: tuple[Tensor, ...], direction: str) -> onnx.ModelProto:
    """Batch norm folded into the convolutions before it, by the exporter; dynamic batch and size."""
    source, result = ("photo", "sketch") if direction == "photo2sketch" else ("sketch", "photo")
    multiple = int(net.size_multiple)  # type: ignore[arg-type]
    batch = torch.export.Dim("batch", min=1, max=4096)
    height = multiple * torch.export.Dim("rows", min=2, max=4096)
    width = multiple * torch.export.Dim("columns", min=2, max=4096)
    image = {0: batch, 2: height, 3: width}
    with _quiet():
        program = torch.onnx.export(
            net,
            inputs,
            dynamo=True,
            input_names=[source, "style", *getattr(net, "priors", ())],
            output_names=[result],
            dynamic_shapes=(image, {0: batch}, *(image for _ in inputs[2:])),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)  # for older runtimes
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # the exporter's stack traces carry this machine's paths
    model.graph.ClearField("value_info")
    for unused in [i for i in model.graph.input if not _reads(model, i.name)]:
        model.graph.input.remove(unused)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are for those who work on it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reads(model: onnx.ModelProto, name: str) -> bool:
    return any(name in node.input for node in model.graph.node)


def _store(model: onnx.ModelProto, bits: int) -> None:
    """Store the large weights in 16 or 8 bits; the graph widens them, which runtimes do once, when loading.

    In 16 bits as half precision. In 8 as integers with a scale for each output channel: the convolutions still
    compute in 32, so the file is a quarter and the drawing nearly the same, at the same speed.
    """
    widened = []
    transposed = {node.input[1] for node in model.graph.node if node.op_type == "ConvTranspose"}
    for weight in list(model.graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < 64:
            continue
        name, values = weight.name, numpy_helper.to_array(weight)
        if bits == 16:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
            widened.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        elif values.ndim > 1 and values.size >= 1024:
            channel = 1 if name in transposed else 0
            others = tuple(axis for axis in range(values.ndim) if axis != channel)
            scale = np.maximum(np.abs(values).max(others, keepdims=True), 1e-12).astype(np.float32) / 127
            weight.CopyFrom(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), name + "_int8"))
            model.graph.initializer.append(numpy_helper.from_array(scale, name + "_scale"))
            widened += [
                helper.make_node("Cast", [name + "_int8"], [name + "_wide"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [name + "_wide", name + "_scale"], [name]),
            ]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(widened + nodes)


@torch.inference_mode()
def _difference(
    model: onnx.ModelProto, net: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str]
) -> float:
    return float((OnnxNet(model, net, names)(*inputs) - net(*inputs)).abs().max())


@torch.inference_mode()
def _seconds(net: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The best of three, after one that is not counted."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        net(*inputs)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _judge(method: Method, net: nn.Module, examples: Sequence[Example], direction: str) -> dict[str, float]:
    cpu = torch.device("cpu")
    sums, _ = validate(examples, synthesize_examples(method, net, examples, direction, cpu), direction, cpu)
    return {name: value / len(examples) for name, value in sums.items()}
