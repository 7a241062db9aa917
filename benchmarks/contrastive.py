"""What CUT and FSS cost, and how well the sampling module knows a face.

    python benchmarks/contrastive.py --loss                         the patchwise loss against CUT's way of writing it
    python benchmarks/contrastive.py --step [cut] [fss]             a training step, by parts and precisions
    python benchmarks/contrastive.py --structure RUN DATASET OUT [--split val]

The last prints the IoU of the maps with the parser's regions, of the test pairs if not told otherwise, and draws the
maps and samples of six.

Times are processor time on one thread, which a busy machine disturbs less than the clock; on a graphics card they are
by the clock, and there a step that makes the host wait is an error.
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
from silverpoint.data.pairs import read_split, spread
from silverpoint.image import write_image
from silverpoint.losses.contrastive import patch_nce
from silverpoint.methods.cut import CUT
from silverpoint.methods.cut import Settings as CUTSettings
from silverpoint.methods.fss import FSS, REGIONS
from silverpoint.methods.fss import Settings as FSSSettings
from silverpoint.training.export import load_run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDS = 20 if DEVICE.type == "cuda" else 2  # of whole steps


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
                step = partial(take_step, method, optimizers, batch)
                whole, again = seconds(step, ROUNDS), seconds(partial(encode, method, source), ROUNDS)
                if DEVICE.type == "cuda":
                    without_waiting(step)
            print(
                f"{name:5s}{str(precision)[6:]:10s}{1e3 * whole:9.1f} ms a step; apart "
                f"{1e3 * (whole + again):.1f} ms, {1 + again / whole:.2f}x",
                flush=True,
            )


def without_waiting(call: Callable[[], object]) -> None:
    """Raises RuntimeError where the host waits for the card."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


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


def measure_structure(run: Path, dataset: Path, out: Path, split: str) -> None:
    """IoU of the sampling module's maps with the parser's, per subset of a split; as a sheet, of six of its pairs,
    the photo, the maps of hair and face, and a draw of samples."""
    method, _ = load_run(run)
    if not isinstance(method, FSS) or method.rcs is None:
        raise SystemExit(
            f"{run}: has no sampling module; --structure wants a run of fss with structure = rcs"
        )
    torch.manual_seed(0)
    examples = read_split(dataset, split)
    shown = {example.id for example in spread(examples, 6)}
    found: dict[str, dict[str, list[float]]] = {}
    columns = []
    for example in examples:
        # a sampling module knows no styles: the dataset may be another than the run's
        batch, _ = still(
            example, [example.style], priors=method.priors, framing=method.settings.framing, multiple=32
        )
        method.start_stage(method.stages()[0])
        figures, heat = method.inspect(batch)
        for subset in (example.subset, "all"):
            found.setdefault(subset, {})[example.id] = [figures[f"iou_{name}"] for name in REGIONS]
        if example.id in shown:
            method.start_stage(method.stages()[-1])
            _, marks = method.inspect(batch)
            columns.append(torch.cat([batch.photo, *heat, *marks], 2)[0])
    for subset, pairs in found.items():
        print(f"{subset:8s}{len(pairs):4d} pairs", end="")
        for region, values in zip(REGIONS, zip(*pairs.values(), strict=True), strict=True):
            worst, pair = min(zip(values, pairs, strict=True))
            print(f"   {region} {np.mean(values):.3f} (worst {worst:.3f}, {pair})", end="")
        print()
    sheet = ((torch.cat(columns, 2).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    write_image(sheet, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--step", nargs="*", choices=("cut", "fss"))
    parser.add_argument("--structure", nargs=3, type=Path, metavar=("RUN", "DATASET", "OUT"))
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    if args.loss:
        bench_loss()
    if args.step is not None:
        bench_step(args.step or ["cut", "fss"])
    if args.structure:
        measure_structure(*args.structure, args.split)


if __name__ == "__main__":
    main()
