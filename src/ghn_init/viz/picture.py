"""From a graph to its picture: tree of modules → folding → layers → drawing → SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ghn_init.viz.colouring import Fate, Paint
from ghn_init.viz.columns import in_columns
from ghn_init.viz.drawing import drawing
from ghn_init.viz.folding import Folding, drawn_edges, drawn_nodes
from ghn_init.viz.layout import placed
from ghn_init.viz.modules import joined, module_tree, opened, telling
from ghn_init.viz.rows import row_of
from ghn_init.viz.svg import svg

if TYPE_CHECKING:
    from ghn_init.graph import Graph


def to_svg(graph: Graph, fates: Mapping[str, Fate] | None = None, *, fold: bool = True) -> str:
    """The picture of a graph."""
    root = module_tree(graph)
    root = telling(opened(joined(Folding(graph).folded(root) if fold else root)))
    drawn, edges = drawn_nodes(root, graph.num_nodes), drawn_edges(root, graph.edge_index)
    paint = Paint(graph, [int(k) for k in drawn], fates)
    rows = {unit: row_of(unit, graph.nodes, paint.members) for unit in root.rows()}
    made = in_columns(drawing(placed(root, edges, rows), edges))
    return svg(made, paint, f"graph of {graph.num_nodes:,} nodes")
