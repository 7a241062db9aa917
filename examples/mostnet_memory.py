"""Does the memory of a MOST-Net run work as one? Figures as JSON, and a sheet of pictures.

    python examples/mostnet_memory.py RUN DATASET --out DIR [--split test] [--count 6] [--checkpoint last]

memory.json: how many slots the split's photos choose as keys and its sketches as values, how evenly (perplexity),
how many the last updates of the training chose as keys (the longest count is of all updates if a key never was),
how often both choose one slot (agreement), the attention's entropy, and how much of the variance of the real sketch
features the reading explains, at the run's temperature and at sharper ones, beside what the hard choice explains and
what the values could at best. Places where photo and sketch are both blank, as in the margin of pad256, do not count.

memory.png, a column per face: photo; the slot of each place, a colour per slot; the sketch drawn by reading alone,
without reading, and as it is; the real sketch.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from silverpoint.data.batches import still
from silverpoint.data.pairs import read_split
from silverpoint.methods.mostnet import MOSTNet, Recall
from silverpoint.nets.memory import MemoryDictionary, perplexity, rows, slot_counts
from silverpoint.training.export import load_run

TEMPERATURES = (1.0, 0.3, 0.1, 0.03, 0.01)
UPDATES = (1, 10, 100, 1000, 10000)


def unexplained(
    recall: Recall, memory: MemoryDictionary, temperatures: tuple[float, ...]
) -> dict[str, float]:
    """Squared error of each way to guess the sketch features of a pair, summed over shown places and channels."""
    shown, values = recall.shown.flatten(), memory.values
    sketch, keys = rows(recall.sketch_features)[shown], recall.key_cosines[shown]
    guesses = {f"reading at {t:g}": torch.softmax(keys / t, -1) @ values for t in temperatures}
    guesses["the value of the chosen key"] = values[keys.argmax(-1)]
    guesses["at best, the value the sketch chooses"] = values[recall.value_cosines[shown].argmax(-1)]
    return {name: float((guess - sketch).square().sum()) for name, guess in guesses.items()}


def slot_colours(choice: Tensor, slots: int, height: int, width: int) -> np.ndarray:
    """(h, w) choices as an (height, width, 3) picture, a colour per slot."""
    palette = np.random.default_rng(0).integers(40, 256, (slots, 3)).astype(np.uint8)
    picture = Image.fromarray(palette[choice.numpy()])
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))


def pixels(image: Tensor) -> np.ndarray:
    """(1, C, H, W) in [-1, 1] as (H, W, 3) uint8."""
    return ((image[0].expand(3, -1, -1).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=6, help="faces in the sheet")
    parser.add_argument("--checkpoint", default="last")
    args = parser.parse_args()

    method, _ = load_run(args.run, args.checkpoint)
    if not isinstance(method, MOSTNet):
        parser.error(f"{args.run} is a run of {method.name}, not of mostnet")
    method.eval()
    memory, settings = method.generator.memory, method.settings
    temperatures = tuple(sorted({settings.temperature, *TEMPERATURES}, reverse=True))
    examples = read_split(args.dataset, args.split)
    shown = set(np.linspace(0, len(examples) - 1, min(args.count, len(examples))).astype(int))

    key_counts = value_counts = torch.zeros(settings.slots, dtype=torch.int64)
    figures: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    features, columns = [], []
    for number, example in enumerate(examples):
        example = replace(example, style=method.styles[0])  # which a MOST-Net does not see
        batch, undo = still(example, method.styles, framing=settings.framing, fill=settings.fill, multiple=4)
        recall = method.recall(batch)
        inside = recall.shown.flatten()
        choice, value_choice = recall.key_cosines.argmax(-1), recall.value_cosines.argmax(-1)
        key_counts = key_counts + slot_counts(choice[inside], settings.slots)
        value_counts = value_counts + slot_counts(value_choice[inside], settings.slots)
        found = {f"attention entropy at {t:g}": recall.attention_entropy(t) for t in temperatures}
        found["agreement"] = recall.agreement()
        found["sketch without reading, L1 in grey levels"] = 127.5 * recall.without_reading_l1()
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
        for name, value in unexplained(recall, memory, temperatures).items():
            errors[name] = errors.get(name, 0.0) + value
        sketch = rows(recall.sketch_features)[inside]
        features.append(
            torch.stack([sketch.sum(0), sketch.square().sum(0), torch.full_like(sketch[0], len(sketch))])
        )
        if number in shown:
            h, w = recall.photo_features.shape[2:]
            images = [batch.photo, recall.reading_alone, recall.without_reading, recall.sketch, batch.sketch]
            pictures = [pixels(undo(image)) for image in images]
            slots = slot_colours(choice.view(h, w), settings.slots, 4 * h, 4 * w)
            slots = undo(torch.from_numpy(slots.copy()).permute(2, 0, 1)[None].float())[0].byte()
            pictures.insert(1, slots.permute(1, 2, 0).numpy())
            columns.append(np.concatenate(pictures))

    total, squares, count = torch.stack(features).double().sum(0)
    variance = float((squares - total.square() / count).sum())
    longest = max(1, int(memory.idle.max()))
    report = {
        "slots": settings.slots,
        "slots chosen as keys": int((key_counts > 0).sum()),
        "slots chosen as values": int((value_counts > 0).sum()),
        "perplexity of the keys": perplexity(key_counts),
        "perplexity of the values": perplexity(value_counts),
        "slots chosen as keys in the last N updates of the training": {
            n: int((memory.idle < n).sum()) for n in sorted({min(n, longest) for n in UPDATES})
        },
        **{name: float(np.mean(values)) for name, values in figures.items()},
        "variance of the sketch features explained by": {n: 1 - e / variance for n, e in errors.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memory.json").write_text(json.dumps(report, indent=2) + "\n")
    Image.fromarray(np.concatenate(columns, axis=1)).save(args.out / "memory.png")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
