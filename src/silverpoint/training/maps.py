"""What teachers and students see, side by side: Fig. 4 of KT (Zhu et al., IJCAI 2019), from runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from silverpoint.data.batches import still
from silverpoint.data.pairs import Example
from silverpoint.errors import UsageError
from silverpoint.methods.kt import CORRESPONDENCE, KT
from silverpoint.training.export import load_run

TILE, TOP, GAP = 128, 40, 4


@dataclass(frozen=True)
class Row:
    """The six maps of one network, each (1, C, h, w), in the order of CORRESPONDENCE.

    A student's `distances` are the mean squared differences from its teachers' maps, over the mean squares of those:
    0 where it sees the same, 1 where it sees nothing.
    """

    name: str
    maps: Sequence[Tensor]
    distances: Sequence[float] = ()


def map_rows(runs: Sequence[Path], example: Example, checkpoint: str = "last") -> list[Row]:
    """The maps of one pair: the first run's teachers, then the two students of each run.

    Raises UsageError for a run of another method, RunError for a folder that is no run.
    """
    rows: list[Row] = []
    names = [run.name for run in runs]
    for run in runs:
        method, _ = load_run(run, checkpoint)
        if not isinstance(method, KT):
            raise UsageError(
                f"{run}: a run of {method.name}, which has no teachers; `silverpoint train kt` has"
            )
        s = method.settings
        batch, _ = still(
            example, (example.style,), framing=s.framing, fill=s.fill, multiple=method.ptos.size_multiple
        )
        name = run.name if names.count(run.name) == 1 else str(run)
        (_, teachers), *students = method.eval().maps(batch.photo, batch.sketch).items()
        rows = rows or [Row("Teachers", teachers)]
        for network, maps in students:
            pairs = zip(maps, teachers, strict=True)
            distances = [float((m - t).square().mean() / t.square().mean()) for m, t in pairs]
            rows.append(Row(f"{network}\n{name}", maps, distances))
    return rows


def map_sheet(rows: Sequence[Row]) -> np.ndarray:
    """The rows as one picture, (H, W, 3) uint8, heads and names included."""
    tiles = [[_tile(m[0]) for m in row.maps] for row in rows]
    height = max(tile.height for line in tiles for tile in line)
    font = ImageFont.load_default(13)
    left = 12 + round(max(font.getlength(line) for row in rows for line in row.name.splitlines()))
    size = (left + len(CORRESPONDENCE) * (TILE + GAP), TOP + len(tiles) * (height + GAP))
    sheet = Image.new("L", size, 255)
    draw = ImageDraw.Draw(sheet)
    for column, c in enumerate(CORRESPONDENCE):
        x = left + column * (TILE + GAP)
        draw.multiline_text((x, 4), f"{c.teacher} {c.layer}\n{c.ptos}, {c.stop}", 0, font)
        for number, line in enumerate(tiles):
            sheet.paste(line[column], (x, TOP + number * (height + GAP)))
    for number, row in enumerate(rows):
        draw.multiline_text((6, TOP + number * (height + GAP) + 6), row.name, 0, font)
    return np.asarray(sheet.convert("RGB"))


def _tile(features: Tensor) -> Image.Image:
    """(C, h, w) -> the mean over channels, the middle 98 % of its values from black to white: form, not strength."""
    mean = features.float().mean(0).cpu().numpy()
    low, high = np.percentile(mean, (1, 99))
    grey = ((mean - low) / max(high - low, 1e-8)).clip(0, 1) * 255
    h, w = grey.shape
    return Image.fromarray(grey.round().astype(np.uint8)).resize((TILE, round(TILE * h / w)))
