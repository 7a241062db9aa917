"""How much is drawn of what is not the person: ink on paper that should be bare, and on the person, by model.

    python benchmarks/bare_paper.py fs2k/ pencil other.onnx --split val --style cufs

Ink is 1 - grey / 250, in per cent: beyond 8 pixels around the person, and 4 within. Photos are drawn at their own size.
The dataset folder needs its priors (`silverpoint prepare ... --priors saliency layout`), the models none.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from silverpoint.data.pairs import read_split
from silverpoint.synthesis.model import open_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("models", nargs="+", help="model files, or the name of one that ships")
    parser.add_argument("--split", default="val")
    parser.add_argument("--subset")
    parser.add_argument("--style", help="the hand (default: each model's own)")
    args = parser.parse_args()
    examples = read_split(args.dataset, args.split, args.subset)
    if lacking := [e.id for e in examples if e.person is None]:
        parser.error(f"{args.dataset}: {lacking[0]} has no priors; prepare it with --priors saliency layout")
    print(f"{len(examples)} photos     beyond: mean  median  worst five             on the person")
    for name in args.models:
        model = open_model(name)
        beyond, on = [], []
        for e in examples:
            ink = np.clip(1 - model.draw(e.photo[None], args.style)[0] / 250, 0, 1)
            person = Image.fromarray(e.person)
            outside = 1 - np.asarray(person.filter(ImageFilter.MaxFilter(17))) / 255
            inside = np.asarray(person.filter(ImageFilter.MinFilter(9))) / 255
            beyond.append(100 * float((outside * ink).sum() / max(1, outside.sum())))
            on.append(100 * float((inside * ink).sum() / max(1, inside.sum())))
        worst = " ".join(f"{value:.1f}" for value in sorted(beyond)[-5:])
        print(
            f"{name:20s} {np.mean(beyond):7.2f} {np.median(beyond):7.2f}  {worst:24s} {np.mean(on):6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
