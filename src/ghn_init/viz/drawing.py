"""A drawing: rectangles of rows and boxes and the ways of edges, in one plane."""

from __future__ import annotations

from dataclasses import dataclass, field

from ghn_init.viz.placed import OUT, Edge, Placed, Point
from ghn_init.viz.rows import Row
from ghn_init.viz.tree import Unit


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Where a unit is, in pixels, how many boxes it is in, and which rectangle is the innermost of these."""

    unit: Unit
    x: float
    y: float
    width: float
    height: float
    depth: int
    parent: int = -1
    row: Row | None = None


@dataclass(slots=True)
class Drawing:
    """What is to be drawn.

    Attributes:
        width: Pixels.
        height: Pixels.
        rectangles: Outer ones before inner ones.
        edges: (from, to) → the points that it goes through, straight down or in a curve.
    """

    width: float
    height: float
    rectangles: list[Rectangle] = field(default_factory=list)
    edges: dict[Edge, list[Point]] = field(default_factory=dict)


def drawing(root: Placed, edges: list[Edge]) -> Drawing:
    """Puts a layout into one plane."""
    made = Drawing(root.width, root.height)
    pieces: dict[tuple[int, int, int], list[Point]] = {}
    ways: dict[int, list[tuple[int, int]]] = {}  # node → the boxes that it is in, outer ones first, and where in them
    todo: list[tuple[Placed, float, float, list[tuple[int, int]], int]] = [(root, 0.0, 0.0, [], -1)]
    while todo:
        here, x, y, way, parent = todo.pop()
        own = len(made.rectangles) if here is not root else -1
        if here is not root:
            made.rectangles.append(Rectangle(here.unit, x, y, here.width, here.height, len(way) - 1, parent, here.row))
        if here.row is not None:
            ways.update(dict.fromkeys(here.row.nodes, way))
        for (a, end), points in here.pieces.items():
            pieces[id(here), a, end] = [(x + px, y + py) for px, py in points]
        for c, (child, dx, dy) in reversed(list(enumerate(here.inner))):
            todo.append((child, x + dx, y + dy, [*way, (id(here), c)], own))
    for a, b in edges:
        if ways[a] != ways[b]:
            made.edges[a, b] = _way(pieces, a, ways[a], ways[b])
    return made


def _way(
    pieces: dict[tuple[int, int, int], list[Point]], a: int, up: list[tuple[int, int]], down: list[tuple[int, int]]
) -> list[Point]:
    """Out of the boxes that only the source is in, then into those that only the target is in."""
    level = next(k for k, (one, other) in enumerate(zip(up, down, strict=False)) if one != other)
    points: list[Point] = []
    for box, _ in reversed(up[level + 1 :]):
        points += pieces[box, a, OUT]
    for box, c in down[level:]:
        points += pieces[box, a, c]
    kept = points[:1]
    for point, after in zip(points[1:], [*points[2:], None], strict=True):
        same = after is not None and kept[-1][0] == point[0] == after[0]
        if not same and point != kept[-1]:
            kept.append(point)
    return kept
