"""Sums and concatenations of streams and parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ghn_init.tracing.flow import MASKED, Flow, GraphBuilder, as_stream, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.biases import add_parameter, looked_up_bias
from ghn_init.tracing.rules.layers import product
from ghn_init.tracing.rules.products import gate, scale_by_parameter, stream_times
from ghn_init.tracing.rules.reasons import POSITION_TABLE, SINK, TOKEN
from ghn_init.tracing.rules.registry import argument, rule


@rule("add", "sub", "rsub")
def _add(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    if any(flow.data for flow in flows):
        flows = [as_stream(flow) for flow in flows]
    streams = [flow for flow in flows if flow.data]
    if not streams or len(values) < 2:
        b.contract(call)
        result = b.flow(call.outputs[0])
        if any(flow.stream is not None for flow in flows) and all(flow.params for flow in flows):
            result = replace(result, stream=partial(_sum_of_constants, b, values))
        return b.assign(call.outputs, replace(result, offset=result.offset or sum(bool(f.params) for f in flows) == 1))
    b.assign(call.outputs, _added(b, values, flows))


def _added(b: GraphBuilder, values: list[Value], flows: list[Flow]) -> Flow:
    """The sum of two values, one of which is a stream at least."""
    streams = [flow for flow in flows if flow.data]
    if len(streams) == 2:
        return add_streams(b, streams)
    parameter = values[0] if flows[1].data else values[1]
    return add_parameter(b, streams[0], parameter) if b.flow(parameter).params else streams[0]


def _sum_of_constants(b: GraphBuilder, values: list[Value]) -> Flow:
    """A norm of learned queries, or a layer of constants, with its bias."""
    return _added(b, values, [as_stream(b.flow(value)) for value in values])


def add_streams(b: GraphBuilder, streams: list[Flow]) -> Flow:
    """A sum, unless one of the two is a table of relative positions that was looked up for attention logits."""
    for logits, other in (streams, streams[::-1]):
        if logits.product and drop_position_table(b, other):
            return logits
        bias = looked_up_bias(b, logits, other)
        if bias is not None:
            return bias
    result = b.merge("sum", streams)
    return replace(result, softmax=all(flow.softmax for flow in streams))


def drop_position_table(b: GraphBuilder, x: Flow) -> bool:
    """Takes embedding tables out of the graph again if `x` is nothing else, as where attention adds them to its logits."""
    if not x.nodes or any(b.nodes[index].primitive != "pos_enc" for index in x.nodes):
        return False
    b.contracted |= x.nodes
    b.keep((name for index in x.nodes for name in b.nodes[index].parameters), POSITION_TABLE)
    return True


@rule("constant_pad_nd")
def _pad(b: GraphBuilder, call: Call) -> None:
    """A parameter with zeros around it is like one that was concatenated with zeros."""
    b.contract(call)
    flow = b.flow(call.outputs[0])
    if flow.params and not flow.data:
        b.assign(call.outputs, replace(flow, parts=(call.args[0],), whole=(), axes=None, lost=True, flipped=False))


@rule("cat", "concat", "concatenate", "stack", "hstack", "vstack", "block_diag")
def _concat(b: GraphBuilder, call: Call) -> None:
    flows = [b.flow(value) for value in call.inputs]
    if any(flow.data for flow in flows):
        flows = [as_stream(flow) for flow in flows]
    streams = [flow for flow in flows if flow.data]
    if not streams:
        b.contract(call)
        whole = b.flow(call.outputs[0])
        parts = tuple(call.inputs) if whole.params and len(call.inputs) > 1 else ()
        shape = call.outputs[0].shape if parts and call.op == "stack" else ()
        whole = replace(whole, parts=parts, whole=shape, axes=None, lost=not shape, flipped=False)
        return b.assign(call.outputs, whole)
    # With a class token alone a stream stays what it was: published graphs have no node for the token, and no `concat`.
    logits = any(flow.product for flow in streams)
    b.keep((name for flow in flows for name in flow.params), SINK if logits else TOKEN)
    b.assign(call.outputs, b.merge("concat", streams))


@rule("addcmul", "addcdiv")
def _addcmul(b: GraphBuilder, call: Call) -> None:
    """bias + left × right, with the same answers as for both operations one after the other."""
    base, left, right = call.args[:3]
    flows = [b.flow(value) for value in (left, right)]
    if not any(flow.data for flow in flows) or call.op.startswith("addcdiv"):
        b.contract(call)
        masked = [flow for flow in flows if flow.params and len(flows) > 1 and not all(other.params for other in flows)]
        if masked and not b.flow(call.outputs[0]).data:
            together = union([b.flow(base), *(flow.ranked(MASKED) for flow in masked)])
            b.assign(call.outputs, replace(together, lost=together.lost))
        return
    flows = [as_stream(flow) for flow in flows]
    if flows[0].data and flows[1].data:
        result = gate(b, [left, right], flows)
    elif flows[0].params or flows[1].params:
        parameter, x = (left, flows[1]) if flows[0].params else (right, flows[0])
        result = scale_by_parameter(b, x, parameter)
    else:
        result = union(flows)
    other = as_stream(b.flow(base))
    if other.data:
        result = add_streams(b, [other, result])
    elif other.params:
        result = add_parameter(b, result, base)
    b.assign(call.outputs, result)


@rule("addmm", "baddbmm", "addbmm")
def _addmm(b: GraphBuilder, call: Call) -> None:
    bias, left, right = call.args[:3]
    result, flow = product(b, call, left, right), b.flow(bias)
    if result.data:
        flow, alpha = as_stream(flow), call.kwargs.get("alpha", 1)
        result = result if alpha == 1 else stream_times(b, result, result, alpha)
        if flow.data:
            result = b.merge("sum", [flow, result])
        elif flow.params:
            result = add_parameter(b, result, bias)
    elif flow.data:
        result = b.merge("sum", [flow, as_stream(result)])
    else:
        result = union([flow, result])
    b.assign(call.outputs, result)
