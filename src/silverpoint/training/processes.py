"""The processes of a run: one, several on a machine, or several machines; and what they must agree on."""

import os
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from silverpoint.errors import UsageError
from silverpoint.training.options import RunOptions


def make_fabric(options: RunOptions) -> Fabric:
    """Lightning Fabric for these options, or for the processes torchrun has started. Raises UsageError."""
    devices: str | int = options.devices
    nodes = options.nodes
    if (
        dist.is_available() and dist.is_torchelastic_launched()
    ):  # torchrun says how many, and on which machines
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    try:
        return Fabric(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=resolve_precision(options),  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"--accelerator {options.accelerator} --devices {options.devices} is not to be had here: "
            f"{' '.join(str(error).split())}"
        ) from error


def resolve_precision(options: RunOptions) -> str:
    """What `auto` means on this machine."""
    if options.precision != "auto":
        return options.precision
    if options.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        on_cpu = options.accelerator == "cpu" or not torch.backends.mps.is_available()
        fast = on_cpu and processor_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def processor_has_bf16() -> bool:
    """Whether the CPU multiplies in bf16 (AVX-512 BF16 or AMX); elsewhere autocast only costs time."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # absent before torch 2.5
    return any(getattr(torch.cpu, name, bool)() for name in asked)


class Agreement:
    """Means and decisions over all processes. With one process, everything is as it is."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, self.count = fabric, fabric.world_size
        # Decisions travel between processors, so that no graphics card has to be waited for.
        self.group = dist.new_group(backend="gloo") if self.count > 1 else None

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes, without a gradient."""
        if self.count == 1:
            return tensor
        reduced = self.fabric.all_reduce(tensor.detach().clone(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def any(self, wishes: Sequence[bool]) -> list[bool]:
        """For each wish, whether any process has it: every process then does the same in the same step."""
        if self.count == 1:
            return list(wishes)
        votes = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.group)
        return [bool(v) for v in votes]

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sums over the processes, of the same names in each."""
        if self.count == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64)
        dist.all_reduce(total, group=self.group)
        return dict(zip(names, total.tolist(), strict=True))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, alike in shape, in the order of their ranks; of several, on the CPU."""
        if self.count == 1:
            return [tensor]
        mine = tensor.cpu().contiguous()
        found = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(found, mine, group=self.group)
        return found

    def average_gradients(self, parameters: Sequence[nn.Parameter], losses: Tensor) -> Tensor:
        """Every process gets the mean gradient; returns the mean of `losses`, which travel in the same message.

        One message per update: several forwards and optimizers a step are what DDP's hooks handle badly.
        """
        if self.count == 1:
            return losses
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.mean(torch.cat([losses, *(g.flatten() for g in gradients)]))
        pieces = flat.split([len(losses), *(p.numel() for p in parameters)])
        for parameter, piece in zip(parameters, pieces[1:], strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            # copied, to keep the parameter's memory layout: a fused Adam walks both
            parameter.grad.copy_(piece.view_as(parameter))
        return pieces[0]

    @torch.no_grad()
    def average_statistics(self, module: nn.Module) -> None:
        """Every process gets the mean of the running statistics of batch normalisation."""
        if self.count == 1:
            return
        statistics = [
            t
            for m in module.modules()
            if isinstance(m, _NormBase)
            for t in (m.running_mean, m.running_var)
            if t is not None
        ]
        if not statistics:
            return
        flat = self.mean(torch.cat([t.flatten() for t in statistics]))
        for tensor, piece in zip(statistics, flat.split([t.numel() for t in statistics]), strict=True):
            tensor.copy_(piece.view_as(tensor))
