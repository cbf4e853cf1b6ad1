"""Determinants and inverses of parameters: they exist for a model's own values, and mostly not for those of tiled cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ghn_init.graph import Graph
from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.reasons import INVERTED
from ghn_init.tracing.rules.registry import argument, rule


@rule(
    *("slogdet", "linalg_slogdet", "_linalg_slogdet", "logdet", "det", "linalg_det", "_linalg_det"),
    *("inverse", "linalg_inv", "linalg_inv_ex", "linalg_solve", "linalg_solve_ex", "_linalg_solve_ex"),
    *("linalg_solve_triangular", "linalg_lu_factor_ex", "linalg_lu_solve", "linalg_cholesky_ex", "cholesky_inverse"),
)
def _invert(b: GraphBuilder, call: Call) -> None:
    matrix = argument(call, 0)
    flow = b.flow(matrix if isinstance(matrix, Value) else None)
    if not (flow.data or flow.offset):  # `I + A`, as in Cayley's map of skew matrices, was made to have an inverse
        b.keep(flow.params, INVERTED)
    b.contract(call)


def with_inverses(graph: Graph, kept: Mapping[str, str]) -> Graph:
    """The graph with a mark at each node whose weight is inverted elsewhere, before its layer or after it."""
    marked = {name for name, why in kept.items() if why == INVERTED}
    if not marked:
        return graph
    nodes = tuple(replace(node, inverted=True) if node.weight in marked else node for node in graph.nodes)
    return replace(graph, nodes=nodes)
