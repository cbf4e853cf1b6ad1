"""Repeated blocks are folded: a run of neighbours of equal structure is drawn once, with "× 12".

Neighbours are equal if they have the same primitives, shapes, names and edges inside of them, and each reads the one before
it. How many channels come from outside does not count: dense blocks read more and more. Folds are nested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ghn_init.viz.modules import neighbours
from ghn_init.viz.tree import Unit

if TYPE_CHECKING:
    from ghn_init.graph import Graph

LEAST_SAVED = 3
"""Rows; two equal layers are as quickly read as a fold of them."""
LONGEST_PERIOD = 8
"""Units that a block may consist of where it is no module of its own."""


class Folding:
    """Finds blocks that repeat.

    Args:
        graph: The graph.
        whole: Keep all blocks, in a unit of their own, instead of the first.
    """

    def __init__(self, graph: Graph, whole: bool = False) -> None:
        self.whole = whole
        self.nodes, (_, self.inputs) = graph.nodes, neighbours(graph)

    def folded(self, unit: Unit) -> Unit:
        """The same tree with repeated blocks folded, inner ones first."""
        if not unit.children:
            return unit
        units = [self.folded(child) for child in unit.children]
        return replace(unit, children=list(self._runs(units)))

    def _runs(self, units: Sequence[Unit]) -> Iterator[Unit]:
        marks = [self._structure([unit]) for unit in units]
        start = 0
        while start < len(units):
            repeats, period = max((self._repeats(units, marks, start, p), -p) for p in range(1, LONGEST_PERIOD + 1))
            period = -period
            block = units[start : start + period]
            saved = (repeats // period - 1) * sum(1 for unit in block for _ in unit.rows())
            if saved < LEAST_SAVED:
                yield units[start]
                start += 1
            else:
                make = bundle if self.whole else fold
                yield make(units[start : start + repeats], period)
                start += repeats

    def _repeats(self, units: Sequence[Unit], marks: Sequence[Any], start: int, period: int) -> int:
        """How many units from `start` on are repetitions of the first `period` of them; 0 for none."""
        end = start + period
        while end + period <= len(units) and marks[end : end + period] == marks[start : start + period]:
            previous, block = units[end - period : end], units[end : end + period]
            if not self._reads(block, previous):
                break
            if period > 1 and self._structure(block) != self._structure(previous):
                break
            end += period
        return end - start if end > start + period else 0

    def _reads(self, block: Sequence[Unit], previous: Sequence[Unit]) -> bool:
        """Whether a block computes from the one before it."""
        before = range(previous[0].nodes.start, previous[-1].everything.stop)
        return any(i in before for unit in block for k in unit.everything for i in self.inputs[k])

    def _structure(self, units: Sequence[Unit]) -> tuple[Any, ...]:
        """What has to be equal; all but the names of the units themselves."""
        start, stop = units[0].nodes.start, units[-1].everything.stop
        foreign: set[int] = set()  # nodes whose channels are those that come from outside
        marks = []
        for unit in units:
            for k in unit.everything:
                node, inside = self.nodes[k], [i for i in self.inputs[k] if i >= start]
                outside = all(i in foreign for i in inside)
                shape = node.shape
                if outside and shape is not None and node.primitive in ("bn", "ln", "conv"):
                    shape = (-1,) if node.primitive != "conv" else (shape[0], -1, *shape[2:])
                if outside and node.primitive != "conv" and "conv" not in node.primitive:
                    foreign.add(k)
                names = tuple(name.removeprefix(unit.path) if unit.children else "" for name in node.parameters)
                edges = tuple(i - start for i in inside), len(inside) < len(self.inputs[k])
                marks.append((node.primitive, shape, names, edges, node.head))
        assert len(marks) == stop - start
        return tuple(marks)


def fold(units: Sequence[Unit], period: int) -> Unit:
    """One unit for blocks of `period` units each."""
    first, last, block = units[0], units[-1], units[:period]
    nodes = range(first.nodes.start, block[-1].everything.stop)
    inner = first.children if period == 1 and len(first.children) > 1 and first.count == 1 else list(block)
    return Unit(between(first.name, last.name), first.path, nodes, list(inner), len(units) // period)


def bundle(units: Sequence[Unit], period: int) -> Unit:
    """One unit in which are all blocks of `period` units each."""
    blocks = [_block(units[k : k + period]) for k in range(0, len(units), period)]
    nodes = range(units[0].nodes.start, units[-1].nodes.stop)
    return Unit(between(units[0].name, units[-1].name), units[0].path, nodes, blocks, blocks=len(blocks))


def _block(units: Sequence[Unit]) -> Unit:
    if len(units) == 1:
        return units[0]
    nodes = range(units[0].nodes.start, units[-1].nodes.stop)
    return Unit(between(units[0].name, units[-1].name), units[0].path, nodes, list(units))


def between(first: str, last: str) -> str:
    """`blocks.0–11` for `blocks.0` and `blocks.11`."""
    words, others = first.split("."), last.split(".")
    shared = next((k for k, (a, b) in enumerate(zip(words, others, strict=False)) if a != b), 0)
    return f"{first}–{'.'.join(others[shared:])}"


def drawn_nodes(root: Unit, num_nodes: int) -> NDArray[np.int64]:
    """(N,) for each node the one that is drawn for it: of folded blocks the first's, of a collapsed module its first."""
    drawn = np.arange(num_nodes)
    for unit in root.boxes():
        if unit.count > 1:
            every = np.asarray(unit.everything)
            drawn[every] = unit.nodes.start + (every - unit.nodes.start) % len(unit.nodes)
    drawn = _settled(drawn)
    for row in root.rows():
        if row.collapsed:
            drawn[np.isin(drawn, np.asarray(row.everything))] = row.nodes.start
    return drawn


def _settled(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is drawn for what is drawn for each, until nothing changes; a node's is never after it."""
    while not np.array_equal(drawn, following := drawn[drawn]):
        drawn = following
    return drawn


def drawn_edges(root: Unit, edge_index: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The edges between drawn nodes, each once, without those between two blocks of one fold."""
    source, target = edge_index.copy()
    for unit in root.boxes():
        if unit.count > 1:
            start, size, stop = unit.nodes.start, len(unit.nodes), unit.everything.stop
            ins = [(start <= ends) & (ends < stop) for ends in (source, target)]
            blocks = [(ends - start) // size for ends in (source, target)]
            keep = ~(ins[0] & ins[1] & (blocks[0] != blocks[1]))
            source, target = (
                np.where(inside, start + (ends - start) % size, ends)[keep]
                for ends, inside in zip((source, target), ins, strict=True)
            )
    for row in root.rows():
        if row.collapsed:
            source, target = (
                np.where((row.nodes.start <= ends) & (ends < row.everything.stop), row.nodes.start, ends)
                for ends in (source, target)
            )
    return sorted({(int(i), int(j)) for i, j in zip(source, target, strict=True) if i != j})
