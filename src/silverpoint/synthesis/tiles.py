"""Cut a drawing too large for memory into overlapping tiles that give the very same drawing.

A network without instance norm is local: a pixel of the sketch depends on the photograph within the receptive
radius only. A tile that reads `margin` pixels (at least that radius) beyond the part it keeps therefore draws
that part as the untiled network does, and there is no seam to hide. Tiles start and end on the network's
stride grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """One tile along one axis, in pixels: reads [start, stop), keeps [keep_start, keep_stop)."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def read(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def keep(self) -> slice:
        return slice(self.keep_start, self.keep_stop)

    @property
    def inner(self) -> slice:
        """The kept part within the tile that was read."""
        return slice(self.keep_start - self.start, self.keep_stop - self.start)


def spans(length: int, count: int, multiple: int, margin: int) -> list[Span]:
    """`length` pixels (a multiple of `multiple`) in at most `count` tiles of nearly equal kept length."""
    kept = math.ceil(length / count / multiple) * multiple
    margin = math.ceil(margin / multiple) * multiple
    return [
        Span(max(0, at - margin), min(length, at + kept + margin), at, min(length, at + kept))
        for at in range(0, length, kept)
    ]


def grid(height: int, width: int, multiple: int, margin: int, budget: int) -> Iterator[tuple[Span, Span]]:
    """The (rows, columns) spans of the cheapest grid whose tiles each read at most `budget` pixels.

    Where even the smallest tile is over the budget (a margin too large for it) the grid of the smallest tiles
    is used.
    """
    best: tuple[list[Span], list[Span]] | None = None
    best_cost = (True, math.inf)
    for n_rows in range(1, math.ceil(height / multiple) + 1):
        rows = spans(height, n_rows, multiple, margin)
        tallest = max(row.stop - row.start for row in rows)
        columns = _columns(width, multiple, margin, budget // tallest)
        widest = max(column.stop - column.start for column in columns)
        read = sum(row.stop - row.start for row in rows) * sum(c.stop - c.start for c in columns)
        over = tallest * widest > budget
        cost = (over, tallest * widest if over else read)
        if cost < best_cost:
            best, best_cost = (rows, columns), cost
        if len(rows) > 1 and not over and read > 2 * best_cost[1]:
            break  # thinner rows only read more of their neighbours
    assert best is not None
    rows, columns = best
    for row in rows:
        for column in columns:
            yield row, column


def _columns(width: int, multiple: int, margin: int, widest: int) -> list[Span]:
    """The fewest columns none of which reads more than `widest` pixels, or the narrowest there are."""
    for count in range(1, math.ceil(width / multiple) + 1):
        columns = spans(width, count, multiple, margin)
        if max(column.stop - column.start for column in columns) <= widest:
            break
    return columns
