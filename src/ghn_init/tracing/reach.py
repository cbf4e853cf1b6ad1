"""What the outputs of a run are computed from, whatever the operations are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ghn_init.tracing.operators import FRESH
from ghn_init.tracing.record import Call, Value


def parameters_behind(outputs: Iterable[Value], calls: Sequence[Call]) -> set[str]:
    """Names of the parameters whose values reach the outputs.

    Args:
        outputs: Of the run.
        calls: All of the run, in execution order.
    """
    reached = set(outputs)
    for call in reversed(calls):
        if not reached.isdisjoint(call.outputs) and call.op.rstrip("_") not in FRESH:
            reached.update(call.inputs)
    return {value.name for value in reached if value.source == "parameter" and value.name is not None}
