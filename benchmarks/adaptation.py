"""Does adaptation help? Sketch-to-photo runs held against each other on hand-drawn sketches they saw no photo of.

    python benchmarks/adaptation.py table cufs/ fs2k/
    python benchmarks/adaptation.py score --source simulated-cufs simulated-fs2k simulated-london --target hand-cufs \
        --subset CUHK --sheet sheet.png --against control \
        adapted=runs/dagan control=runs/dagan-control without=runs/dagan-without cyclegan=runs/cyclegan96

`table` lists the training photos of prepared datasets in <dataset>/training-photos.csv, from which
`silverpoint prepare pairs` simulates sketches. `score` draws the photos of the target's test sketches with every run,
and measures them beside what costs nothing: the sketch as it is, the mean training photo, and the photo of the training
pair whose simulated sketch is nearest. `--against` names the run that the others are held against, image by image:
their mean difference and its 95 % bootstrap interval. The target's training sketches need no photos.

For DA-GAN it adds the domain gap: how well a fresh classifier tells simulated from hand-drawn latents it was not
trained on, as accuracy (0.5 is chance) and cross-entropy (0.693 nats is), of the latents' means, which synthesis
decodes, and of samples, which DA-Net and the decoder learn from. The control (`--itrs_G 0`) has the target in its batch
statistics and is not adapted: against it the adaptation is measured. docs/methods/dagan.md says what comes out.
"""

import argparse
import csv
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from silverpoint.data.alignment import FRAMES
from silverpoint.data.pairs import Example, StoredExample, frame_of, list_sketches, list_split, spread
from silverpoint.errors import DataError, UsageError
from silverpoint.faces.align import CUFS, Frame, similarity, warp
from silverpoint.image import write_image
from silverpoint.losses.variational import sample_gaussian
from silverpoint.metrics import Measurements, measure
from silverpoint.metrics.bootstrap import Interval, mean_interval
from silverpoint.metrics.domain_gap import DomainGap, domain_gap
from silverpoint.recognition import load_embedder, rank_rate, ranks, similarities
from silverpoint.training.export import load_run
from silverpoint.training.validation import synthesize_examples

METRICS = ("perceptual_vgg19", "psnr", "ssim", "lpips_alex")
SEEDS = 3  # of the classifier
DRAWS = 8  # samples of each latent, so that the classifier learns the domains and not the noise of one draw
MOST = 4000  # sketches of a domain, evenly from all of them: CelebA's fit in memory
HEAD = "{:24s}{:>8s}{:>10s}{:>8s}{:>8s}{:>8s}{:>8s}{:>29s}{:>29s}"
ROW = "{:24s}{:8.3f}{:10.0f}{:8.2f}{:8.3f}{:8.3f}{:8.2f}{:>29s}{:>29s}"


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


def listed(
    datasets: list[Path], split: str, subset: str | None = None, *, of: Callable = list_split
) -> list[StoredExample]:
    """All pairs of a split, or of `list_sketches` all sketches; a dataset that has none is passed over."""
    found = []
    for dataset in datasets:
        try:
            found += of(dataset, split, subset)
        except DataError:
            continue
    if not found:
        raise DataError(f"{', '.join(map(str, datasets))}: no pairs of the split {split}")
    return found


@torch.no_grad()
def moments(
    net: nn.Module, sketches: list[np.ndarray], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C, h, w) each: the means and the log-variances of the latents of sketches."""
    found = []
    for first in range(0, len(sketches), 16):
        some = torch.from_numpy(np.stack(sketches[first : first + 16]))[:, None].to(device)
        found.append([m.float().cpu() for m in net.encode(some.float() / 127.5 - 1)])
    mean, log_variance = (torch.cat(m) for m in zip(*found, strict=True))
    return mean, log_variance


def gaps_of(net: nn.Module, domains: list[list[np.ndarray]], device: torch.device) -> list[str]:
    """The domain gap of the means and of samples under a fixed seed, over the seeds of the classifier."""
    found = [moments(net, sketches, device) for sketches in domains]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # once: the domains must not share their noise
        samples = [sample_gaussian(*(m.repeat(DRAWS, 1, 1, 1) for m in both)) for both in found]
    kinds = ([mean.to(device) for mean, _ in found], [sample.to(device) for sample in samples])
    return [said([domain_gap(*sets, seed=seed) for seed in range(SEEDS)]) for sets in kinds]


def said(gaps: list[DomainGap]) -> str:
    accuracies, entropies = zip(*gaps, strict=True)
    mean, spread_of = statistics.mean, statistics.stdev
    return f"{mean(accuracies):.3f} +- {spread_of(accuracies):.3f}, {mean(entropies):.2g} nats"


def rank_one(fakes: list[np.ndarray], reals: list[np.ndarray], frame: Frame) -> float:
    """How often the nearest real photo, by LightCNN, is the right person's."""
    embed, matrix = load_embedder("lightcnn"), similarity(frame.eyes(), CUFS.eyes())
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


