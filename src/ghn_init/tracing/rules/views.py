"""Rearrangements that change how a parameter is read, and operations that take no more than a shape."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.graph import Node
from ghn_init.tracing.axes import Axes, expanded, looked_up, viewed
from ghn_init.tracing.flow import CONSTANT, Flow, GraphBuilder
from ghn_init.tracing.operators import FRESH
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import main_parameter
from ghn_init.tracing.rules.registry import argument, rule


@rule("t", "transpose", "permute", "numpy_T", "mT", "swapaxes", "movedim")
def _transpose(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow, rank = b.flow(call.outputs[0]), len(call.args[0].shape)
    if not flow.params:
        return
    if call.op == "transpose" or call.op == "swapaxes":
        swapped = {call.args[1] % rank, call.args[2] % rank} == {rank - 2, rank - 1} or rank == 2
    elif call.op == "permute":
        order = [axis % rank for axis in call.args[1]]
        kept = [axis for axis in order if call.args[0].shape[axis] > 1]
        swapped = len(kept) >= 2 and kept[-2] > kept[-1]
    else:
        swapped = True
    flow = replace(flow, flipped=flow.flipped != swapped)
    before = b.flow(call.args[0])
    if _followed(b, before):
        axes = b.axes_of(before)
        flow = replace(flow, axes=tuple(axes[k] for k in _order(call, rank)), lost=False)
    b.assign(call.outputs, flow)


def _followed(b: GraphBuilder, flow: Flow) -> bool:
    """Whether the axes of a parameter's value are worth following: those of matrices need no more than `flipped`."""
    return not flow.data and bool(flow.of) and not flow.lost and len(flow.whole or b.shapes[flow.of]) > 2


def _order(call: Call, rank: int) -> list[int]:
    """Of a permutation, for each axis of the result the operand's."""
    order = list(range(rank))
    if call.op == "permute":
        return [axis % rank for axis in call.args[1]]
    first, second = call.args[1:3] if call.op in ("transpose", "swapaxes") else (-2, -1)
    order[first], order[second] = order[second], order[first]
    return order


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "expand", "select", "unbind")
def _view(b: GraphBuilder, call: Call) -> None:
    before = b.flow(call.args[0])
    b.contract(call)
    if not _followed(b, before):
        return
    axes, shape = b.axes_of(before), call.outputs[0].shape
    found: Axes | None
    if call.op in ("select", "unbind"):
        dim = argument(call, 1, "dim", 0) % len(axes)
        found = (*axes[:dim], *axes[dim + 1 :])
    elif call.op == "expand":
        found = expanded(axes, shape)
    else:
        found = viewed(axes, shape)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, axes=found, lost=found is None))


@rule("index", "index_select", "gather", "take")
def _index(b: GraphBuilder, call: Call) -> None:
    table = b.flow(call.args[0])
    dim, index = _index_of(call)
    if table.params and not table.data and index is not None and b.flow(index).data:
        return _look_up(b, call, table, dim, index)
    contract_without_index(b, call, 1 if call.op in ("index", "take") else 2)
    flow = b.flow(call.outputs[0])
    if not flow.params:
        return
    flow = replace(flow, gathered=True)
    if index is not None and _followed(b, table):
        flow = replace(flow, axes=looked_up(b.axes_of(table), dim, index.shape), lost=False)
    b.assign(call.outputs, flow)


@rule("index_add", "index_copy", "index_reduce", "scatter", "scatter_add", "scatter_reduce")
def _scatter(b: GraphBuilder, call: Call) -> None:
    contract_without_index(b, call, 2)


@rule("index_put")
def _put(b: GraphBuilder, call: Call) -> None:
    contract_without_index(b, call, 1)


def contract_without_index(b: GraphBuilder, call: Call, position: int) -> None:
    """Contracts a call; an index that was given with the inputs, as edges are, picks from a stream and is no part of it."""
    picked = replace(call, args=(*call.args[:position], None, *call.args[position + 1 :]))
    others = [b.flow(value) for value in picked.inputs]
    index = [b.flow(value) for value in call.inputs if value not in picked.inputs]
    given = all(flow.nodes <= {0} for flow in index)
    b.contract(picked if given and any(flow.data for flow in others) else call)


def _index_of(call: Call) -> tuple[int, Value | None]:
    """The one axis that is indexed, and by what; None where there are several, or it is something else."""
    if call.op == "index_select":
        return call.args[1] % len(call.args[0].shape), call.args[2]
    if call.op == "index":
        given = [(dim, index) for dim, index in enumerate(call.args[1]) if isinstance(index, Value)]
        if len(given) == 1:
            return given[0]
    return 0, None


def _look_up(b: GraphBuilder, call: Call, table: Flow, dim: int, index: Value) -> None:
    """The model's data choose rows of a table, which are embeddings, or some of a stack of weights (experts)."""
    name = None if table.parts else main_parameter(b, table, call.args[0].shape)
    if name is not None and len(b.shapes[name]) == 2 and dim == 0 and table.rank(name) == 0:
        return b.assign(call.outputs, b.add(Node("pos_enc", tuple(b.shapes[name]), name), b.flow(index).nodes))
    if not _followed(b, table):
        return b.contract(call)
    axes = looked_up(b.axes_of(table), dim, index.shape)
    b.assign(call.outputs, replace(table, gathered=True, axes=axes, nodes=b.flow(index).nodes))  # as those of a router


@rule("fill", "zero", "uniform", "normal", "bernoulli")
def _fill(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.flow(call.args[0]))


@rule(*FRESH)
def _constant(b: GraphBuilder, call: Call) -> None:
    # Takes no more than the shape from its operand. Otherwise Swin's masks, made by `x.new_zeros`, would be streams of x, and
    # adding one to the logits a sum.
    b.assign(call.outputs, CONSTANT)


@rule("dropout")
def _dropout(b: GraphBuilder, call: Call) -> None:
    b.contract(call)  # the default; with a rule it is recorded whole, one call in the place of four
