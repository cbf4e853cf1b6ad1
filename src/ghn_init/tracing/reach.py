"""What the outputs of a run are computed from, whatever the operations are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ghn_init.tracing.operators import FRESH
from ghn_init.tracing.record import Call, Value


def values_behind(outputs: Iterable[Value], calls: Sequence[Call]) -> set[Value]:
    """All values that reach the outputs, themselves among them.

    Args:
        outputs: Of the run, or other values in it.
        calls: All of the run, in execution order.
    """
    reached = set(outputs)
    for call in reversed(calls):
        if not reached.isdisjoint(call.outputs) and call.op.rstrip("_") not in FRESH:
            reached.update(call.inputs)
    return reached


def parameters_behind(outputs: Iterable[Value], calls: Sequence[Call]) -> set[str]:
    """Names of the parameters whose values reach the outputs; arguments as of `values_behind`."""
    return {v.name for v in values_behind(outputs, calls) if v.source == "parameter" and v.name is not None}
