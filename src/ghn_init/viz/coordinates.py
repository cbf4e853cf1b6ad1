"""Places of vertices from left to right: what follows each other stands on one axis, and wires that pass are straight.

Source: the alignment in blocks of Brandes & Köpf, "Fast and simple horizontal coordinate assignment", 2001, to one side, and
then every block moves to the middle of what it is linked to as far as there is room.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import pairwise
from statistics import median

from ghn_init.viz.layers import Layers

SPACE = 16.0
"""Pixels between two items."""
BETWEEN_LANES = 0.0
LONGEST = (10**9, 16, 4, 1)
"""Vertices of a column: straight columns next to each other make a picture wide, and then are cut."""
WASTE = 2.0
"""Widths of the widest rank that a picture may have before they are."""
SETTLING = 6
"""How often blocks move."""


def across(found: Layers) -> list[float]:
    """The axis of each vertex, in pixels from the left."""
    widest = max(sum(found.items[v].left + found.items[v].right + SPACE for v in rank) for rank in found.ranks)
    for longest in LONGEST:
        x = _settled(found, _blocks(found, longest))
        if max(x) - min(x) <= WASTE * widest:
            break
    return x


def _settled(found: Layers, block: list[int]) -> list[float]:
    """As far left as there is room, then where most links are straight."""
    members: dict[int, list[int]] = {}
    for v, head in enumerate(block):
        members.setdefault(head, []).append(v)
    after = _constraints(found, block)
    before: dict[int, dict[int, float]] = {b: {} for b in members}
    for b, others in after.items():
        for other, distance in others.items():
            before[other][b] = distance
    x = {b: max(found.items[v].left for v in vs) for b, vs in members.items()}
    order, least, wishes = _sorted(members, after), dict(x), _links(found, block, members)
    for b in order:
        x[b] = max([x[b], *(x[other] + distance for other, distance in before[b].items())])
    for sweep in range(SETTLING):
        for b in reversed(order) if sweep % 2 == 0 else order:
            low = max([least[b], *(x[other] + distance for other, distance in before[b].items())])
            high = min((x[other] - distance for other, distance in after[b].items()), default=float("inf"))
            if wishes[b]:
                x[b] = min(max(median(x[other] + shift for other, shift in wishes[b]), low), high)
    return [float(round(x[b])) for b in block]


def _blocks(found: Layers, longest: int) -> list[int]:
    """For each vertex the first of its block: a column of at most `longest` vertices, linked from rank to rank."""
    head, used, length = list(range(len(found.items))), [False] * len(found.items), [1] * len(found.items)
    for upper, lower in pairwise(found.ranks):
        above = {v: k for k, v in enumerate(upper)}
        pairs: list[tuple[int, int]] = []  # places of what is aligned; none cross
        for kind in range(3):
            for k, v in enumerate(lower):
                if head[v] != v:
                    continue
                links = [u for u, _, _ in found.up[v] if _kind(u >= found.num_items, v >= found.num_items) == kind]
                links.sort(key=above.__getitem__)
                for u in links[(len(links) - 1) // 2 : len(links) // 2 + 1]:
                    if not used[u] and length[u] < longest and _fits(pairs, above[u], k):
                        insort(pairs, (above[u], k))
                        head[v], used[u], length[v] = head[u], True, length[u] + 1
                        break
    return head


def _kind(upper_passes: bool, lower_passes: bool) -> int:
    """Wires that pass are straight first of all, then come items below each other, then a wire's ends."""
    if upper_passes and lower_passes:
        return 0
    return 2 if upper_passes or lower_passes else 1


def _fits(pairs: list[tuple[int, int]], u: int, v: int) -> bool:
    """Whether a pair crosses none of those that there are."""
    place = bisect_left(pairs, (u, v))
    return (place == 0 or pairs[place - 1][1] < v) and (place == len(pairs) or pairs[place][1] > v)


def _constraints(found: Layers, block: list[int]) -> dict[int, dict[int, float]]:
    """Block → blocks to its right → how far their axes are apart at least."""
    apart: dict[int, dict[int, float]] = {b: {} for b in block}
    for rank in found.ranks:
        for u, v in pairwise(rank):
            space = SPACE if u < found.num_items and v < found.num_items else BETWEEN_LANES
            distance = found.items[u].right + space + found.items[v].left
            apart[block[u]][block[v]] = max(apart[block[u]].get(block[v], 0.0), distance)
    return apart


def _sorted(members: dict[int, list[int]], apart: dict[int, dict[int, float]]) -> list[int]:
    """Blocks from left to right; alignments don't cross, so there is such an order."""
    waiting = dict.fromkeys(members, 0)
    for others in apart.values():
        for other in others:
            waiting[other] += 1
    order = [b for b, count in waiting.items() if count == 0]
    for b in order:  # grows
        for other in apart[b]:
            waiting[other] -= 1
            if waiting[other] == 0:
                order.append(other)
    assert len(order) == len(members)
    return order


def _links(found: Layers, block: list[int], members: dict[int, list[int]]) -> dict[int, list[tuple[int, float]]]:
    """Block → what its axis would have to be for each link to another block: that block, and the offset."""
    wishes: dict[int, list[tuple[int, float]]] = {b: [] for b in members}
    for b, vs in members.items():
        for v in vs:
            for links in (found.up[v], found.down[v]):
                wishes[b] += [(block[u], theirs - own) for u, theirs, own in links if block[u] != b]
    return wishes