def common_frame(datasets: list[Path]) -> Frame:
    """The frame that all of the faces are in."""
    names = {str(dataset): frame_of(dataset) for dataset in datasets}
    first, *others = set(names.values())
    if others or first is None:
        found = ", ".join(f"{dataset} {name or 'not aligned'}" for dataset, name in names.items())
        raise DataError(f"all datasets must be in one frame: prepare them with the same --align ({found})")
    return FRAMES[first]


def words(interval: Interval) -> str:
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*interval)


def against(name: str, found: dict[str, Measurements]) -> None:
    """Of every run's difference to the run `name` the mean over the images, and its paired bootstrap interval."""
    print(f"less {name}, and the 95 % interval of the difference over the images:")
    control = found[name].per_image
    for run, measured in found.items():
        if run == name:
            continue
        intervals = (
            f"{metric} {words(mean_interval(values - control[metric]))}"
            for metric, values in measured.per_image.items()
        )
        print(f"{run:24s}" + "  ".join(intervals))


def compare(args: argparse.Namespace) -> None:
    runs = {named.rpartition("=")[0] or Path(named).name: named.rpartition("=")[2] for named in args.runs}
    if args.against and args.against not in runs:
        raise UsageError(f"--against {args.against}: is none of the runs {', '.join(runs)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frame = common_frame(args.source + args.target)
    test = [e.load() for e in listed(args.target, "test", args.subset)[: args.limit]]
    source = [e.load() for e in spread(listed(args.source, "train"), MOST)]
    hand, held = listed(args.target, "train", of=list_sketches), listed(args.source, "val", of=list_sketches)
    domains = [
        [e.sketch for e in source],
        *([e.load_sketch() for e in spread(stored, MOST)] for stored in (hand, held)),
        [e.sketch for e in test],
    ]
    reals = [e.photo for e in test]
    rows = trivial(source, test)
    gaps: dict[str, list[str]] = {}
    for name, run in runs.items():
        method, nets = load_run(Path(run))
        net = nets["sketch2photo"].to(device)
        rows[name] = synthesize_examples(method, net, test, "sketch2photo", device, style=method.styles[0])
        if method.name == "dagan":
            gaps[name] = gaps_of(net.net, domains, device)
    print(f"{len(test)} test sketches, {len(domains[0])} source pairs, {len(domains[1])} target sketches")
    columns = ("L_p", "L_p sum", "PSNR", "SSIM", "LPIPS", "rank-1", "domain of means", "domain of samples")
    print(HEAD.format("", *columns))
    features = 256 * (frame.height // 4) * (frame.width // 4)  # of relu3_4: what Eq. 4 sums over
    found: dict[str, Measurements] = {}
    for name, fakes in rows.items():
        found[name] = measure(fakes, reals, geometry="native", metrics=METRICS, device=device)
        distance, *others = (found[name].per_image[metric].mean() for metric in METRICS)
        gap = gaps.get(name, ["", ""])
        print(
            ROW.format(name, distance, distance * features, *others, rank_one(fakes, reals, frame), *gap),
            flush=True,
        )
    if args.against:
        against(args.against, found)
    if args.sheet:
        shown = np.linspace(0, len(test) - 1, min(20, len(test))).astype(int)
        pictures = [rows["the sketch itself"], *list(rows.values())[3:], reals]
        write_image(
            np.concatenate([np.concatenate([c[i] for i in shown], axis=1) for c in pictures]), args.sheet
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
    measured.add_argument("--against", metavar="NAME", help="the run that the others are held against")
    measured.add_argument("--sheet", type=Path, metavar="PNG", help="twenty results side by side")
    measured.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
