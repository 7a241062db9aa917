"""MOST-Net's memory against direct transcriptions of Eqs. 4-9: seconds and megabytes of moving and reading it once.

    python benchmarks/memory.py [--batch 16] [--slots 512] [--channels 256] [--threads 1]

A feature map has 64x64 places. Each variant runs in a process of its own, whose peak resident memory above what it
held before is what it took; the transcriptions see a part of the features, and their figures are scaled to all.
Seconds are of the processor, which other work on the machine changes little.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

PLACES = 64 * 64


def by_rows(photo, sketch, keys, values, decay=0.999):  # type: ignore[no-untyped-def]
    """Feature by feature and slot by slot, as the equations are printed."""
    import torch

    def choose(feature, slots):  # type: ignore[no-untyped-def]
        cosines = torch.stack([feature @ k / (feature.norm() * k.norm()) for k in slots])  # Eq. 4
        return cosines, int(cosines.argmax())  # Eq. 5

    for features, slots in ((photo, keys), (sketch, values)):
        chosen: dict[int, list[torch.Tensor]] = {}
        for feature in features.detach():
            chosen.setdefault(choose(feature, slots)[1], []).append(feature)
        for j, members in chosen.items():
            slots[j] = decay * slots[j] + (1 - decay) * sum(members) / len(members)  # Eq. 6
    read = []
    for feature in photo:
        attention = torch.softmax(choose(feature, keys)[0], 0)  # Eq. 7
        read.append((attention[:, None] * values).sum(0))  # Eq. 8
    return torch.stack(read)  # Eq. 9


def by_broadcast(photo, sketch, keys, values, decay=0.999):  # type: ignore[no-untyped-def]
    """Every feature beside every slot at once: the short way to write it, in tensors of N x K x c."""
    import torch
    import torch.nn.functional as F

    for features, slots in ((photo.detach(), keys), (sketch.detach(), values)):
        cosines = F.cosine_similarity(features[:, None], slots[None], dim=-1)  # Eq. 4
        chose = F.one_hot(cosines.argmax(1), len(slots)).to(features.dtype)  # Eq. 5
        counts = chose.sum(0)[:, None]
        sums = (chose[:, :, None] * features[:, None]).sum(0)
        slots.copy_(torch.where(counts > 0, decay * slots + (1 - decay) * sums / counts, slots))  # Eq. 6
    attention = F.cosine_similarity(photo[:, None], keys[None], dim=-1).softmax(1)  # Eq. 7
    return (attention[:, :, None] * values[None]).sum(1)  # Eqs. 8, 9


def by_products(photo, sketch, keys, values):  # type: ignore[no-untyped-def]
    """silverpoint.nets.memory."""
    from silverpoint.nets.memory import MemoryDictionary, similarity

    memory = MemoryDictionary(*keys.shape)
    memory.keys, memory.values = keys, values
    choices = [similarity(f.detach(), s).argmax(1) for f, s in ((photo, keys), (sketch, values))]
    memory.update(photo, sketch, *choices)
    return memory.read(photo)


# what a variant is called, and the share of the features it can be given
VARIANTS = {"by_rows": 1 / 4096, "by_broadcast": 1 / 512, "by_products": 1.0}


def measure(variant: str, features: int, slots: int, channels: int, threads: int) -> None:
    """Runs in the child: prints seconds, megabytes and the number of features."""
    import torch

    torch.set_num_threads(threads)
    call = globals()[variant]

    def once(count: int) -> float:
        torch.manual_seed(0)
        photo, sketch = torch.randn(2, count, channels)
        keys, values = torch.randn(2, slots, channels)
        photo.requires_grad_()
        start = time.process_time()
        call(photo, sketch, keys, values).square().mean().backward()
        return time.process_time() - start

    once(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = min(once(features) for _ in range(2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "megabytes": (peak - before) / 1024, "features": features}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("batch", 16), ("slots", 512), ("channels", 256), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        return measure(args.variant, args.features, args.slots, args.channels, args.threads)
    total = args.batch * PLACES
    found = {}
    for variant, share in VARIANTS.items():
        command = [sys.executable, __file__, "--variant", variant, "--features", str(int(total * share))]
        for name in ("slots", "channels", "threads"):
            command += [f"--{name}", str(getattr(args, name))]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        scale = total / answer["features"]
        found[variant] = answer["seconds"] * scale, answer["megabytes"] * scale, scale
    print(
        f"{total} features of {args.channels}, {args.slots} slots, {args.threads} threads: move, read, backward"
    )
    print(f"{'':14s}{'seconds':>12s}{'ratio':>9s}{'megabytes':>12s}{'ratio':>9s}   measured on")
    ours = found["by_products"]
    for variant, (seconds, megabytes, scale) in found.items():
        print(
            f"{variant:14s}{seconds:12.2f}{seconds / ours[0]:8.0f}x{megabytes:12.0f}{megabytes / ours[1]:8.1f}x"
            f"   1/{scale:.0f} of the features"
        )


if __name__ == "__main__":
    main()
