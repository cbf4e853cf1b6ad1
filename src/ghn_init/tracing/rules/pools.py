"""Pools and means over space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ghn_init.graph import Node
from ghn_init.tracing.flow import Flow, GraphBuilder
from ghn_init.tracing.record import Call
from ghn_init.tracing.rules.registry import argument, rule


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(b: GraphBuilder, call: Call) -> None:
    _pool(b, call, "max_pool", argument(call, 1, "kernel_size"))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(b: GraphBuilder, call: Call) -> None:
    _pool(b, call, "avg_pool", argument(call, 1, "kernel_size"))


def _pool(b: GraphBuilder, call: Call, primitive: str, kernel: Any) -> None:
    b.assign(call.outputs, pool(b, b.flow(call.args[0]), primitive, kernel))


def pool(b: GraphBuilder, x: Flow, primitive: str, kernel: int | Sequence[int] = ()) -> Flow:
    """A pool.

    Args:
        b: The graph that grows.
        x: What is pooled.
        primitive: 'max_pool', 'avg_pool', or 'glob_avg' over all of space, which has no kernel.
        kernel: One for all spatial axes, or one each; the last two, (1, 1, kh, kw), are the node's shape.

    Returns:
        What the result holds.
    """
    if not x.data:  # of parameters alone
        return x
    if primitive == "glob_avg":
        return b.add(Node(primitive), x.nodes)
    sizes = [kernel] if isinstance(kernel, int) else list(kernel)
    if len(sizes) == 1:
        sizes = sizes * 2
    return b.add(Node(primitive, (1, 1, sizes[-2], sizes[-1])), x.nodes)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive_avg_pool(b: GraphBuilder, call: Call) -> None:
    _pool(b, call, "glob_avg", ())


@rule("mean")
def _mean(b: GraphBuilder, call: Call) -> None:
    x, value = b.flow(call.args[0]), call.args[0]
    if averages_space(b, x, value.shape, argument(call, 1, "dim")):
        return _pool(b, call, "glob_avg", ())
    b.contract(call)


def averages_space(b: GraphBuilder, x: Flow, shape: tuple[int, ...], dim: Any) -> bool:
    """Whether a mean over `dim` leaves batch and channels and nothing else."""
    if not isinstance(dim, list | tuple) or len(dim) != len(shape) - 2:
        return isinstance(dim, int) and len(shape) == 3 and averages_space(b, x, shape, [dim])
    axes = {d % len(shape) for d in dim}
    if 0 in axes:
        return False
    if len(shape) > 3:
        return axes == set(range(2, len(shape))) or axes == set(range(1, len(shape) - 1))
    # (B, L, C) or (B, C, L), the shape alone doesn't tell: axis 1 counts as positions, axis 2 only where the layer before has
    # as many channels as axis 1.
    if axes == {1}:
        return True
    widths = {(b.nodes[i].shape or (0,))[0] for i in x.nodes}  # (B, C, L): the last layer's width is axis 1
    return widths == {shape[1]} and shape[1] != shape[2]
