"""Which parameter a weight was computed from, and in which layout it is used."""

from __future__ import annotations

from math import prod

from ghn_init.graph import Stack
from ghn_init.tracing.axes import stack_of
from ghn_init.tracing.flow import FACTOR, Flow, GraphBuilder
from ghn_init.tracing.record import Value


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
    if len(flow.params) == 1 and (same_shape or same_size):
        return flow.params[0] if flow.rank(flow.params[0]) < FACTOR else None
    if same_shape or same_size:
        # Of `mu + softplus(rho) * noise`, the mean; of `sigmoid(mask) * w`, w, in whatever order they are written.
        order = {name: (flow.rank(name), k) for k, name in enumerate(b.shapes) if name in flow.params}
        nearest = min(same_shape or same_size, key=order.__getitem__)
        return nearest if flow.rank(nearest) < FACTOR else None
    # A batched product sees the weight expanded over the batch.
    inner = [name for name in flow.params if len(shape) == 3 and sorted(b.shapes[name]) == sorted(shape[1:])]
    if inner:
        return inner[0] if flow.rank(inner[0]) < FACTOR else None
    return flow.params[0] if len(flow.params) == 1 and is_piece(shape, b.shapes[flow.params[0]], flow.flipped) else None


def is_piece(shape: tuple[int, ...], whole: tuple[int, ...], flipped: bool) -> bool:
    """Whether a weight is some channels of a parameter, as queries, keys and values packed in one are, or part of its kernel.

    Each piece is an own call in cross-attention, or at another width of a slimmable network; all of them lead to the one node
    of the whole parameter.
    """
    shape = (*shape[:-2], shape[-1], shape[-2]) if flipped and len(shape) > 1 else shape
    return len(shape) == len(whole) and shape != whole and all(0 < n <= m for n, m in zip(shape, whole, strict=True))


def unexpanded(b: GraphBuilder, value: Value) -> Value:
    """A vector that was repeated along the stream's other axes (`weight.expand_as(x)`), as the vector that it is."""
    flow = b.flow(value)
    name = flow.params[0] if len(flow.params) == 1 and not flow.data and not flow.rank(flow.params[0]) else None
    size = b_numel(b, name) if name is not None else 0
    if name is None or size == 1 or max(b.shapes[name]) < size or prod(value.shape) <= size or size not in value.shape:
        return value
    behind = value.shape[::-1].index(size)
    vector = Value((size, *(1,) * behind), "call")
    b.assign([vector], flow)
    return vector


def bias_of_slices(b: GraphBuilder, x: Flow, value: Value) -> str | None:
    """A stack of biases of which one was picked, for that map of a stack whose result the stream is: `x @ w[k] + b[k]`."""
    flow = b.flow(value)
    if len(flow.params) != 1 or flow.data or flow.rank(flow.params[0]) or len(x.nodes) != 1:
        return None
    (name,), (owner,) = flow.params, x.nodes
    stack, sizes = b.nodes[owner].stack, [size for size in b.shapes[name] if size > 1]
    if stack is None or sizes != [stack.slices, stack.shape[0]] or value.shape[-1:] != stack.shape[:1]:
        return None
    return name if prod(value.shape) == stack.shape[0] else None


def layout(stored: tuple[int, ...], used: tuple[int, ...], flipped: bool) -> tuple[int, ...]:
    """A weight's shape with output channels first: as it is stored, or as it is used where it was reshaped for that."""
    reshaped = len(stored) < 2 or (len(stored) > 2 and len(stored) != len(used))
    shape = tuple(used if reshaped and prod(used) == prod(stored) else stored)
    return (shape[1], shape[0], *shape[2:]) if flipped and len(shape) > 1 else shape


def stack_in(b: GraphBuilder, flow: Flow, shape: tuple[int, ...], flipped: bool, batched: bool) -> Stack | None:
    """How a weight is a stack of maps, or has their axes in an order of its own; None where it is one map as usual.

    Args:
        b: The graph that grows.
        flow: Of the weight; where it was stacked from separate ones, the stack is of these.
        shape: Of the weight, as it is used.
        flipped: It is used input channels first.
        batched: It is a matrix, with axes of a batch before it; else a kernel, with axes of space behind.
    """
    if flow.data or flow.lost or not flow.of:
        return None
    whole = flow.whole or b.shapes[flow.of]
    if len(whole) < 3 or (flow.rank(flow.of) >= FACTOR and not flow.whole):
        return None
    if not batched and flow.axes is None:
        return None  # an ordinary kernel
    out, inner = (-2, -1) if batched else (0, 1)
    axes = b.axes_of(flow)
    if len(axes) != len(shape) or len(shape) < 2:
        return None
    kernel = () if batched else range(2, len(shape))
    out, inner = (inner, out) if flipped else (out, inner)
    stack = stack_of(whole, axes, out, inner, kernel)
    if stack is None or (stack.plain and (len(shape) == 2 or not batched)):
        return None
    return None if stack.slices == 1 and len(shape) == 2 and _turned(stack) else stack


def inputs_first(stack: Stack) -> bool:
    """Whether each map of a stack is stored (in, out)."""
    return stack.order[stack.stacked] > stack.order[-1]


def _turned(stack: Stack) -> bool:
    """Input channels first, as `x @ w` has them."""
    inputs = sum(1 for k in stack.order if k < stack.order[0])
    return stack.order == (*range(inputs, len(stack.order)), *range(inputs))
