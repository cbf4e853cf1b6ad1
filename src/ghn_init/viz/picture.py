"""From a graph to its picture: tree of modules → folding → layers → drawing → SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ghn_init.viz.colouring import Fate, Paint
from ghn_init.viz.columns import in_columns
from ghn_init.viz.drawing import Drawing, drawing
from ghn_init.viz.folding import Folding, drawn_edges, drawn_nodes
from ghn_init.viz.layout import placed
from ghn_init.viz.modules import module_tree
from ghn_init.viz.rows import row_of
from ghn_init.viz.svg import svg
from ghn_init.viz.tree import Unit, closed, joined, opened, telling

if TYPE_CHECKING:
    from ghn_init.graph import Graph


ALL = 10**6
"""Deeper than any module."""


def to_svg(graph: Graph, fates: Mapping[str, Fate] | None = None, *, fold: bool = True, depth: int | None = None) -> str:
    """The picture of a graph, see `Graph.to_svg`.

    Args:
        graph: It.
        fates: Dotted parameter name → what happened to it; colours are by primitive without.
        fold: Whether repeated blocks are drawn once.
        depth: Modules in so many others are drawn as one row.
    """
    if depth is None and not fold:
        depth = ALL
    folded = Folding(graph).folded(module_tree(graph)) if fold else module_tree(graph)
    made, paint = drawn(graph, closed(shaped(folded), depth), fates)
    return svg(in_columns(made), paint, f"graph of {graph.num_nodes:,} nodes")


def shaped(tree: Unit) -> Unit:
    """A tree as it is looked at."""
    return telling(opened(joined(tree)))


def drawn(graph: Graph, root: Unit, fates: Mapping[str, Fate] | None) -> tuple[Drawing, Paint]:
    """The drawing of a tree, in one column, and its colours."""
    heads, edges = drawn_nodes(root, graph.num_nodes), drawn_edges(root, graph.edge_index)
    paint = Paint(graph, [int(k) for k in heads], fates)
    rows = {unit: row_of(unit, graph.nodes, paint.members) for unit in root.rows()}
    return drawing(placed(root, edges, rows), edges), paint
