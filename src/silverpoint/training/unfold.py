"""A model file's network back in torch: a run can begin with what ships, or with what somebody else exported."""

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from silverpoint.data.batches import Batch
from silverpoint.errors import RunError, UsageError
from silverpoint.methods.method import Method
from silverpoint.synthesis.model import Model
from silverpoint.training.export import OnnxNet

HALVED = "_half"  # what the name of a weight ends in that is stored in 16 bits
FOLDED = ".weight_bias"  # of a convolution that has taken in the batch norm behind it


@torch.no_grad()
def unfold(model: Model, method: Method, batch: Batch) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A checkpoint's tensors of a run that draws as the file does, and its styles. What a file does not hold, such as a
    discriminator, is as it is made.

    The file's batch norm is folded into its convolutions: it gets the statistics of `batch`, and scales that undo
    them. Raises UsageError for a file of another method, RunError where its network cannot be had back.
    """
    card = model.card
    if card.method != method.name:
        raise UsageError(f"--start-from {model.path}: a model of {card.method}, not of {method.name}")
    styles = card.styles or method.styles
    theirs = type(method)(method.settings, styles)
    net = theirs.synthesizer(card.direction).eval()
    if card.priors or getattr(net, "priors", ()):
        raise UsageError(f"--start-from {model.path}: needs priors; begin with the run it was exported from")
    graph = onnx.load(model.path)
    try:
        net.load_state_dict(_unfolded(net, graph))
    except (KeyError, RuntimeError) as error:
        raise RunError(
            f"{model.path}: does not hold the network of {method.name} in 16 or 32 bits ({error})"
        ) from error
    source = batch.photo if card.direction == "photo2sketch" else batch.sketch
    inputs = source, torch.eye(len(styles))[torch.arange(len(source)) % len(styles)]
    drawn = net(*inputs)
    if not (drawn - OnnxNet(graph, net, ("style",))(*inputs)).abs().max() < 1e-3:
        raise RunError(f"{model.path}: its network does not draw in torch as in the file")
    _take_statistics(net, inputs)
    average = {f"average/{card.direction}.module.{k}": t for k, t in net.state_dict().items()}
    return average | {f"method.{k}": t for k, t in theirs.state_dict().items()}, styles


def _unfolded(net: nn.Module, model: onnx.ModelProto) -> dict[str, Tensor]:
    """The file's weights by their names in `net`, whose batch norm adds what was folded and does nothing else."""
    stored = {
        i.name.removesuffix(HALVED): torch.from_numpy(numpy_helper.to_array(i).copy()).float()
        for i in model.graph.initializer
        if i.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    found, convolution = {}, ""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            convolution = name
        if isinstance(module, nn.BatchNorm2d):
            found[f"{name}.bias"] = stored[convolution + FOLDED]
            found[f"{name}.weight"] = torch.ones_like(module.weight)
            found[f"{name}.running_mean"] = torch.zeros_like(module.bias)
            found[f"{name}.running_var"] = torch.ones_like(module.bias) - module.eps
            found[f"{name}.num_batches_tracked"] = torch.tensor(0)
        else:
            found |= {key: stored[key] for key, _ in module.named_parameters(name, recurse=False)}
    return found


def _take_statistics(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Give every batch norm the mean and variance of what it sees, and the weight and bias with which that changes
    nothing: training, which divides by a batch's own, then goes on from the same drawing.
    """

    def take(norm: nn.Module, seen: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(seen[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)

    hooks = [m.register_forward_pre_hook(take) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net(*inputs)
    for hook in hooks:
        hook.remove()
