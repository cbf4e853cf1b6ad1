"""A long picture is cut into columns, as text is, where a single wire leads on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ghn_init.viz.drawing import Drawing
from ghn_init.viz.placed import Point

HIGH = 900.0
"""Pixels that fit a screen."""
MOST = 6
"""Columns."""
ASPECT = 1.5
"""Width to height of a good picture."""
GUTTER = 44.0
"""Pixels between columns, in the middle of which the wire goes up."""
TURN = 12.0
"""Pixels below a column to that wire."""
START = 18.0
"""Pixels from that wire to the top of a column."""


def in_columns(made: Drawing) -> Drawing:
    """The drawing in as many columns as fit a page best; itself where that is one."""
    if made.height <= HIGH:
        return made
    places = cuts(made)
    choices = {tuple(_chosen(places, made.height, count)) for count in range(1, MOST + 1)}
    best, least = made, max(made.width / ASPECT, made.height)
    for chosen in sorted(choices, key=len):
        other = _cut(made, chosen) if chosen else made
        if (size := max(other.width / ASPECT, other.height)) < 0.9 * least:
            best, least = other, size
    return best


def cuts(made: Drawing) -> list[float]:
    """Heights at which nothing but the wires of one node are, just below a unit."""
    outer = [here for here in made.rectangles if here.depth == 0]
    ends: dict[int, tuple[float, float]] = {}  # of the wires of a node
    for (a, _), points in made.edges.items():
        first, last = ends.get(a, (points[0][1], points[-1][1]))
        ends[a] = min(first, points[0][1]), max(last, points[-1][1])
    starts, stops = (sorted(end[k] for end in ends.values()) for k in (0, 1))
    tops, bottoms = sorted(here.y for here in outer), sorted(here.y + here.height for here in outer)
    found = []
    for y in sorted(set(bottoms)):
        wires = bisect_right(starts, y) - bisect_right(stops, y)
        inside = bisect_left(tops, y) - bisect_right(bottoms, y)
        if wires == 1 and inside == 0:
            found.append(y)
    return found


def _chosen(places: Sequence[float], height: float, count: int) -> list[float]:
    """The places next to even parts."""
    wished = [height * k / count for k in range(1, count)]
    return sorted({min(places, key=lambda place: abs(place - wish)) for wish in wished}) if places else []


def _cut(made: Drawing, places: Sequence[float]) -> Drawing:
    """The drawing in columns that begin at these heights."""
    spans = _spans(made, places)
    shifts, right = [], 0.0
    for left, stop in spans:
        shifts.append(right - left)
        right += stop - left + GUTTER
    starts = [min(here.y for here in made.rectangles if here.y >= top) for top in (0.0, *places)]
    lifts = [START - start for start in starts]

    def moved(k: int, point: Point) -> Point:
        return point[0] + shifts[k], point[1] + lifts[k]

    rectangles = []
    for here in made.rectangles:
        x, y = moved(bisect_right(places, here.y), (here.x, here.y))
        rectangles.append(replace(here, x=x, y=y))
    edges = {}
    for ends, points in made.edges.items():
        column = bisect_left(places, points[0][1])
        way = [moved(column, points[0])]
        for before, after in pairwise(points):
            while column < bisect_left(places, after[1]):
                start, end = moved(column, before), moved(column + 1, after)
                gutter = spans[column][1] + shifts[column] + GUTTER / 2
                below = places[column] + lifts[column] + TURN
                way += [(start[0], below), (gutter, below), (gutter, 0.0), (end[0], 0.0)]
                column += 1
            way.append(moved(column, after))
        edges[ends] = way
    bottom = max(here.y + here.height for here in rectangles) + TURN
    return Drawing(right - GUTTER, bottom, rectangles, edges)


def _spans(made: Drawing, places: Sequence[float]) -> list[tuple[float, float]]:
    """The left and the right end of what is in each column."""
    spans = [(float("inf"), 0.0)] * (len(places) + 1)
    outer = [(here.y, here.x, here.x + here.width) for here in made.rectangles if here.depth == 0]
    wires = [(y, x, x) for points in made.edges.values() for x, y in points]
    for y, left, right in [*outer, *wires]:
        k = bisect_right(places, y)
        spans[k] = min(spans[k][0], left), max(spans[k][1], right)
    return spans
