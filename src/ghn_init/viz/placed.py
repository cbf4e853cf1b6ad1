"""A unit with a size: what is known of it when the box around it is laid out, and the room between two of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ghn_init.viz.layers import Layers
from ghn_init.viz.rows import Row
from ghn_init.viz.tree import Unit

GAP = 12.0
"""Pixels between what follows each other."""
STEEP = 0.12
"""Pixels more between ranks for each pixel that a wire moves sideways there."""
WIDEST_GAP = 60.0
HEADER = 20.0
PADDING = 10.0
MARK = 16.0
"""Pixels at the end of a title for the sign that says whether the box is open."""
SHEETS = 6.0
"""Pixels to the right of folded blocks, and below them, for what looks like more of them."""
OUT = -1
"""Target of a wire that leaves a box."""

Point = tuple[float, float]
Edge = tuple[int, int]


@dataclass(eq=False, slots=True)
class Placed:
    """A unit with a size, and all that it holds at offsets from its upper left corner.

    Attributes:
        axis: Pixels from its left side to what stands above and below it.
        ins: For each node outside whose results enter, where they do, from the axis.
        outs: Likewise for nodes inside.
        row: What is written on it, for a row.
        inner: (unit, x, y) of what a box holds.
        pieces: (node, index in `inner` or `OUT`) → the way of a wire in a box.
    """

    unit: Unit
    width: float
    height: float
    axis: float
    ins: dict[int, float] = field(default_factory=dict)
    outs: dict[int, float] = field(default_factory=dict)
    row: Row | None = None
    inner: list[tuple[Placed, float, float]] = field(default_factory=list)
    pieces: dict[tuple[int, int], list[Point]] = field(default_factory=dict)


def gap(above: Placed, below: Placed) -> float:
    """Pixels between two units of a chain."""
    return room(abs(offset - below.ins[a]) for a, offset in above.outs.items())


def room(moves: Iterable[float]) -> float:
    """Pixels from one unit to the next, for wires that move sideways by so many."""
    return round(min(GAP + STEEP * max(moves, default=0.0), WIDEST_GAP), 1)


def widen(chain: Iterable[Placed]) -> None:
    """Rows with parameters in a chain are as wide as the widest of them."""
    named = [p for p in chain if p.row is not None and p.row.named]
    widest = max((p.width for p in named), default=0.0)
    for p in named:
        p.width, p.axis = widest, widest / 2


def heights(found: Layers, x: list[float]) -> tuple[list[float], list[float]]:
    """Where each rank begins and ends, from the top."""
    tops, bottoms, y = [], [], 0.0
    for k, rank in enumerate(found.ranks):
        if k:
            y += room(abs(x[u] + theirs - x[v] - own) for v in rank for u, theirs, own in found.up[v])
        tops.append(round(y, 1))
        y += max((found.items[v].height for v in rank), default=0.0)
        bottoms.append(round(y, 1))
    return tops, bottoms
