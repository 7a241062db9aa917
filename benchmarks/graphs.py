"""What a step of SDGAN costs, and what its graph losses add to it.

    python benchmarks/graphs.py [--device cpu] [--threads 1] [--repeat 2] [--precision 32-true bf16-mixed]

Both directions at 256x256, batch 1, one forward and backward of every update, without Adam. Times are processor time,
which other work on the machine changes little; on otherwise idle cores wall time is that over the threads, or somewhat
more. On a card (`--device cuda`) they are wall time until it has done. The graph losses alone are held against the same
with a loop over classes.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.data.batches import Batch
from silverpoint.losses.graphs import graphs, inter_class_loss, intra_class_loss
from silverpoint.methods.sdgan import SDGAN, Settings

SIDE = 256


def some_batch() -> Batch:
    torch.manual_seed(0)
    priors = {}
    for side in ("", "sketch_"):
        priors[f"{side}saliency"] = torch.rand(1, 1, SIDE, SIDE)
        numbers = torch.randint(12, (1, 8, 8)).repeat_interleave(32, 1).repeat_interleave(32, 2)
        priors[f"{side}layout"] = F.one_hot(numbers, 12).permute(0, 3, 1, 2).float()
    photo, sketch = torch.rand(1, 3, SIDE, SIDE) * 2 - 1, torch.rand(1, 1, SIDE, SIDE) * 2 - 1
    return Batch(photo, sketch, torch.ones(1, 1), ["a"], priors)


def clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], None], repeat: int, device: torch.device) -> float:
    """The least time of `repeat` calls, after one that warms up."""
    work()
    best = float("inf")
    for _ in range(repeat):
        start = clock(device)
        work()
        best = min(best, clock(device) - start)
    return best


def step(settings: Settings, stage: int, precision: str, batch: Batch) -> Callable[[], None]:
    method = SDGAN(settings, ("x",)).train()
    for begun in method.stages()[: stage + 1]:
        method.start_stage(begun)
    device = batch.photo.device
    method.to(device, memory_format=method.memory_format)  # type: ignore[call-overload]
    specs = method.optimizers(method.stages()[stage])

    def work() -> None:
        updates = method.training_step(batch)
        while True:
            low = precision == "bf16-mixed"
            with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
                update = next(updates, None)
            if update is None:
                return
            name, losses = update
            method.zero_grad()
            torch.stack([v.float() for v in losses.values()]).sum().backward(inputs=specs[name].parameters)

    return work


def looped(features: Tensor, masks: Tensor, target: Tensor) -> Tensor:
    """IAG and ITG class by class, as one would write them first."""
    found = []
    for image in (features, target):
        means, variances, maps = [], [], []
        for c in range(masks.shape[1]):
            mask = masks[:, c : c + 1]
            size = mask.sum()
            if size == 0:
                continue
            mean = (mask * image).sum((2, 3), keepdim=True) / size
            variance = (mask * (image - mean) ** 2).sum((2, 3), keepdim=True) / size
            maps += [F.cosine_similarity(image, mean), F.cosine_similarity(image, variance)]
            means.append(mean.flatten())
            variances.append(variance.flatten())
        edges = [torch.cdist(torch.stack(n), torch.stack(n)) for n in (means, variances)]
        found.append((maps, edges))
    (maps, edges), (real_maps, real_edges) = found
    intra = torch.stack([(a - b).square().mean() for a, b in zip(maps, real_maps, strict=True)]).sum()
    inter = torch.stack([(a - b).square().sum() for a, b in zip(edges, real_edges, strict=True)]).sum()
    return intra + inter / features.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = some_batch().to(args.device)
    masks = batch.priors["layout"][:, :, ::2, ::2]
    features, target = torch.rand(2, 1, 128, 128, 128, device=args.device)
    features.requires_grad_()

    def vectorised() -> None:
        fake, real = graphs(features, masks), graphs(target, masks)
        torch.autograd.grad(intra_class_loss(fake, real) + inter_class_loss(fake, real), features)

    def loop() -> None:
        torch.autograd.grad(looped(features, masks, target), features)

    def timed(work: Callable[[], None]) -> float:
        return seconds(work, args.repeat, args.device)

    ours, theirs = timed(vectorised), timed(loop)
    print(
        f"graph losses of one image pair: {ours:.3f} s; with a loop over classes {theirs:.3f} s, {theirs / ours:.1f}x"
    )
    for precision in args.precision:
        whole = timed(step(Settings(), 0, precision, batch))
        without = timed(step(Settings(lambda_iag=0, lambda_itg=0), 0, precision, batch))
        cycle = timed(step(Settings(), 1, precision, batch))
        print(
            f"{precision}: initial {whole:.2f} s a step, of which the graph losses {100 * (whole / without - 1):.1f} % "
            f"on top of {without:.2f} s; cycle {cycle:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
