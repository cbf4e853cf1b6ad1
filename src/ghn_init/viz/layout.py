"""The layout of a tree of units: every box by itself, in layers, inner boxes first; then all of it in one plane.

A wire crosses the border of a box at a port: one for each node whose results enter or leave. Units that just follow each
other in a box are one item of its layers, so that branches of different lengths stand close beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ghn_init.viz.coordinates import across
from ghn_init.viz.layers import LANE, Item, Layers, Wire, layers
from ghn_init.viz.measure import width
from ghn_init.viz.placed import HEADER, MARK, OUT, PADDING, SHEETS, Edge, Placed, Point, gap, heights, widen
from ghn_init.viz.rows import HEIGHT, Row
from ghn_init.viz.tree import Unit


def placed(unit: Unit, edges: Sequence[Edge], rows: Mapping[Unit, Row], order: Mapping[int, int] | None = None) -> Placed:
    """Lays out a unit.

    Args:
        unit: A tree.
        edges: Between drawn nodes, those that touch it.
        rows: For each unit without children what is written on it.
        order: Of the nodes outside whose results enter, from left to right where there is no reason for another one.
    """
    if not unit.children:
        row = rows[unit]
        inside = set(row.nodes)
        ins, outs = {a: 0.0 for a, b in edges if a not in inside}, {a: 0.0 for a, b in edges if a in inside and b not in inside}
        return Placed(unit, row.least, HEIGHT, row.least / 2, ins, outs, row)
    return _Box(unit, edges, rows, order or {}).placed()


class _Box:
    """The layout of one box."""

    def __init__(self, unit: Unit, edges: Sequence[Edge], rows: Mapping[Unit, Row], order: Mapping[int, int]) -> None:
        self.unit, self.root = unit, not unit.path
        self.head, self.sheets = (0.0 if self.root else HEADER), (SHEETS if unit.count > 1 else 0.0)
        self.home = {k: c for c, child in enumerate(unit.children) for row in child.rows() for k in rows[row].nodes}
        touching: list[list[Edge]] = [[] for _ in unit.children]
        self.targets: dict[int, list[int]] = {}  # node → where its results go: children, OUT
        for a, b in edges:
            ends = self.home.get(a, OUT), self.home.get(b, OUT)
            for end in {end for end in ends if end != OUT}:
                touching[end].append((a, b))
            if ends[0] != ends[1] and ends[1] not in (found := self.targets.setdefault(a, [])):
                found.append(ends[1])
        self.entering = sorted((a for a in self.targets if a not in self.home), key=lambda a: order.get(a, -a))
        self.leaving = sorted((a for a, ends in self.targets.items() if OUT in ends), reverse=True)
        self.inner: list[Placed] = []
        for child, some in zip(unit.children, touching, strict=True):
            self.inner.append(placed(child, some, rows, self._order(some)))
        self.chains = self._chains()
        self.chain_of = {c: k for k, chain in enumerate(self.chains) for c in chain}
        self.pieces: dict[tuple[int, int], list[Point]] = {}

    def placed(self) -> Placed:
        """The box, with what it holds."""
        for chain in self.chains:
            widen([self.inner[c] for c in chain])
        first = len(self.entering)  # items: ports above, chains, ports below
        port = Item(LANE, LANE, 0)
        items = [port] * first + [self._item(chain) for chain in self.chains] + [port] * len(self.leaving)
        wires, ways = self._wires(first)
        found = layers(items, wires, first, len(self.leaving))
        x = across(found)
        tops, bottoms = heights(found, x)
        shift_x, width_ = self._frame(found, x)
        shift_y = self.head + (0.0 if self.entering or self.root else PADDING)
        height = bottoms[-1] + shift_y + (0.0 if self.leaving or self.root else PADDING) + self.sheets
        corners: dict[int, Point] = {}
        for k, chain in enumerate(self.chains):
            v = first + k
            rank = found.rank_of[v]
            y = tops[rank] + (bottoms[rank] - tops[rank] - items[v].height) / 2
            self._stack(chain, x[v] + shift_x, y + shift_y, corners)
        boxes = [(self.inner[c], *corners[c]) for c in range(len(self.inner))]
        self._trace(found, x, tops, bottoms, ways, (shift_x, shift_y), corners, height)
        ports = {a: x[k] + shift_x for k, a in enumerate(self.entering)}
        exits = {a: x[first + len(self.chains) + k] + shift_x for k, a in enumerate(self.leaving)}
        axis = next(iter([*ports.values(), *exits.values(), width_ / 2]))
        ins, outs = ({a: p - axis for a, p in some.items()} for some in (ports, exits))
        return Placed(self.unit, width_, height, axis, ins, outs, None, boxes, self.pieces)

    def _order(self, edges: Iterable[Edge]) -> dict[int, int]:
        """Of nodes whose results enter a child: the later units' first, and as they leave these; then from outside."""
        inside = {a for a, _ in edges if self.home.get(a, len(self.inner)) < len(self.inner)}
        ordered = sorted(inside, key=lambda a: (-self.home[a], self.inner[self.home[a]].outs[a]))
        return {a: k for k, a in enumerate([*ordered, *self.entering])}

    def _chains(self) -> list[list[int]]:
        """Children that have one follower, which follows nothing else, stand in one item with it."""
        outs: list[set[int]] = [set() for _ in self.inner]
        ins: list[set[tuple[bool, int]]] = [set() for _ in self.inner]
        for a, ends in self.targets.items():
            source = self.home.get(a, OUT)
            for end in ends:
                if source != OUT:
                    outs[source].add(end)
                if end != OUT:
                    ins[end].add((source == OUT, a if source == OUT else source))
        chains: list[list[int]] = []
        tail: dict[int, list[int]] = {}
        for c in range(len(self.inner)):
            (foreign, before), *more = ins[c] or {(True, 0)}
            if not foreign and not more and outs[before] == {c}:
                chain = tail.pop(before)
                chain.append(c)
            else:
                chain = [c]
                chains.append(chain)
            tail[c] = chain
        return chains

    def _item(self, chain: Sequence[int]) -> Item:
        inner = [self.inner[c] for c in chain]
        height = sum(p.height for p in inner) + sum(gap(above, p) for above, p in pairwise(inner))
        return Item(max(p.axis for p in inner), max(p.width - p.axis for p in inner), height)

    def _wires(self, first: int) -> tuple[list[Wire], list[tuple[int, list[int]]]]:
        """Wires between items, and for each its node and where it goes: children and OUT, as its targets."""
        wires, ways = [], []
        for a in sorted(self.targets):
            source = self.home.get(a, OUT)
            if source == OUT:
                wire = Wire(self.entering.index(a), 0.0)
            else:
                wire = Wire(first + self.chain_of[source], self.inner[source].outs[a])
            ends = []
            for end in sorted(self.targets[a]):
                if end == OUT:
                    wire.targets.append((first + len(self.chains) + self.leaving.index(a), 0.0))
                elif source == OUT or self.chain_of[source] != self.chain_of[end]:
                    wire.targets.append((first + self.chain_of[end], self.inner[end].ins[a]))
                else:
                    continue
                ends.append(end)
            if ends:
                wires.append(wire)
                ways.append((a, ends))
        return wires, ways

    def _frame(self, found: Layers, x: list[float]) -> tuple[float, float]:
        """What to add to every axis, and the box's width."""
        left = min((x[v] - item.left for v, item in enumerate(found.items)), default=0.0)
        right = max((x[v] + item.right for v, item in enumerate(found.items)), default=0.0)
        inner = right - left
        if not self.root:
            inner = max(inner + 2 * PADDING, width(self.unit.title) + 2 * PADDING + MARK)
        total = float(2 * -(-inner // 2))
        return round((total - (right - left)) / 2 - left), total + self.sheets

    def _stack(self, chain: Sequence[int], axis: float, y: float, corners: dict[int, Point]) -> None:
        """Puts the units of a chain below each other, and joins them."""
        for before, c in zip([None, *chain], chain, strict=False):
            here = self.inner[c]
            if before is not None:
                above = self.inner[before]
                start, y = y, y + gap(above, here)
                for a, offset in above.outs.items():
                    self.pieces[a, c] = [(axis + offset, start), (axis + here.ins[a], y)]
            corners[c] = axis - here.axis, y
            y += here.height

    def _trace(
        self,
        found: Layers,
        x: list[float],
        tops: list[float],
        bottoms: list[float],
        ways: list[tuple[int, list[int]]],
        shift: Point,
        corners: dict[int, Point],
        height: float,
    ) -> None:
        """Writes down the ways of wires between items."""
        dx, dy = shift
        for (a, ends), passes in zip(ways, found.through, strict=True):
            source = self.home.get(a, OUT)
            if source == OUT:
                start, rank = (x[self.entering.index(a)] + dx, 0.0), 0
            else:
                here = self.inner[source]
                start = corners[source][0] + here.axis + here.outs[a], corners[source][1] + here.height
                rank = found.rank_of[len(self.entering) + self.chain_of[source]]
            way: list[Point] = [start, (start[0], bottoms[rank] + dy)]
            reached = {rank: len(way)}
            for r, v in passes.items():
                way += [(x[v] + dx, tops[r] + dy), (x[v] + dx, bottoms[r] + dy)]
                reached[r] = len(way)
            for end in ends:
                if end == OUT:
                    v = len(self.entering) + len(self.chains) + self.leaving.index(a)
                    last = [(x[v] + dx, tops[found.rank_of[v]] + dy), (x[v] + dx, height)]
                else:
                    v = len(self.entering) + self.chain_of[end]
                    port = corners[end][0] + self.inner[end].axis + self.inner[end].ins[a]
                    last = [(port, tops[found.rank_of[v]] + dy), (port, corners[end][1])]
                self.pieces[a, end] = [*way[: reached[found.rank_of[v] - 1]], *last]
