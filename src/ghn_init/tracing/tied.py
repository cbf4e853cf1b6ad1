"""Embedding tables that a model uses again as the weights of its head, as language models do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ghn_init.graph import Node
from ghn_init.tracing.reach import parameters_behind
from ghn_init.tracing.record import Call, Value

WEIGHTS = {"linear": 1, "matmul": 1, "mm": 1, "bmm": 1, "addmm": 2}
"""Operation → place of the weight among its arguments."""


def tied_heads(outputs: Iterable[Value], calls: Sequence[Call], nodes: Sequence[Node]) -> set[int]:
    """Numbers of the tables with which the outputs are made: after them no parameter comes any more.

    Args:
        outputs: Of the run.
        calls: All of the run, in execution order.
        nodes: Of its graph; a table's has the primitive `pos_enc`.
    """
    tables = {node.weight: k for k, node in enumerate(nodes) if node.primitive == "pos_enc" and node.weight is not None}
    reached, found = set(outputs), set[int]()
    for call in reversed(calls) if tables else ():
        if reached.isdisjoint(call.outputs):
            continue
        place = WEIGHTS.get(call.op)
        if place is not None and len(call.args) > place and isinstance(call.args[place], Value):
            found |= {tables[name] for name in parameters_behind([call.args[place]], calls) if name in tables}
        elif not any(value.source == "parameter" for value in call.inputs) or call.op.rstrip("_") == "add":
            reached.update(value for value in call.inputs if value.source != "parameter")
    return found
