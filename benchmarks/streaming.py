"""CelebA's number of pairs out of shards: pairs per second, and whether memory stays flat.

    python benchmarks/streaming.py [--pairs 160000] [--target 720] [--workers 2] [--folder DIR]

Generated faces at 96x96 (1,000 of them, over and over) are packed into tar shards, as `prepare --shards` does, and read
in training's shuffled order with the unpaired sketches of a small target beside them, as DA-GAN reads CelebA and CUFSF:
by worker processes, and by the threads that `train` itself uses (four where there is a graphics card, else one). The
rival reads the same pairs with Pillow, as a plain torch Dataset of files does: those stay in the system's cache, which
favours it.
"""

import argparse
import csv
import resource
import tempfile
import time
from collections.abc import Iterable, Sized
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, Dataset

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batches
from silverpoint.data.pairs import COLUMNS, list_sketches, list_split
from silverpoint.data.shards import write_shards
from silverpoint.data.simulate import sobel
from silverpoint.training.trainer import _prepared

FACES, SIDE, BATCH = 1000, 96, 8


def draw_face(seed: int) -> np.ndarray:
    """(96, 96, 3) uint8: an oval with eyes and a mouth, and grain, which makes files as large as a photo's."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(120, 255, 3)))
    draw = ImageDraw.Draw(image)
    width, height = rng.uniform(24, 34), rng.uniform(34, 44)
    draw.ellipse(
        [48 - width, 50 - height, 48 + width, 50 + height], fill=(int(rng.integers(90, 230)), 150, 120)
    )
    for x in (32, 64):
        draw.ellipse([x - 5, 35, x + 5, 42], fill=(30, 25, 25))
    draw.line([38, 72, 58, 72 + rng.uniform(-4, 4)], fill=(150, 50, 50), width=3)
    return np.clip(np.asarray(image) + rng.normal(0, 6, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def write_dataset(root: Path, pairs: int) -> None:
    """A dataset folder of `pairs` pairs in shards, made from FACES drawn ones."""
    for folder in ("photos", "sketches"):
        (root / folder).mkdir(parents=True)
    for i in range(FACES):
        photo = draw_face(i)
        Image.fromarray(photo).save(root / f"photos/{i:04d}.png")
        Image.fromarray(sobel(photo)).save(root / f"sketches/{i:04d}.png")
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"id": f"{i:06d}", "subset": "generated", "split": "train", "style": "simulated"}
        | {"photo": f"photos/{i % FACES:04d}.png", "sketch": f"sketches/{i % FACES:04d}.png"}
        for i in range(pairs)
    ]
    write_rows(root, write_shards(root, rows))


def write_target(root: Path, sketches: int) -> None:
    """A dataset folder of sketches without photos, as files."""
    (root / "sketches").mkdir(parents=True)
    rows = []
    for i in range(sketches):
        name = f"sketches/{i:04d}.png"
        Image.fromarray(sobel(draw_face(FACES + i))).save(root / name)
        rows.append(
            dict.fromkeys(COLUMNS, "")
            | {"id": f"{i:04d}", "subset": "drawn", "split": "train", "style": "drawn", "sketch": name}
        )
    write_rows(root, rows)


def write_rows(root: Path, rows: list[dict[str, str]]) -> None:
    with (root / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


class PlainFiles(Dataset):
    """What one writes in ten lines: a photo and a sketch from their files, shuffled by the loader."""

    def __init__(self, root: Path, pairs: int) -> None:
        self.root, self.pairs, self.rng = root, pairs, np.random.default_rng()

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        name = f"{i % FACES:04d}.png"
        photo = np.asarray(Image.open(self.root / "photos" / name).convert("RGB")).transpose(2, 0, 1)
        sketch = np.asarray(Image.open(self.root / "sketches" / name).convert("L"))[None]
        if self.rng.random() < 0.5:
            photo, sketch = photo[..., ::-1], sketch[..., ::-1]
        return tuple(torch.from_numpy(x.copy()).float() / 127.5 - 1 for x in (photo, sketch))


def resident(process: str = "self") -> float:
    """MB of this process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def workers_resident() -> float:
    """MB of the loader's processes, together; pages they share are counted in each."""
    found = Path("/proc/self/task").glob("*/children")
    return sum(resident(child) for file in found for child in file.read_text().split())


def processor_seconds() -> float:
    """Of this process and of those it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def drain(loader: Iterable, report: int = 0) -> tuple[float, float]:
    """Pairs per second and processor milliseconds a pair, the loader's start included; a line for each of `report`
    parts of the way."""
    start = last = time.perf_counter()
    used = processor_seconds()
    count = seen = 0
    steps = len(loader) if isinstance(loader, Sized) else 0
    for step, batch in enumerate(loader, 1):
        size = len(batch.photo if hasattr(batch, "photo") else batch[0])
        count += size
        seen += size
        if report and step % max(1, steps // report) == 0:
            now = time.perf_counter()
            print(
                f"{count:8d} pairs  {seen / (now - last):7.0f} pairs/s  "
                f"{resident():6.0f} MB + {workers_resident():6.0f} MB in workers",
                flush=True,
            )
            last, seen = now, 0
    return count / (time.perf_counter() - start), 1e3 * (processor_seconds() - used) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=160_000)
    parser.add_argument("--target", type=int, default=720, help="unpaired sketches beside them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the shards go, 2 GB (default: a temporary folder)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        root = Path(name) / "dataset"
        start = time.perf_counter()
        write_dataset(root, args.pairs)
        write_target(root.with_name("target"), args.target)
        size = sum(p.stat().st_size for p in (root / "shards").iterdir())
        print(
            f"{args.pairs} pairs, {size / 1e9:.2f} GB in shards, written in {time.perf_counter() - start:.0f} s"
        )
        start = time.perf_counter()
        batches = Batches(
            list_split(root, "train"),
            ["simulated"],
            batch_size=BATCH,
            crop_size=SIDE,
            augmentation=Augmentation(scale=(1.0, 1.0), rotation=0.0, tone=0.0, background=0.0, skin=0.0),
            unpaired=list_sketches(root.with_name("target"), "train"),
            in_memory=False,
        )
        print(f"listed in {time.perf_counter() - start:.1f} s, {resident():.0f} MB")
        ours = drain(
            DataLoader(batches, batch_size=None, sampler=range(len(batches)), num_workers=args.workers), 10
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _prepared(batches, 0, len(batches), device) as delivered:
            threads = drain(delivered)
        plain = PlainFiles(root, min(args.pairs, 20_000))
        theirs = drain(DataLoader(plain, batch_size=BATCH, shuffle=True, num_workers=args.workers))
    for name, (rate, cost) in (("shards", ours), ("in threads", threads), ("plain files", theirs)):
        print(f"{name:12s} {rate:6.0f} pairs/s {cost:6.2f} ms of a processor a pair")
    for name, (rate, cost) in (("shards", ours), ("in threads", threads)):
        print(
            f"{name} against plain files: {rate / theirs[0]:.2f}x the rate, {cost / theirs[1]:.2f}x the cost"
        )


if __name__ == "__main__":
    main()
