"""Does adaptation help? Sketch-to-photo runs held against each other on hand-drawn sketches they saw no photo of.

    python benchmarks/adaptation.py table cufs/ fs2k/
    python benchmarks/adaptation.py score --source simulated-cufs simulated-fs2k simulated-london --target hand-cufs \
        --subset CUHK --sheet sheet.png adapted=runs/dagan control=runs/dagan-control without=runs/dagan-without \
        cyclegan=runs/cyclegan96

`table` lists the training photos of prepared datasets in <dataset>/training-photos.csv, from which
`silverpoint prepare pairs` simulates sketches. `score` draws the photos of the target's test sketches with every run,
and measures them beside what costs nothing: the sketch as it is, the mean training photo, and the photo of the training
pair whose simulated sketch is nearest. For DA-GAN it adds the domain gap: how well a fresh classifier tells simulated
from hand-drawn latents it was not trained on, 0.5 being chance. The control (`--itrs_G 0`) has the target in its batch
statistics and is not adapted: against it the adaptation is measured. docs/methods/dagan.md says what comes out.
"""

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import nn

from silverpoint.data.alignment import FACE96
from silverpoint.data.pairs import Example, read_split
from silverpoint.errors import DataError
from silverpoint.faces.align import CUFS, similarity, warp
from silverpoint.image import write_image
from silverpoint.metrics import score
from silverpoint.metrics.domain_gap import domain_accuracy
from silverpoint.recognition import load_embedder, rank_rate, ranks, similarities
from silverpoint.training.export import load_run
from silverpoint.training.validation import synthesize_examples

METRICS = ("perceptual_vgg19", "psnr", "ssim", "lpips_alex")
FEATURES = 256 * 24 * 24  # of relu3_4 at 96x96: what Eq. 4 sums over
SEEDS = 3  # of the classifier
HEAD = "{:24s}{:>8s}{:>10s}{:>8s}{:>8s}{:>8s}{:>8s}{:>16s}"
ROW = "{:24s}{:8.3f}{:10.0f}{:8.2f}{:8.3f}{:8.3f}{:8.2f}{:>16s}"


def write_table(dataset: Path) -> None:
    """The photos a method may be trained on, with the split they have."""
    with (dataset / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "val")]
    out = dataset / "training-photos.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["photo", "id", "subset", "split"])
        table.writerows([row["photo"], row["id"], row["subset"], row["split"]] for row in rows)
    print(f"{out}: {len(rows)} photos")


def read(datasets: list[Path], split: str, subset: str | None = None) -> list[Example]:
    """All pairs of a split; a dataset that has none is passed over."""
    examples = []
    for dataset in datasets:
        try:
            examples += read_split(dataset, split, subset)
        except DataError:
            continue
    if not examples:
        raise DataError(f"{', '.join(map(str, datasets))}: no pairs of the split {split}")
    return examples


@torch.no_grad()
def latents(encode: nn.Module, examples: list[Example]) -> torch.Tensor:
    """(N, C, h, w): the means of the latents of the sketches."""
    found = []
    for first in range(0, len(examples), 16):
        sketches = np.stack([e.sketch for e in examples[first : first + 16]])
        found.append(encode(torch.from_numpy(sketches)[:, None].float() / 127.5 - 1)[0])
    return torch.cat(found)


def domain_gap(net: nn.Module, domains: list[list[Example]]) -> tuple[float, float]:
    """Accuracy and its spread over the seeds of the classifier."""
    sets = [latents(net.encode, examples) for examples in domains]
    found = [domain_accuracy(*sets, seed=seed) for seed in range(SEEDS)]
    return statistics.mean(found), statistics.stdev(found)


def rank_one(fakes: list[np.ndarray], reals: list[np.ndarray]) -> float:
    """How often the nearest real photo, by LightCNN, is the right person's."""
    embed, matrix = load_embedder("lightcnn"), similarity(FACE96.eyes(), CUFS.eyes())
    faces = [embed([warp(image, matrix, CUFS.size()) for image in side]) for side in (fakes, reals)]
    return rank_rate(ranks(similarities(*faces)))


def trivial(train: list[Example], test: list[Example]) -> dict[str, list[np.ndarray]]:
    mean = np.mean([e.photo for e in train], axis=0).round().astype(np.uint8)
    drawn = np.stack([e.sketch.ravel() for e in train]).astype(np.float32)
    nearest = [int(((drawn - e.sketch.ravel()) ** 2).sum(1).argmin()) for e in test]
    return {
        "the sketch itself": [np.repeat(e.sketch[:, :, None], 3, axis=2) for e in test],
        "mean training photo": [mean] * len(test),
        "nearest training photo": [train[i].photo for i in nearest],
    }


def compare(args: argparse.Namespace) -> None:
    test = read(args.target, "test", args.subset)[: args.limit]
    domains = [read(args.source, "train"), read(args.target, "train"), read(args.source, "val"), test]
    reals = [e.photo for e in test]
    if {e.sketch.shape for part in domains for e in part} != {(96, 96)}:
        raise DataError("all pairs must be 96x96: prepare them with --align face96")
    rows = trivial(domains[0], test)
    gaps: dict[str, tuple[float, float]] = {}
    for named in args.runs:
        name, _, run = named.rpartition("=")
        method, nets = load_run(Path(run))
        net = nets["sketch2photo"]
        name = name or Path(run).name
        rows[name] = synthesize_examples(
            method, net, test, "sketch2photo", torch.device("cpu"), style=method.styles[0]
        )
        if method.name == "dagan":
            gaps[name] = domain_gap(net.net, domains)
    print(f"{len(test)} test sketches, {len(domains[0])} source pairs, {len(domains[1])} target sketches")
    print(HEAD.format("", "L_p", "L_p sum", "PSNR", "SSIM", "LPIPS", "rank-1", "domain"))
    for name, fakes in rows.items():
        found = score(fakes, reals, geometry="native", metrics=METRICS)
        distance, *others = (found[metric] for metric in METRICS)
        gap = "{:.3f} +- {:.3f}".format(*gaps[name]) if name in gaps else ""
        print(
            ROW.format(name, distance, distance * FEATURES, *others, rank_one(fakes, reals), gap), flush=True
        )
    if args.sheet:
        shown = np.linspace(0, len(test) - 1, min(20, len(test))).astype(int)
        columns = [rows["the sketch itself"], *list(rows.values())[3:], reals]
        write_image(
            np.concatenate([np.concatenate([c[i] for i in shown], axis=1) for c in columns]), args.sheet
        )
        print(f"{args.sheet}: sketches, {', '.join(list(rows)[3:])}, photos")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    table = commands.add_parser("table", help="list the training photos of prepared datasets")
    table.add_argument("datasets", nargs="+", type=Path)
    table.set_defaults(run=lambda args: [write_table(dataset) for dataset in args.datasets])
    measured = commands.add_parser("score", help="measure runs on hand-drawn test sketches")
    measured.add_argument("runs", nargs="*", metavar="[NAME=]RUN")
    measured.add_argument("--source", nargs="+", type=Path, required=True, metavar="DATASET")
    measured.add_argument("--target", nargs="+", type=Path, required=True, metavar="DATASET")
    measured.add_argument("--subset", help="of the target's test pairs, e.g. CUHK")
    measured.add_argument("--limit", type=int, help="only so many test sketches, for a quick look")
    measured.add_argument("--sheet", type=Path, metavar="PNG", help="twenty results side by side")
    measured.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
