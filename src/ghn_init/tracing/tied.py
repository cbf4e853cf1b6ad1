"""Embedding tables that a model uses again as the weights of its head, as language models do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from ghn_init.graph import Node
from ghn_init.tracing.reach import values_behind
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
            behind = values_behind([call.args[place]], calls)
            if not any(value.source == "input" for value in behind):  # attention, and scores of two towers, are no heads
                found |= {tables[value.name] for value in behind if value.name in tables}
        elif all(value.source != "parameter" or _is_small(call, value) for value in call.inputs):
            reached.update(value for value in call.inputs if value.source != "parameter")
    return found


def _is_small(call: Call, parameter: Value) -> bool:
    """A bias of logits, or what scales them all."""
    return call.op.rstrip("_") == "add" or (call.op.rstrip("_") in ("mul", "div") and prod(parameter.shape) == 1)
