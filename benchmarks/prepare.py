"""Pairs per second of `prepare`: the pictures alone, with alignment by detected eyes, and with each prior.

    python benchmarks/prepare.py [--pairs 20] [--workers 1] [--cases pictures align saliency layout again]

The pairs are the portrait of examples/ and a sketch simulated from it, both turned and scaled a little differently
each time. `again` prepares a finished dataset with all priors once more: what is done is not done again.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from silverpoint.data.prepare import prepare
from silverpoint.data.simulate import pencil

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
CASES = {
    "pictures": {},
    "align": {"frame": "cufs"},
    "saliency": {"frame": "cufs", "priors": ["saliency"]},
    "layout": {"frame": "cufs", "priors": ["layout"]},
}


def write_pairs(root: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    with Image.open(PORTRAIT) as opened:
        portrait = opened.convert("RGB")
    for folder in ("photos", "sketches"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        side = int(rng.integers(400, 700))
        photo = portrait.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC).resize((side, side))
        photo.save(root / "photos" / f"{i:04d}.jpg", quality=95)
        Image.fromarray(pencil(np.asarray(photo))).save(root / "sketches" / f"{i:04d}.png")
    return root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cases", nargs="+", default=[*CASES, "again"], choices=[*CASES, "again"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = write_pairs(root / "mine", args.pairs)
        warm = write_pairs(root / "warm", 1)
        prepare(
            "pairs",
            warm,
            root / "warmed",
            frame="cufs",
            priors=[c for c in args.cases if c in ("saliency", "layout")],
        )
        for case in args.cases:
            options = CASES.get(case, CASES["align"])
            out = root / ("align" if case == "again" else case)
            start = time.perf_counter()
            prepare("pairs", source, out, workers=args.workers, **options)
            seconds = time.perf_counter() - start
            print(
                f"{case:10} {args.pairs / seconds:8.2f} pairs/s   {1e3 * seconds / args.pairs:8.1f} ms a pair"
            )


if __name__ == "__main__":
    main()
