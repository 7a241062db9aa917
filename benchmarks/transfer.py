"""What a step of KT costs beside two of pix2pix, and how much each term of its objective has to say.

    python benchmarks/transfer.py --step                  both students of KT against pix2pix in both directions
    python benchmarks/transfer.py --gradients DATASET     the gradient of Eq. 3 against that of Eqs. 1 and 2

Times are seconds of processor time on one thread, which a busy machine disturbs less than the clock.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from silverpoint.data.batches import Batch, Batches
from silverpoint.data.pairs import list_split
from silverpoint.methods.kt import KT
from silverpoint.methods.kt import Settings as KTSettings
from silverpoint.methods.method import Method
from silverpoint.methods.pix2pix import Pix2Pix
from silverpoint.methods.pix2pix import Settings as Pix2PixSettings

SIDE, PAIRS, STEPS, REPORTS = 64, 8, 80, (0, 20, 80)


def seconds(call: Callable[[], object], rounds: int = 2) -> float:
    """The fastest of `rounds` calls after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times[1:])


def updates(method: Method) -> Callable[[Batch, bool], None]:
    """A training step of `method`, as the trainer makes it: step(batch, bf16)."""
    specs = method.optimizers(method.stages()[0])
    optimizers = {n: torch.optim.Adam(s.parameters, s.lr, s.betas, fused=True) for n, s in specs.items()}

    def step(batch: Batch, bf16: bool) -> None:
        running = method.training_step(batch)
        while True:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                update = next(running, None)
            if update is None:
                return
            name, losses = update
            optimizers[name].zero_grad()
            torch.stack([v.float() for v in losses.values()]).sum().backward(inputs=specs[name].parameters)
            optimizers[name].step()

    return step


def print_steps() -> None:
    photo, sketch = torch.rand(1, 3, 256, 256) * 2 - 1, torch.rand(1, 1, 256, 256) * 2 - 1
    batch = Batch(photo, sketch, torch.ones(1, 1))
    rivals = {
        "pix2pix, twice": (lambda: Pix2Pix(Pix2PixSettings(), ("x",)), torch.channels_last, 2),
        "kt": (lambda: KT(KTSettings(), ("x",)), torch.contiguous_format, 1),
        "kt, fresh": (lambda: KT(KTSettings(alternation="fresh"), ("x",)), torch.contiguous_format, 1),
        "kt, channels last": (lambda: KT(KTSettings(), ("x",)), torch.channels_last, 1),
    }
    reference: dict[bool, float] = {}
    for name, (make, layout, times) in rivals.items():
        method = make().to(memory_format=layout)
        step = updates(method)
        for bf16 in (False, True):
            taken = times * seconds(lambda: step(batch, bf16))  # noqa: B023
            ratio = taken / reference.setdefault(bf16, taken)
            print(f"{name:18s} {'bf16' if bf16 else 'fp32'}  {taken:6.2f} s  {ratio:5.2f}x", flush=True)


def norm(value: Tensor, parameters: list[torch.nn.Parameter]) -> float:
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())


def print_gradients(dataset: Path) -> None:
    """Means over PAIRS pairs of the terms, and of the norms of their gradients; trained with the default weights."""
    examples = [stored.load() for stored in list_split(dataset, "train")[:PAIRS]]
    method = KT(KTSettings(), ("x",))
    batches = Batches(
        examples,
        [examples[0].style],
        batch_size=1,
        crop_size=SIDE,
        augmentation=method.augmentation,
        framing="crop",
    )
    step = updates(method)
    shown = [batches.batch(number) for number in range(PAIRS)]
    for number in range(STEPS + 1):
        if number in REPORTS:
            print_balance(method, shown, f"step {number:3d}")
        step(batches.batch(number), True)


def print_balance(method: KT, batches: list[Batch], label: str) -> None:
    specs = method.optimizers(method.stages()[0])
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in specs}
    for batch in batches:
        for name, losses in method.training_step(batch):
            terms = [losses[f"{name}_{term}"] for term in ("rec", "teacher", "student")]
            weights = specs[name].parameters
            norms = norm(terms[0], weights), norm(terms[1] + terms[2], weights)
            found[name].append((*(float(t.detach()) for t in terms), *norms))
    for name, rows in found.items():
        rec, teacher, student, of_rec, of_transfer = (sum(c) / len(c) for c in zip(*rows, strict=True))
        ratio = of_rec / of_transfer / method.settings.lambda_rec  # linear in the weight
        ratios = "  ".join(f"{weight}: {weight * ratio:.2g}" for weight in (1, 3, 10))
        print(
            f"{label} {name}  Eq. 3 {rec:.3g}  Eq. 1 {teacher:.3g}  Eq. 2 {student:.3g}  "
            f"gradient of Eq. 3 to Eqs. 1 + 2 with lambda_rec {ratios}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--gradients", type=Path, metavar="DATASET")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.step:
        print_steps()
    if args.gradients:
        print_gradients(args.gradients)
