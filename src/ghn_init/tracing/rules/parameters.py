"""Which parameter a weight was computed from, and in which layout it is used."""

from __future__ import annotations

from math import prod

from ghn_init.tracing.flow import Flow, GraphBuilder


def b_numel(b: GraphBuilder, name: str) -> int:
    """Number of elements of a parameter."""
    return prod(b.shapes[name])


def main_parameter(b: GraphBuilder, flow: Flow, shape: tuple[int, ...]) -> str | None:
    """Of the parameters that a weight was computed from, the one of the weight's own size."""
    if flow.data or not flow.params:
        return None
    # Weight norm's direction rather than its magnitudes: the tensor that sets the layer's values, not one that scales them.
    same_shape = [name for name in flow.params if tuple(b.shapes[name]) == tuple(shape)]
    same_size = [name for name in flow.params if b_numel(b, name) == prod(shape)]
    if same_shape or same_size:
        return (same_shape or same_size)[0]
    # A batched product sees the weight expanded over the batch.
    inner = [name for name in flow.params if len(shape) == 3 and sorted(b.shapes[name]) == sorted(shape[1:])]
    if inner:
        return inner[0]
    return flow.params[0] if len(flow.params) == 1 and is_piece(shape, b.shapes[flow.params[0]], flow.flipped) else None


def is_piece(shape: tuple[int, ...], whole: tuple[int, ...], flipped: bool) -> bool:
    """Whether a weight is some output channels of a parameter, as queries, keys and values packed in one are.

    Each piece is an own call in cross-attention; all of them lead to the one node of the packed parameter.
    """
    shape = (*shape[:-2], shape[-1], shape[-2]) if flipped and len(shape) > 1 else shape
    return len(shape) == len(whole) and shape[1:] == tuple(whole[1:]) and 0 < shape[0] < whole[0]


def layout(stored: tuple[int, ...], used: tuple[int, ...], flipped: bool) -> tuple[int, ...]:
    """A weight's shape with output channels first: as it is stored, or as it is used where it was reshaped for that."""
    reshaped = len(stored) < 2 or (len(stored) > 2 and len(stored) != len(used))
    shape = tuple(used if reshaped and prod(used) == prod(stored) else stored)
    return (shape[1], shape[0], *shape[2:]) if flipped and len(shape) > 1 else shape
