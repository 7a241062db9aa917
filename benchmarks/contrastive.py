"""What CUT and FSS cost, and how well the sampling module knows a face.

    python benchmarks/contrastive.py --loss                         the patchwise loss against CUT's way of writing it
    python benchmarks/contrastive.py --step [cut] [fss]             a training step, by parts and precisions
    python benchmarks/contrastive.py --structure RUN DATASET OUT    IoU on the test pairs, and the maps as pictures

Times are seconds of processor time on one thread, which a busy machine disturbs less than the clock; on a graphics card
they are seconds by the clock.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.data.batches import Batch, still
from silverpoint.data.layout import PARTS
from silverpoint.data.pairs import read_split
from silverpoint.image import write_image
from silverpoint.losses.contrastive import patch_nce
from silverpoint.methods.cut import CUT
from silverpoint.methods.cut import Settings as CUTSettings
from silverpoint.methods.fss import FSS, REGIONS
from silverpoint.methods.fss import Settings as FSSSettings
from silverpoint.training.export import load_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The fastest of `rounds` calls after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter() if DEVICE.type == "cuda" else time.process_time()
        call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() if DEVICE.type == "cuda" else time.process_time()) - start)
    return min(times[1:])


def bytes_kept(call: Callable[[], Tensor]) -> int:
    """What the forward pass keeps for the backward pass, each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        call()
    return sum(kept.values())


def as_cut_writes_it(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """The positive logit beside an N x N matrix with its diagonal put out, through cross-entropy."""
    positive = (queries * keys).sum(2).flatten()[:, None]
    negatives = torch.bmm(queries, keys.mT)
    negatives = negatives.masked_fill(torch.eye(queries.shape[1], dtype=torch.bool, device=DEVICE), -10.0)
    logits = torch.cat([positive, negatives.flatten(0, 1)], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=DEVICE))


def bench_loss() -> None:
    """A sample in four is doubled: CUT's way needs it twice in the matrix, ours once with a weight."""
    queries, keys = (F.normalize(torch.randn(1, 384, 256, device=DEVICE), dim=2) for _ in range(2))
    counts = torch.ones(1, 384, device=DEVICE)
    counts[:, ::4] = 2
    entered = counts[0].long()
    queries.requires_grad_()
    cells = torch.arange(384, device=DEVICE)[None]
    ways = {
        "CUT's way, doubled samples repeated": lambda: as_cut_writes_it(
            queries.repeat_interleave(entered, 1), keys.repeat_interleave(entered, 1), 0.07
        ),
        "patch_nce": lambda: patch_nce(queries, keys, cells, counts, 0.07),
    }
    for name, way in ways.items():
        took = seconds(lambda way=way: way().backward(), 20)
        print(f"{name:40s}{1e3 * took:8.2f} ms{bytes_kept(way) / 2**20:8.2f} MiB kept")


def a_batch() -> Batch:
    torch.manual_seed(0)
    numbers = torch.zeros(1, 256, 256, dtype=torch.long)
    numbers[:, 40:90, 60:200] = list(PARTS).index("hair")
    numbers[:, 90:220, 80:180] = list(PARTS).index("skin")
    layout = F.one_hot(numbers, len(PARTS)).permute(0, 3, 1, 2).float()
    photo, sketch = torch.rand(1, 3, 256, 256) * 2 - 1, torch.rand(1, 1, 256, 256) * 2 - 1
    return Batch(photo, sketch, torch.ones(1, 1), ["drawn"], {"layout": layout}).to(DEVICE)


def bench_step(names: list[str]) -> None:
    """Batch 1 at 256x256, the papers' networks; `apart`: with the source encoded once more, as CUT's code does."""
    batch = a_batch()
    for name in names:
        method: CUT | FSS = CUT(CUTSettings(), ("x",)) if name == "cut" else FSS(FSSSettings(), ("x",))
        method.to(device=DEVICE, memory_format=method.memory_format)
        stage = method.stages()[-1]
        method.start_stage(stage)
        specs = method.optimizers(stage)
        optimizers = {n: torch.optim.Adam(s.parameters, s.lr, s.betas, fused=True) for n, s in specs.items()}
        source = (
            torch.cat([batch.photo] * 2) if isinstance(method, CUT) else method._encoded(batch.photo, batch)
        )
        for precision in (torch.float32, torch.bfloat16):
            with torch.autocast(DEVICE.type, precision, enabled=precision != torch.float32):
                whole = seconds(partial(take_step, method, optimizers, batch), 2)
                again = seconds(partial(encode, method, source), 2)
            print(
                f"{name:5s}{str(precision)[6:]:10s}{whole:8.2f} s a step; apart {whole + again:.2f} s, "
                f"{1 + again / whole:.2f}x",
                flush=True,
            )


def take_step(method: CUT | FSS, optimizers: Mapping[str, torch.optim.Optimizer], batch: Batch) -> None:
    for name, losses in method.training_step(batch):
        optimizer = optimizers[name]
        optimizer.zero_grad()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.stack([loss.float() for loss in losses.values()]).sum().backward(inputs=parameters)
        optimizer.step()


@torch.no_grad()
def encode(method: CUT | FSS, source: Tensor) -> None:
    method.generator.net.encode(source, method.layers)


def measure_structure(run: Path, dataset: Path, out: Path) -> None:
    """IoU of the sampling module's maps with the parser's, per subset of the test split; six of the maps as a sheet."""
    torch.set_num_threads(1)
    method, _ = load_run(run)
    if not isinstance(method, FSS) or method.rcs is None:
        raise SystemExit(
            f"{run}: has no sampling module; --structure wants a run of fss with structure = rcs"
        )
    method.start_stage(method.stages()[0])
    examples = read_split(dataset, "test")
    found: dict[str, list[list[float]]] = {}
    columns = []
    chosen = np.linspace(0, len(examples) - 1, 6).astype(int)
    for number, example in enumerate(examples):
        batch, _ = still(
            example, method.styles, priors=method.priors, framing=method.settings.framing, multiple=32
        )
        figures, heat = method.inspect(batch)
        values = [figures[f"iou_{name}"] for name in REGIONS]
        for subset in (example.subset, "all"):
            found.setdefault(subset, []).append(values)
        if number in chosen:
            columns.append(torch.cat([batch.photo, *heat], 2)[0])
    for subset, values in found.items():
        means, worst = np.mean(values, 0), np.min(values, 0)
        shown = "".join(
            f"   {name} {mean:.3f} (worst {low:.3f})"
            for name, mean, low in zip(REGIONS, means, worst, strict=True)
        )
        print(f"{subset:8s}{len(values):4d} pairs{shown}")
    sheet = ((torch.cat(columns, 2).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    write_image(sheet, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--step", nargs="*", choices=("cut", "fss"))
    parser.add_argument("--structure", nargs=3, type=Path, metavar=("RUN", "DATASET", "OUT"))
    args = parser.parse_args()
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    if args.loss:
        bench_loss()
    if args.step is not None:
        bench_step(args.step or ["cut", "fss"])
    if args.structure:
        measure_structure(*args.structure)


if __name__ == "__main__":
    main()
