"""Which parts of a network lie on a path from its input to its output: nothing else is built.

`none` operations cut paths, and sums may be left out of the concatenation, so some operations, inputs of cells and whole
cells may compute nothing that arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ghn_init.deepnets.genotype import Edge


@dataclass(frozen=True)
class CellWiring:
    """What runs in one cell.

    Attributes:
        edges: Positions of the edges that run.
        inputs: Whether the outputs of the cell before the last one, and of the last one, are used.
        states: Which sum nodes have a value.
    """

    edges: tuple[int, ...]
    inputs: tuple[bool, bool]
    states: frozenset[int]


def wire(cells: Sequence[tuple[Sequence[Edge], Sequence[int]]]) -> list[CellWiring | None] | None:
    """What runs in each cell, None for a cell that nothing uses; None altogether where nothing arrives.

    Args:
        cells: Edges and concatenated states of each cell, first to last; the first two inputs both exist.
    """
    exists = [True, True]
    states: list[set[int]] = []
    for k, (edges, concat) in enumerate(cells):
        present = {s for s in (0, 1) if exists[k + s]}
        for position, (name, state) in enumerate(edges):
            if name != "none" and state in present:
                present.add(2 + position // 2)
        # A sum may be fed by an earlier sum only: edges are in order, so one pass is enough.
        states.append(present)
        exists.append(any(s in present for s in concat))
    if not exists[-1]:
        return None
    needed = [False] * (len(cells) + 1) + [True]
    wirings: list[CellWiring | None] = [None] * len(cells)
    for k in reversed(range(len(cells))):
        if not (needed[k + 2] and exists[k + 2]):
            continue
        wirings[k] = own = _wire_cell(*cells[k], states[k])
        needed[k] |= own.inputs[0]
        needed[k + 1] |= own.inputs[1]
    return wirings


def _wire_cell(edges: Sequence[Edge], concat: Sequence[int], present: set[int]) -> CellWiring:
    used = {s for s in concat if s in present}
    running = []
    for position in reversed(range(len(edges))):
        name, state = edges[position]
        if 2 + position // 2 in used and name != "none" and state in present:
            running.append(position)
            used.add(state)
    return CellWiring(tuple(sorted(running)), (0 in used, 1 in used), frozenset(s for s in used if s > 1))
