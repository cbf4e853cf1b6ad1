"""Linear maps written out by hand: a stream times a weight, summed over input channels."""

from __future__ import annotations

from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.layers import apply_weight
from ghn_init.tracing.rules.reasons import DOT
from ghn_init.tracing.rules.registry import argument, rule


@rule("sum")
def _sum(b: GraphBuilder, call: Call) -> None:
    factors = b.flow(call.args[0]).factors
    if factors is None or factors.product is not call.args[0]:
        return b.contract(call)
    dims = argument(call, 1, "dim")
    rank = len(factors.product.shape)
    axis = dims[0] % rank if isinstance(dims, list | tuple) and len(dims) == 1 else None
    sizes = _sizes(factors.weight, rank)
    if axis is None or sizes[axis] < 2:
        return b.contract(call)
    channels = [k for k in range(rank) if sizes[k] > 1]
    outputs = [k for k in channels if k != axis]
    if len(channels) > 2 or any(_sizes(factors.stream, rank)[k] > 1 for k in outputs):
        b.kept |= dict.fromkeys(b.flow(factors.weight).params, DOT)  # it looked like a scale
        return b.contract(call)
    weight = Value(tuple(sizes[k] for k in channels) if outputs else (1, sizes[axis]), "call")
    b.assign([weight], b.flow(factors.weight))
    inputs_first = bool(outputs) and axis < outputs[0]
    b.assign(call.outputs, apply_weight(b, b.flow(factors.stream), weight, None, "conv", stored_flipped=inputs_first))


def _sizes(value: Value, rank: int) -> list[int]:
    """Its axes among so many, as broadcasting has them."""
    return [1] * (rank - len(value.shape)) + list(value.shape)
