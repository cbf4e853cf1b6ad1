"""Rearrangements that change how a parameter is read, and operations that take no more than a shape."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.tracing.flow import CONSTANT, GraphBuilder
from ghn_init.tracing.record import Call
from ghn_init.tracing.rules.registry import rule


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
    b.assign(call.outputs, replace(flow, flipped=flow.flipped != swapped))


@rule("index", "index_select", "gather", "take")
def _index(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, gathered=flow.gathered or bool(flow.params)))


@rule("fill", "zero", "uniform", "normal", "bernoulli")
def _fill(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.flow(call.args[0]))


@rule("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
@rule("rand_like", "randn_like")
def _constant(b: GraphBuilder, call: Call) -> None:
    # Takes no more than the shape from its operand. Otherwise Swin's masks, made by `x.new_zeros`, would be streams of x, and
    # adding one to the logits a sum.
    b.assign(call.outputs, CONSTANT)


@rule("dropout")
def _dropout(b: GraphBuilder, call: Call) -> None:
    b.contract(call)  # the default; with a rule it is recorded whole, one call in the place of four
