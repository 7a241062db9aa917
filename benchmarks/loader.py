"""Pairs per second out of our batches at 256x256, against torch's plain Dataset of JPEG files.

    python benchmarks/loader.py [--faces 20000] [--workers 2] [--batches 400] [--folder DIR]

Two cases, each with the same crops (a random 256x256 of 286x286, mirrored half of the time), the same batches of eight
and the same number of worker processes on both sides: a set of CUFS's size that lies in memory, and one of `--faces`
generated faces that is read from shards. Beside them, the threads that `train` itself uses (four where there is a
graphics card, else one). The rival opens both files of a pair with Pillow, as such a Dataset is usually
written. The files stay in the system's cache on both sides. What counts are the ratios.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, Dataset

from silverpoint.data.augment import Augmentation
from silverpoint.data.batches import Batches
from silverpoint.data.pairs import COLUMNS, list_split
from silverpoint.data.shards import write_shards
from silverpoint.data.simulate import pencil
from silverpoint.training.trainer import _prepared

STORED, SIDE, BATCH, IN_MEMORY = 286, 256, 8, 268
DRAWN = 500  # different faces; the rest are copies, each a file of its own


def draw_face(seed: int) -> np.ndarray:
    """(286, 286, 3) uint8: an oval with eyes and a mouth, with the grain that makes files as large as a photo's."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (STORED, STORED), tuple(int(v) for v in rng.integers(120, 255, 3)))
    draw = ImageDraw.Draw(image)
    w, h = rng.uniform(70, 95), rng.uniform(95, 120)
    draw.ellipse([143 - w, 150 - h, 143 + w, 150 + h], fill=(int(rng.integers(90, 230)), 150, 120))
    for x in (108, 178):
        draw.ellipse([x - 14, 118, x + 14, 134], fill=(30, 25, 25))
    draw.line([113, 212, 173, 212 + rng.uniform(-9, 9)], fill=(150, 50, 50), width=7)
    return np.clip(np.asarray(image) + rng.normal(0, 4, (STORED, STORED, 3)), 0, 255).astype(np.uint8)


def write_faces(root: Path, faces: int) -> Path:
    """JPEG files of quality 95 as `prepare --jpeg` makes them, and the same again in shards."""
    for folder in ("photos", "sketches"):
        (root / folder).mkdir(parents=True)
    for i in range(min(DRAWN, faces)):
        photo = draw_face(i)
        for folder, image in (("photos", photo), ("sketches", pencil(photo))):
            Image.fromarray(image).save(root / folder / f"{i:06d}.jpg", quality=95, subsampling=0)
    for i in range(DRAWN, faces):
        for folder in ("photos", "sketches"):
            (root / folder / f"{i:06d}.jpg").write_bytes(
                (root / folder / f"{i % DRAWN:06d}.jpg").read_bytes()
            )
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"id": f"{i:06d}", "subset": "generated", "split": "train", "style": "generated"}
        | {"photo": f"photos/{i:06d}.jpg", "sketch": f"sketches/{i:06d}.jpg"}
        for i in range(faces)
    ]
    with (root / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(write_shards(root, rows))
    return root


class PlainFiles(Dataset):
    """What a user would write: two JPEG files opened, one crop for both, tensors in [-1, 1]."""

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count = root, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo = Image.open(self.root / "photos" / f"{index:06d}.jpg").convert("RGB")
        sketch = Image.open(self.root / "sketches" / f"{index:06d}.jpg").convert("L")
        left, top = (int(v) for v in torch.randint(STORED - SIDE + 1, (2,)))
        tensors = []
        mirrored = bool(torch.rand(()) < 0.5)
        for image in (photo, sketch):
            square = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float32)
            square = square[:, ::-1] if mirrored else square
            planes = square.transpose(2, 0, 1) if square.ndim == 3 else square[None]
            tensors.append(torch.from_numpy(np.ascontiguousarray(planes)) / 127.5 - 1)
        return tensors[0], tensors[1]


def per_second(loader: Iterable[object], batches: int) -> float:
    """Pairs a second over `batches` batches, after ten that start the workers."""
    found = iter(loader)
    for _ in range(10):
        next(found)
    start = time.perf_counter()
    for _ in range(batches):
        next(found)
    return batches * BATCH / (time.perf_counter() - start)


def ours(root: Path, count: int, in_memory: bool) -> Batches:
    crops = Augmentation(scale=(1.0, 1.0), rotation=0.0, tone=0.0, background=0.0, skin=0.0)
    return Batches(
        list_split(root, "train")[:count],
        ["generated"],
        batch_size=BATCH,
        crop_size=SIDE,
        augmentation=crops,
        in_memory=in_memory,
    )


def plain(root: Path, count: int, workers: int, steps: int) -> Iterable[object]:
    dataset = PlainFiles(root, count)
    order = torch.randint(count, (steps * BATCH,)).tolist()
    return DataLoader(dataset, batch_size=BATCH, sampler=order, num_workers=workers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument(
        "--folder", type=Path, help="where the generated faces are kept (default: thrown away)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        root = args.folder or Path(scratch) / "faces"
        if not (root / "pairs.csv").exists():
            write_faces(root, args.faces)
        steps = args.batches + 10
        found = {"workers": args.workers, "faces": args.faces, "load": os.getloadavg()[0]}
        for name, count, in_memory in (
            ("in memory", min(IN_MEMORY, args.faces), True),
            ("shards", args.faces, False),
        ):
            batches = ours(root, count, in_memory)
            loader = DataLoader(batches, batch_size=None, sampler=range(steps), num_workers=args.workers)
            mine = per_second(loader, args.batches)
            with _prepared(batches, 0, steps, device) as delivered:
                threads = per_second(delivered, args.batches)
            rival = per_second(plain(root, count, args.workers, steps), args.batches)
            rates = {"ours": mine, "threads": threads, "plain": rival}
            found[name] = {of: round(rate) for of, rate in rates.items()} | {"ratio": round(mine / rival, 2)}
            print(
                f"{name:10} {mine:8.0f} pairs/s   in train's threads {threads:8.0f}   "
                f"plain JPEG files {rival:8.0f}   ratio {mine / rival:.2f}, {threads / rival:.2f}"
            )
        print(json.dumps(found))


if __name__ == "__main__":
    main()
