"""Linear maps written out by hand: a stream times a weight, summed over input channels."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.layers import apply_weight
from ghn_init.tracing.rules.reasons import DOT
from ghn_init.tracing.rules.registry import argument, rule


@rule("sum")
def _sum(b: GraphBuilder, call: Call) -> None:
    factors = b.flow(call.args[0]).factors
    if factors is None or factors.product is not call.args[0] or b.uses(factors.product) > 1:
        return b.contract(call)  # what else takes the product sees a scaled stream, as where flows sum their log scales
    rank = len(factors.product.shape)
    dims = argument(call, 1, "dim")
    summed = {axis % rank for axis in dims} if isinstance(dims, list | tuple) else set()
    sizes, stream = _sizes(factors.weight, rank), _sizes(factors.stream, rank)
    inputs = [k for k in range(rank) if sizes[k] > 1 and k in summed]
    outputs = [k for k in range(rank) if sizes[k] > 1 and k not in summed and stream[k] == 1]
    shared = [k for k in range(rank) if sizes[k] > 1 and k not in summed and stream[k] > 1]
    if not inputs or any(factors.product.shape[k] > 1 for k in summed.difference(inputs)):
        return b.contract(call)
    if len(inputs) > 1 or len(outputs) > 1 or shared:
        weight = _stack(b, factors.weight, rank, ([[k] for k in shared], outputs, inputs)) if outputs else None
        if weight is None:
            b.kept |= dict.fromkeys(b.flow(factors.weight).params, DOT)  # it looked like a scale
            return b.contract(call)
        return b.assign(call.outputs, apply_weight(b, b.flow(factors.stream), weight, None, "conv", batched=True))
    weight = Value(tuple(sizes[k] for k in sorted([*inputs, *outputs])) if outputs else (1, sizes[inputs[0]]), "call")
    b.assign([weight], b.flow(factors.weight))
    inputs_first = bool(outputs) and inputs < outputs
    b.assign(call.outputs, apply_weight(b, b.flow(factors.stream), weight, None, "conv", stored_flipped=inputs_first))


def _stack(b: GraphBuilder, value: Value, rank: int, parts: tuple[list[list[int]], list[int], list[int]]) -> Value | None:
    """The weight as (…, out, in): a map for each place of the axes that it shares with the stream, as locally connected layers.

    Args:
        b: The graph that grows.
        value: The weight.
        rank: Of its product with the stream.
        parts: Axes of that product: shared ones, those of output channels, those that are summed.

    Returns:
        None where the parameter's axes can't be told.
    """
    flow = b.flow(value)
    if not flow.of or flow.lost:
        return None
    axes = ((),) * (rank - len(value.shape)) + b.axes_of(flow)
    shared, outputs, inputs = parts
    merged = tuple(tuple(atom for k in part for atom in axes[k]) for part in (*shared, outputs, inputs))
    weight = Value(tuple(prod(size for _, size in atoms) for atoms in merged), "call")
    b.assign([weight], replace(flow, axes=merged, flipped=False))
    return weight


def _sizes(value: Value, rank: int) -> list[int]:
    """Its axes among so many, as broadcasting has them."""
    return [1] * (rank - len(value.shape)) + list(value.shape)
