"""What a report costs, and FSIM and SSIM against piq, which a user would pick instead.

    python benchmarks/metrics.py fsim [--threads 1]      per pair, at batch 1, 4 and 16; needs `pip install piq`
    python benchmarks/metrics.py suite [--pairs 338]     every metric of `evaluate`, weights already fetched

Pairs of 200x250 are made from examples/portrait.jpg: no data is needed, and time does not depend on content. What
counts of `fsim` are the ratios, with both sides' values compared in the same run. The limit of `suite` is that of a
method's own pairs; what its first report asks beside them, every floor and the ceiling, is timed on its own.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from silverpoint.metrics import METRICS, Options, Reference, Store, evaluate_images, measure_floors
from silverpoint.metrics import fsim as our_fsim
from silverpoint.metrics import ssim as our_ssim
from silverpoint.metrics.fsim import feature_maps, similarity
from silverpoint.metrics.measure import PAIRWISE, measure

ROOT = Path(__file__).parents[1]
SUITE_LIMIT = 240  # seconds for 338 pairs on two idle cores, without floors and ceiling


def pairs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fakes and reals (count, 250, 200) uint8: the portrait, moved and in another light, and blurred."""
    rng = np.random.default_rng(seed)
    with Image.open(ROOT / "examples" / "portrait.jpg") as file:
        portrait = file.convert("L")
    fakes, reals = [], []
    for _ in range(count):
        left, top = rng.integers(40, 160), rng.integers(20, 100)
        crop = portrait.crop((left, top, left + 440, top + 550)).resize((200, 250))
        reals.append((np.asarray(crop) * rng.uniform(0.6, 1.0)).astype(np.uint8))
        noise = rng.normal(0, 6, (250, 200))
        fakes.append(
            (np.asarray(crop.filter(ImageFilter.GaussianBlur(1))) + noise).clip(0, 255).astype(np.uint8)
        )
    return np.stack(fakes), np.stack(reals)


def import_piq() -> ModuleType:
    """piq; where torchvision is absent or does not fit torch, a stand-in for it, which FSIM and SSIM never call."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in ("torchvision", "torchvision.models"):
            sys.modules[name] = MagicMock()
    try:
        import piq
    except ImportError:
        sys.exit("piq is not installed: pip install --no-deps piq")
    return piq


def best_times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of wall and of processor time of each call: the best of `rounds`, taken in turn."""
    found = {name: (float("inf"), float("inf")) for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            best = found[name]
            found[name] = min(best[0], 1e3 * wall), min(best[1], 1e3 * processor)
    return found


def bench_fsim(threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    piq = import_piq()
    fakes, reals = (torch.from_numpy(side)[:, None].float() for side in pairs(16))

    def in_batches(metric: Callable[[Tensor, Tensor], Tensor], size: int) -> Tensor:
        return torch.cat([metric(a, b) for a, b in zip(fakes.split(size), reals.split(size), strict=True)])

    def piq_fsim(a: Tensor, b: Tensor) -> Tensor:
        return piq.fsim(a, b, data_range=255.0, chromatic=False, reduction="none")

    def piq_ssim(a: Tensor, b: Tensor) -> Tensor:
        return piq.ssim(a, b, data_range=255.0, downsample=False, reduction="none")

    with torch.inference_mode():
        for name, ours, theirs in (("FSIM", our_fsim, piq_fsim), ("SSIM", our_ssim, piq_ssim)):
            difference = (in_batches(ours, 4) - in_batches(theirs, 4)).abs().max().item()
            print(f"{name}: at most {difference:.1e} from piq's")
            for size in (1, 4, 16):
                times = best_times(
                    {
                        "silverpoint": lambda ours=ours, size=size: in_batches(ours, size),
                        "piq": lambda theirs=theirs, size=size: in_batches(theirs, size),
                    },
                    rounds,
                )
                (wall, own), (piq_wall, piq_own) = times["silverpoint"], times["piq"]
                print(
                    f"  batch {size:2}: {wall / 16:6.1f} ms a pair, piq {piq_wall / 16:6.1f}, ratio "
                    f"{piq_wall / wall:.1f}; of processor time {own / 16:6.1f}, {piq_own / 16:6.1f}, "
                    f"ratio {piq_own / own:.1f}"
                )
        # in a report a real image is analysed once, whatever is held against it
        maps = [feature_maps(b) for b in reals.split(1)]

        def against_known() -> list[Tensor]:
            return [similarity(feature_maps(a), m) for a, m in zip(fakes.split(1), maps, strict=True)]

        calls = {"silverpoint": against_known, "piq": lambda: in_batches(piq_fsim, 1)}
        wall, piq_wall = (time[0] for time in best_times(calls, rounds).values())
        print(f"FSIM in a report, real side known: {wall / 16:.1f} ms a pair, ratio {piq_wall / wall:.1f}")


def bench_suite(threads: int, count: int) -> None:
    torch.set_num_threads(threads)
    fakes, reals = pairs(count)
    metrics = tuple(
        name for name in METRICS if name != "lpips_squeeze"
    )  # its weights are the user's to bring
    measure(fakes[:2], reals[:2], metrics=metrics)  # weights read, checksums taken
    groups = [(name,) for name in PAIRWISE if name in metrics and name != "fsimc"]
    few = min(count, 16)
    for group in [*groups, ("fid", "kid"), ("rank1", "verification"), ("nlda",)]:
        start = time.perf_counter()
        measure(fakes[:few], reals[:few], metrics=group)
        print(f"  {', '.join(group):22}{1e3 * (time.perf_counter() - start) / few:8.1f} ms a pair")
    subsets = {"a": list(range(0, count, 2)), "b": list(range(1, count, 2))}
    names = tuple(str(i) for i in range(count))
    training_inputs, training = pairs(count, seed=1)
    reference = Reference(names, reals, subsets, reals // 2 + 64, training, training_inputs)
    with tempfile.TemporaryDirectory() as folder:
        for text in ("nothing known", "known images"):
            options = Options(metrics=metrics, store=Store(Path(folder)))
            start = time.perf_counter()
            evaluate_images(fakes, reference, options)
            seconds = time.perf_counter() - start
            print(f"{count} pairs and 2 subsets, {threads} threads, {text}: {seconds:.0f} s")
            if text == "nothing known" and count == 338:
                print(f"  {'within' if seconds <= SUITE_LIMIT else 'OVER'} the {SUITE_LIMIT} s it may take")
        parts: dict[str, float] = {}
        last = time.perf_counter()

        def clock(what: str, done: int, total: int) -> None:
            nonlocal last
            last, before = time.perf_counter(), last
            parts[what] = parts.get(what, 0.0) + last - before

        start = last
        measure_floors(reference, Options(metrics=metrics, store=Store(Path(folder)), progress=clock))
        seconds = time.perf_counter() - start
        print(f"floors and ceiling beside them, asked once per test set: {seconds:.0f} s")
        print("  " + ", ".join(f"{name} {part:.0f} s" for name, part in parts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fsim", "suite"))
    parser.add_argument("--threads", type=int, help="default: 1 for fsim, 2 for suite")
    parser.add_argument("--pairs", type=int, default=338)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if args.what == "fsim":
        bench_fsim(args.threads or 1, args.rounds)
    else:
        bench_suite(args.threads or 2, args.pairs)


if __name__ == "__main__":
    main()
