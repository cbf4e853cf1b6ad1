"""Layers: items joined by wires get ranks from top to bottom, and an order within each that crosses few wires.

Source: Sugiyama, Tagawa & Toda 1981; barycentres and best-of-sweeps as in Gansner et al., "A technique for drawing directed
graphs", 1993. A wire passes a rank that it has no end in as a vertex without a height, once for all of its targets.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 4
LANE = 7.0
"""Pixels on either side of a wire that passes a rank."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is placed: pixels to the left and to the right of its axis, and from top to bottom."""

    left: float
    right: float
    height: float


@dataclass(slots=True)
class Wire:
    """From one item to others, with the offsets of its ends from the items' axes in pixels."""

    source: int
    offset: float
    targets: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True)
class Layers:
    """Vertices (items, then wires that pass) in ranks, and the links between neighbouring ranks.

    Attributes:
        items: What each vertex takes.
        num_items: How many of them are items.
        ranks: Vertices from left to right, top to bottom.
        up: For each vertex, what it is linked to in the rank above: (vertex, its offset, own offset).
        down: Likewise below.
        through: For each wire, the vertices that it passes, by rank.
    """

    items: list[Item]
    num_items: int
    ranks: list[list[int]]
    up: list[list[tuple[int, float, float]]]
    down: list[list[tuple[int, float, float]]]
    through: list[dict[int, int]]
    rank_of: list[int]


def layers(items: Sequence[Item], wires: Sequence[Wire], tops: int, bottoms: int) -> Layers:
    """Ranks and orders.

    Args:
        items: In topological order; the first `tops` of them are alone in the first rank, the last `bottoms` in the last.
        wires: Between them.
        tops: How many.
        bottoms: How many.
    """
    rank_of = ranked(len(items), wires, tops, bottoms)
    found = Layers(list(items), len(items), [[] for _ in range(max(rank_of, default=0) + 1)], [], [], [], rank_of)
    for k, rank in enumerate(rank_of):
        found.ranks[rank].append(k)
    found.up, found.down = [[] for _ in items], [[] for _ in items]
    for wire in wires:
        _route(found, wire)
    _order(found)
    return found


def ranked(num_items: int, wires: Sequence[Wire], tops: int, bottoms: int) -> list[int]:
    """The rank of each item: below all that it reads, and not further up than it has to be where it reads little."""
    inputs: list[list[int]] = [[] for _ in range(num_items)]
    outputs: list[list[int]] = [[] for _ in range(num_items)]
    for wire in wires:
        for target, _ in wire.targets:
            inputs[target].append(wire.source)
            outputs[wire.source].append(target)
    ranks = [0 if k < tops else int(tops > 0) for k in range(num_items)]
    for k in range(tops, num_items):
        ranks[k] = max([ranks[k], *(ranks[i] + 1 for i in inputs[k])])
    last = max(ranks, default=0) + (0 if bottoms == 0 else 1)
    inner = num_items - bottoms
    ranks[inner:] = [last] * bottoms
    for k in range(inner - 1, tops - 1, -1):
        if len(set(inputs[k])) < len(set(outputs[k])) and not inputs[k]:
            ranks[k] = min(ranks[j] for j in outputs[k]) - 1
    return ranks


def _route(found: Layers, wire: Wire) -> None:
    """Adds the vertices and links of a wire."""
    start = found.rank_of[wire.source]
    by_rank: dict[int, int] = {start: wire.source}
    for rank in range(start + 1, max(found.rank_of[target] for target, _ in wire.targets)):
        by_rank[rank] = len(found.items)
        found.ranks[rank].append(len(found.items))
        found.items.append(Item(LANE, LANE, 0))
        found.rank_of.append(rank)
        found.up.append([])
        found.down.append([])
    ends = [(target, offset) for target, offset in wire.targets]
    for above, offset, below, own in [
        *((by_rank[r - 1], 0.0, v, 0.0) for r, v in by_rank.items() if r > start),
        *((by_rank[found.rank_of[target] - 1], 0.0, target, own) for target, own in ends),
    ]:
        offset = wire.offset if above == wire.source else 0.0
        found.down[above].append((below, own, offset))
        found.up[below].append((above, offset, own))
    del by_rank[start]
    found.through.append(by_rank)


def _order(found: Layers) -> None:
    """Reorders ranks by the mean place of what vertices are linked to, and keeps the best order that was seen."""
    best, fewest = [list(rank) for rank in found.ranks], crossings(found)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        downwards = sweep % 2 == 0
        links = found.up if downwards else found.down
        places = {v: float(k) for rank in found.ranks for k, v in enumerate(rank)}
        for rank in found.ranks if downwards else reversed(found.ranks):
            means = {v: sum(places[u] for u, _, _ in links[v]) / len(links[v]) if links[v] else places[v] for v in rank}
            rank.sort(key=lambda v: (means[v], v >= found.num_items))
            places.update((v, float(k)) for k, v in enumerate(rank))
        if (count := crossings(found)) < fewest:
            best, fewest = [list(rank) for rank in found.ranks], count
    found.ranks = best


def crossings(found: Layers) -> int:
    """How many pairs of links cross."""
    total = 0
    for upper, lower in pairwise(found.ranks):
        places = {v: k for k, v in enumerate(lower)}
        seen: list[int] = []
        for u in upper:
            ends = sorted(places[v] for v, _, _ in found.down[u])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total
