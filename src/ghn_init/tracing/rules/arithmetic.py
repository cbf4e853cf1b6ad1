"""Sums, concatenations and products of streams and parameters."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import Flow, GraphBuilder, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.layers import apply_bias, product
from ghn_init.tracing.rules.parameters import main_parameter
from ghn_init.tracing.rules.reasons import OFFSET, POSITION_TABLE, REPARAMETRISES, SCALE, SHIFT, TOKEN
from ghn_init.tracing.rules.registry import argument, rule


@rule("add", "sub", "rsub")
def _add(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    streams = [flow for flow in flows if flow.data]
    if not streams or len(values) < 2:
        b.contract(call)
        result = b.flow(call.outputs[0])
        return b.assign(call.outputs, replace(result, offset=result.offset or sum(bool(f.params) for f in flows) == 1))
    if len(streams) == 2:
        result = add_streams(b, streams)
    else:
        result = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            result = add_parameter(b, result, parameter)
    b.assign(call.outputs, result)


def add_streams(b: GraphBuilder, streams: list[Flow]) -> Flow:
    """A sum, unless one of the two is a table of relative positions that was looked up for attention logits."""
    for logits, other in (streams, streams[::-1]):
        if logits.product and drop_position_table(b, other):
            return logits
    result = b.merge("sum", streams)
    return replace(result, softmax=all(flow.softmax for flow in streams))


def drop_position_table(b: GraphBuilder, x: Flow) -> bool:
    """Takes embedding tables out of the graph again if `x` is nothing else, as where attention adds them to its logits."""
    if not x.nodes or any(b.nodes[index].primitive != "pos_enc" for index in x.nodes):
        return False
    b.contracted |= x.nodes
    b.keep((name for index in x.nodes for name in b.nodes[index].parameters), POSITION_TABLE)
    return True


def add_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream + parameter: the bias of the layer before, a positional embedding, or nothing that has a primitive."""
    flow = b.flow(value)
    # The published construction has no node for tables of relative positions, and its models keep theirs at their init.
    if x.product or x.softmax:
        b.keep(flow.params, POSITION_TABLE)
        return x
    name = main_parameter(b, flow, value.shape)
    sizes = [size for size in value.shape if size > 1]
    b.keep(flow.params if len(sizes) < 2 else (), SHIFT)
    owner = next(iter(x.nodes)) if len(x.nodes) == 1 else None
    if name is not None and owner is not None and len(sizes) == 1:
        node = b.nodes[owner]
        # A norm written out by hand has its bias last, too late for the node that its weight made.
        is_norm = node.primitive in NORM_PRIMITIVES and node.bias is None and prod(node.shape or ()) == sizes[0]
        if is_norm and name not in b.node_of:
            b.nodes[owner] = replace(node, bias=name)
            b.node_of[name] = owner
            return x
        if node.primitive in WEIGHT_PRIMITIVES and (node.shape or (0,))[0] == sizes[0]:
            return apply_bias(b, x, value)
    return add_positions(b, x, flow, value) if len(sizes) >= 2 else x


def add_positions(b: GraphBuilder, x: Flow, flow: Flow, value: Value) -> Flow:
    """stream + embedding of its positions; the embedding may be interpolated, or a sum of several."""
    names = [name for name in flow.params if sum(size > 1 for size in b.shapes[name]) >= 2]
    b.keep((name for name in flow.params if name not in names), SHIFT)
    positions = [b.add(Node("pos_enc", tuple(b.shapes[name]), name), ()) for name in names]
    return b.merge("sum", [x, *positions]) if positions else x


@rule("cat", "concat", "concatenate", "stack", "hstack", "vstack")
def _concat(b: GraphBuilder, call: Call) -> None:
    flows = [b.flow(value) for value in call.inputs]
    streams = [flow for flow in flows if flow.data]
    if not streams:
        return b.contract(call)
    # With a class token alone a stream stays what it was: published graphs have no node for the token, and no `concat`.
    b.keep((name for flow in flows for name in flow.params), TOKEN)
    b.assign(call.outputs, b.merge("concat", streams))


@rule("mul", "multiply")
def _mul(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    streams = [flow for flow in flows if flow.data]
    if len(streams) == 2:
        return b.assign(call.outputs, gate(b, values, flows))
    if len(streams) == 1 and len(values) == 2:
        x = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            return b.assign(call.outputs, scale_by_parameter(b, x, parameter))
    b.contract(call)


def gate(b: GraphBuilder, values: list[Value], flows: list[Flow]) -> Flow:
    """stream × stream: a gate, unless both come from the same nodes or one is the other's deviation."""
    if any(flow.deviation for flow in flows):
        return replace(union(flows), deviation=False, normalised=True)
    # Published graphs contract the averaging inside a gate (16 of EfficientNet-B0's 17) and keep the one before the classifier.
    # Inside is what the smaller factor, which is repeated over space, has gone through and the larger one has not.
    sizes = [prod(value.shape) for value in values]
    if sizes[0] != sizes[1]:
        small, large = (0, 1) if sizes[0] < sizes[1] else (1, 0)
        inside = b.ancestors(flows[small].nodes) - b.ancestors(flows[large].nodes)
        b.contracted |= {i for i in inside if b.nodes[i].primitive == "glob_avg"}
    return replace(b.merge("cse", flows), softmax=False)


def scale_by_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream × parameter: the affine part of a norm written out by hand, or a scale that has no primitive."""
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape) or (flow.params[0] if len(flow.params) == 1 else None)
    if x.normalised and flow.offset:
        b.keep(flow.params, OFFSET)
    elif x.normalised and name is not None and len([size for size in value.shape if size > 1]) == 1:
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        return b.add(Node("ln", tuple(b.shapes[name]), name), x.nodes)
    b.keep(flow.params, SCALE)
    return replace(x, normalised=False)


@rule("addmm", "baddbmm")
def _addmm(b: GraphBuilder, call: Call) -> None:
    bias, left, right = call.args[:3]
    result = product(b, call, left, right)
    flow = b.flow(bias)
    if flow.data:
        result = b.merge("sum", [flow, result])
    elif flow.params:
        result = add_parameter(b, result, bias)
    b.assign(call.outputs, result)
