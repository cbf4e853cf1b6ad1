"""A tree of units: what boxes are drawn, and what stands in them; and what makes it fit to be looked at.

A unit stands for an interval of nodes. Nodes are in the order of execution, so whatever leaves an interval doesn't come
back to it: boxes may be laid out each by itself, and no edges between them make a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ghn_init.viz.measure import shortened

LONGEST = 48
"""Cells of a title."""
LARGEST = 0.6
"""Share of the rows in a box that is no use as one."""
MOST_ROWS = 250
"""Rows that can be looked at; where there are more, modules are closed."""


@dataclass(eq=False, slots=True)
class Unit:
    """A box, or a row in one.

    Attributes:
        name: What is written on it, relative to the box that it stands in.
        path: Dotted name of the module, or of the parameter without `weight`.
        nodes: The interval of nodes that it stands for, of the first of its blocks where several are folded.
        children: What stands in a box; none in a row.
        count: How many equal blocks are folded to this one.
        blocks: How many equal blocks stand in it, where all of them are drawn.
        collapsed: A row that stands for a whole module.
    """

    name: str
    path: str
    nodes: range
    children: list[Unit] = field(default_factory=list)
    count: int = 1
    blocks: int = 1
    collapsed: bool = False

    @property
    def title(self) -> str:
        """What is written on a box."""
        times = self.count * self.blocks
        return shortened(f"{self.name} × {times}" if times > 1 else self.name, LONGEST)

    @property
    def everything(self) -> range:
        """The nodes of all folded blocks."""
        return range(self.nodes.start, self.nodes.start + len(self.nodes) * self.count)

    def rows(self) -> Iterator[Unit]:
        """The rows in it, in order."""
        todo = [self]
        while todo:
            unit = todo.pop()
            if unit.children:
                todo += reversed(unit.children)
            else:
                yield unit

    def boxes(self) -> Iterator[Unit]:
        """It and the boxes in it, outer before inner ones."""
        todo = [self]
        while todo:
            unit = todo.pop()
            if unit.children:
                yield unit
                todo += reversed(unit.children)


def joined(unit: Unit) -> Unit:
    """The tree without boxes around a single thing; that has their names before its own."""
    unit.children = [joined(child) for child in unit.children]
    if len(unit.children) == 1 and unit.path and unit.count == 1:
        (child,) = unit.children
        redundant = not child.children and child.name in ("weight", "bias")
        return replace(child, name=unit.name if redundant else f"{unit.name}.{child.name}")
    return unit


def telling(unit: Unit) -> Unit:
    """The tree in which boxes that are named by numbers have the name before as well: `layer2.0`."""
    name, words = unit.name, unit.path.split(".")
    before = len(words) - len(name.partition("–")[0].split(".")) - 1
    if unit.children and name[:1].isdigit() and before >= 0:
        name = f"{words[before]}.{name}"
    return replace(unit, name=name, children=[telling(child) for child in unit.children])


def opened(root: Unit) -> Unit:
    """The tree without the boxes around most of what there is; what is in them has their names before its own."""
    most, children = LARGEST * sum(1 for _ in root.rows()), list(root.children)
    while large := [k for k, unit in enumerate(children) if _is_large(unit, most)]:
        (k,) = large
        inner = [replace(child, name=f"{children[k].name}.{child.name}") for child in children[k].children]
        children[k : k + 1] = inner
    return replace(root, children=children)


def _is_large(unit: Unit, most: float) -> bool:
    return bool(unit.children) and unit.count == unit.blocks == 1 and sum(1 for _ in unit.rows()) > most


def closed(root: Unit, depth: int | None) -> Unit:
    """The tree in which boxes deeper than `depth` are rows; by default as deep as leaves `MOST_ROWS`, if any depth does."""
    if depth is None:
        depth = fitting(root)
    return root if depth is None else _closed(root, depth)


def fitting(root: Unit) -> int | None:
    """The largest depth of boxes at which there are at most `MOST_ROWS` rows; None where nothing has to be closed."""
    depths = [depth for depth, unit in _with_depths(root) if not unit.children]
    if len(depths) <= MOST_ROWS:
        return None
    boxes = [depth for depth, unit in _with_depths(root) if unit.children]
    for depth in range(max(boxes), 0, -1):
        if sum(d <= depth for d in depths) + sum(d == depth for d in boxes) <= MOST_ROWS:
            return depth - 1
    return None


def _with_depths(root: Unit) -> Iterator[tuple[int, Unit]]:
    """All units with the number of boxes around them; the root's is 0, that of what stands in it 1."""
    todo = [(0, root)]
    while todo:
        depth, unit = todo.pop()
        yield depth, unit
        todo += [(depth + 1, child) for child in unit.children]


def _closed(unit: Unit, depth: int) -> Unit:
    if unit.children and depth < 0:
        return replace(unit, children=[], collapsed=True)
    return replace(unit, children=[_closed(child, depth - 1) for child in unit.children])
