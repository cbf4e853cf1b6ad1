"""One rule per operator that has a primitive; everything else is contracted. `register_rule` adds to them.

Rules recognise what an operation computes, never the class of the module that called it.

What a rule's author needs is exported here:

- what a rule is given: `GraphBuilder` (its methods `flow`, `assign`, `contract`, `keep`, `add`, `merge`), `Call`, `Value`, and
  `Flow`;
- one function per kind of layer, each from the `Flow` that comes in and the layer's `Value`s to the `Flow` that comes out:
  `apply_weight`, `apply_bias`, `convolve`, `normalise`, `pool`; `Node` and `union` for what they don't cover;
- `argument`, which reads a call's arguments however they were passed.
"""

from __future__ import annotations

from ghn_init.errors import TraceError
from ghn_init.graph import Graph, Node
from ghn_init.tracing.flow import Flow, GraphBuilder, union
from ghn_init.tracing.record import Call, Record, Value
from ghn_init.tracing.rules import arithmetic, attention, layers, norms, pools, products, sums, views, waves  # noqa: F401  (they register their rules)
from ghn_init.tracing.rules.inverses import with_inverses
from ghn_init.tracing.rules.layers import apply_bias, apply_weight, convolve
from ghn_init.tracing.rules.norms import normalise
from ghn_init.tracing.rules.pools import pool
from ghn_init.tracing.rules.reasons import REPARAMETRISES
from ghn_init.tracing.rules.registry import RULES, WHOLE, Rule, argument, register_rule, unregister_rule, where

__all__ = [
    "WHOLE",
    "Call",
    "Flow",
    "GraphBuilder",
    "Node",
    "Rule",
    "Value",
    "apply_bias",
    "apply_weight",
    "argument",
    "build_graph",
    "convolve",
    "normalise",
    "pool",
    "register_rule",
    "union",
    "unregister_rule",
]


def build_graph(record: Record) -> Graph:
    """Turns a record of one run into the architecture graph.

    Raises:
        TraceError: A rule raises, or gives a result no flow.
    """
    builder = GraphBuilder(record)
    for call in record.calls:
        function = RULES.get(call.op, GraphBuilder.contract)
        try:
            function(builder, call)
        except Exception as error:  # rules are open to users: theirs may raise anything
            raise TraceError(f"the rule for '{call.op}', {where(function)}, raised {type(error).__name__}: {error}") from error
        # A result without a flow would read as a constant, and everything before it as a dead end.
        if not builder.holds(call.outputs):
            raise TraceError(
                f"the rule for '{call.op}', {where(function)}, gives a result no flow; it should end in "
                f"b.assign(call.outputs, flow), or in b.contract(call)"
            )
    for name, original in record.reparametrising.items():
        builder.keep([name], REPARAMETRISES.format(original))
    return with_inverses(builder.finish(record.outputs), builder.kept)
