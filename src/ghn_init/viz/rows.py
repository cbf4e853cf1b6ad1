"""What is written on a row, and the room that it takes: a layer with its bias beside it, or one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ghn_init.viz.measure import shortened, width
from ghn_init.viz.modules import Unit

if TYPE_CHECKING:
    from ghn_init.graph import Graph, Node

HEIGHT = 20.0
PADDING = 8.0
CHIP = 38.0
"""Width of a bias."""
BESIDE = 3.0
LONGEST = 30
"""Cells of a name; tooltips have all of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: texts on the left and on the right, and the nodes that it stands for, the second in a field of its own."""

    name: str
    detail: str
    nodes: tuple[int, ...]
    least: float

    @property
    def named(self) -> bool:
        """Whether it has parameters, and so is as wide as other such rows in a chain."""
        return bool(self.detail)


def row_of(unit: Unit, graph: Graph) -> Row:
    """The row of a unit without children."""
    nodes = tuple(unit.nodes)
    name = shortened(unit.name, LONGEST)
    if unit.collapsed:
        detail = f"{len(unit.everything):,} nodes"
        return Row(name, detail, nodes[:1], _least(name, detail))
    node = graph.nodes[nodes[0]]
    if not node.parameters:
        return Row(node.primitive, "", nodes, _least(_operation(node), ""))
    shapes = [graph.nodes[k].shape for k in range(unit.nodes.start, unit.everything.stop, len(nodes))]
    detail = f"{node.primitive} {_sizes(node, shapes)}".strip()
    return Row(name, detail, nodes, _least(name, detail) + (BESIDE + CHIP if len(nodes) == 2 else 0))


def _operation(node: Node) -> str:
    return node.primitive


def _sizes(node: Node, shapes: list[tuple[int, ...] | None]) -> str:
    """`64×3×7×7`."""
    return "×".join(map(str, node.shape or ()))


def _least(name: str, detail: str) -> float:
    texts = [text for text in (name, detail) if text]
    return round(sum(map(width, texts)) + 2 * PADDING + (len(texts) - 1) * 1.5 * PADDING)
