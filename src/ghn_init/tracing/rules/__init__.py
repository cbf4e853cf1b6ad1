"""One rule per operation that has a primitive; everything else is contracted.

Rules recognise what an operation computes, never the class of the module that called it.
"""

from __future__ import annotations

from ghn_init.graph import Graph
from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Record
from ghn_init.tracing.rules import arithmetic, attention, layers, norms, pools, views  # noqa: F401  (they register their rules)
from ghn_init.tracing.rules.registry import RULES

WHOLE = frozenset(RULES)
"""Operations that the recorder must not take apart."""


def build_graph(record: Record) -> Graph:
    """Turns a record of one run into the architecture graph."""
    builder = GraphBuilder(record)
    for call in record.calls:
        RULES.get(call.op, GraphBuilder.contract)(builder, call)
    return builder.finish(record.outputs)
