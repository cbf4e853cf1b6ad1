"""Sums, concatenations and products of streams and parameters."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from math import prod

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import MASKED, Flow, GraphBuilder, as_stream, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.layers import apply_bias, product
from ghn_init.tracing.rules.parameters import b_numel, main_parameter
from ghn_init.tracing.rules.reasons import OFFSET, POSITION_TABLE, QUERY, REPARAMETRISES, SCALE, SHIFT, TOKEN
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


def looked_up_bias(b: GraphBuilder, x: Flow, other: Flow) -> Flow | None:
    """Rows of a table that were added to those maps of a stack that the same index chose: their biases, and no embedding."""
    owner = owner_of(b, x)
    table = next(iter(other.nodes)) if len(other.nodes) == 1 else 0
    node = b.nodes[table]
    if owner is None or node.primitive != "pos_enc" or node.weight is None or b.preds[table] == set():
        return None
    stack, shape = b.nodes[owner].stack, node.shape or ()
    if stack is None or shape != (stack.slices, stack.shape[0]):
        return None
    b.contracted.add(table)
    del b.node_of[node.weight]
    return b.add(Node("bias", (prod(shape),), node.weight), x.nodes)


def owner_of(b: GraphBuilder, x: Flow, channels: int | None = None) -> int | None:
    """The layer whose result a stream is, also where other inputs aggregated it (`adjacency @ (x @ w)`, scattered messages)."""
    if len(x.nodes) == 1:
        return next(iter(x.nodes))
    layers = [i for i in x.nodes if b.nodes[i].primitive in WEIGHT_PRIMITIVES]
    fitting = [i for i in layers if channels in (None, (b.nodes[i].shape or (0,))[0])]
    others = x.nodes - set(fitting)
    return fitting[0] if len(fitting) == 1 and (x.product or others <= {0}) else None


def add_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream + parameter: the bias of the layer before, a positional embedding, or nothing that has a primitive."""
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape)
    sizes = [size for size in value.shape if size > 1]
    bias = layer_bias(b, x, value, name)
    if bias is not None:
        return bias
    # The published construction has no node for tables of relative positions, and its models keep theirs at their init.
    if x.product or x.softmax:
        b.keep(flow.params, POSITION_TABLE)
        return x
    b.keep(flow.params if len(sizes) < 2 else (), SHIFT)
    return add_positions(b, x, flow, value) if len(sizes) >= 2 else x


def layer_bias(b: GraphBuilder, x: Flow, value: Value, name: str | None) -> Flow | None:
    """The stream with the bias of the norm or the layer before, if a parameter of this shape can be that."""
    sizes = [size for size in value.shape if size > 1]
    channels = prod(sizes)
    last = len(sizes) == 1 and value.shape[-1] == channels
    if name is None or (x.product and not last) or x.softmax:
        return None
    owner = owner_of(b, x, value.shape[-1] if value.shape else 1)
    if owner is None:
        return None
    node = b.nodes[owner]
    # A norm written out by hand has its bias last, too late for the node that its weight made.
    is_norm = node.primitive in NORM_PRIMITIVES and node.bias is None and prod(node.shape or ()) == channels
    if is_norm and len(sizes) == 1 and name not in b.node_of:
        b.nodes[owner] = replace(node, bias=name)
        b.node_of[name] = owner
        return x
    if node.primitive == "msa" and last and attended(b, owner, channels):
        return apply_bias(b, x, value)
    if node.primitive not in WEIGHT_PRIMITIVES:
        return None
    outputs = (node.shape or (0,))[0]
    # More axes than one: of heads, into which a layer's channels were split, or of a stack of layers with a bias each.
    slices = 1 if node.stack is None else node.stack.slices
    stacked = slices > 1 and b_numel(b, name) == slices * outputs and value.shape[-1] == outputs
    return apply_bias(b, replace(x, product=False), value) if sizes and (channels == outputs or stacked) else None


def attended(b: GraphBuilder, attention: int, channels: int) -> bool:
    """Whether what an attention averages are results of a layer of so many channels, as in graph attention networks."""
    stack, seen = list(b.preds[attention]), set()
    while stack:
        index = stack.pop()
        node = b.nodes[index]
        if node.primitive in WEIGHT_PRIMITIVES:
            if (node.shape or (0,))[0] == channels:
                return True
        elif index not in seen:
            stack.extend(b.preds[index])
        seen.add(index)
    return False


def add_positions(b: GraphBuilder, x: Flow, flow: Flow, value: Value) -> Flow:
    """stream + embedding of its positions; the embedding may be interpolated, or a sum of several."""
    names = [name for name in flow.params if sum(size > 1 for size in b.shapes[name]) >= 2 and b.kept.get(name) != QUERY]
    b.keep((name for name in flow.params if name not in names), SHIFT)
    positions = [b.add(Node("pos_enc", tuple(b.shapes[name]), name), ()) for name in names]
    return b.merge("sum", [x, *positions]) if positions else x


@rule("cat", "concat", "concatenate", "stack", "hstack", "vstack")
def _concat(b: GraphBuilder, call: Call) -> None:
    flows = [b.flow(value) for value in call.inputs]
    if any(flow.data for flow in flows):
        flows = [as_stream(flow) for flow in flows]
    streams = [flow for flow in flows if flow.data]
    if not streams:
        b.contract(call)
        whole = b.flow(call.outputs[0])
        parts = tuple(call.inputs) if len(whole.params) > 1 else ()
        return b.assign(call.outputs, replace(whole, parts=parts, lost=True, flipped=False))
    # With a class token alone a stream stays what it was: published graphs have no node for the token, and no `concat`.
    b.keep((name for flow in flows for name in flow.params), TOKEN)
    b.assign(call.outputs, b.merge("concat", streams))


@rule("mul", "multiply")
def _mul(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    if not any(flow.data for flow in flows):
        b.contract(call)
        constants = [value for value in (argument(call, 0), argument(call, 1, "other")) if not _has_parameters(b, value)]
        return b.assign(call.outputs, times(b, b.flow(call.outputs[0]), flows, values, constants))
    flows = [as_stream(flow) for flow in flows]
    streams = [flow for flow in flows if flow.data]
    if len(streams) == 2:
        return b.assign(call.outputs, gate(b, values, flows))
    if len(streams) == 1 and len(values) == 2:
        x = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            return b.assign(call.outputs, scale_by_parameter(b, x, parameter))
    b.contract(call)
    if len(streams) == 1:
        constant = values[0] if len(values) == 2 and flows[1].data else argument(call, 1, "other")
        b.assign(call.outputs, stream_times(b, streams[0], b.flow(call.outputs[0]), constant))


def stream_times(b: GraphBuilder, x: Flow, result: Flow, constant: object) -> Flow:
    """A stream that is multiplied with a constant; where it comes from a layer, that layer's result is."""
    result = replace(result, gain=x.gain)
    if isinstance(constant, Value) and prod(constant.shape) != 1:
        return result
    if len(x.nodes) == 1:
        (index,) = x.nodes
        if b.nodes[index].primitive in WEIGHT_PRIMITIVES:
            b.nodes[index] = replace(b.nodes[index], rescaled=True)
    return replace(result, rescaled=True)


def _has_parameters(b: GraphBuilder, value: object) -> bool:
    return isinstance(value, Value) and bool(b.flow(value).params)


def times(b: GraphBuilder, result: Flow, flows: list[Flow], values: list[Value], constants: list[object]) -> Flow:
    """A product of parameters and constants: the scale of a weight, its mask, or the end of a norm of learned queries."""
    if not result.params:
        return result
    if constants:
        scale = flows[0].scale if flows[0].params else flows[-1].scale
        return constant_times(result, scale, constants[0], inverse=False)
    for x, parameter in ((flows[0], values[-1]), (flows[-1], values[0])):
        if x.normalised and is_vector(b, parameter) and set(x.params) != set(b.flow(parameter).params):
            return replace(result, normalised=False, stream=partial(norm_of_constants, b, x, parameter))
    shared = set(flows[0].params) & set(flows[-1].params)
    if shared and any(flow.deviation for flow in flows):
        return replace(result, deviation=False, normalised=True)
    return result


def is_vector(b: GraphBuilder, value: Value) -> bool:
    """Whether a value is a parameter with one axis, as weights of norms are."""
    flow = b.flow(value)
    return len(flow.params) == 1 and not flow.data and sum(size > 1 for size in value.shape) == 1


def norm_of_constants(b: GraphBuilder, x: Flow, weight: Value) -> Flow:
    """A norm of learned queries, written out by hand."""
    b.keep(x.params, QUERY)
    return scale_by_parameter(b, Flow(data=True, nodes=x.nodes, normalised=True), weight)


def constant_times(result: Flow, scale: float | None, constant: object, inverse: bool) -> Flow:
    """A parameter that is multiplied with a constant, or divided by it.

    Args:
        result: The product, so far.
        scale: What the parameter was multiplied with before.
        constant: A number, or the value of a tensor.
        inverse: It is the divisor.
    """
    if isinstance(constant, Value) and prod(constant.shape) != 1:
        return result.ranked(MASKED)
    number = constant.number if isinstance(constant, Value) else constant
    if len(result.params) != 1 or result.rank(result.params[0]):
        return result
    if not isinstance(number, int | float) or scale is None:
        return replace(result, scale=None)
    if not (math.isfinite(number) and number):
        return result
    return replace(result, scale=scale / number if inverse else scale * number)


def gate(b: GraphBuilder, values: list[Value], flows: list[Flow]) -> Flow:
    """stream × stream: a gate, unless both come from the same nodes or one is the other's deviation."""
    if any(flow.deviation for flow in flows):
        return normalised(b, union(flows), flows)
    # Published graphs contract the averaging inside a gate (16 of EfficientNet-B0's 17) and keep the one before the classifier.
    # Inside is what the smaller factor, which is repeated over space, has gone through and the larger one has not.
    sizes = [prod(value.shape) for value in values]
    if sizes[0] != sizes[1]:
        small, large = (0, 1) if sizes[0] < sizes[1] else (1, 0)
        inside = b.ancestors(flows[small].nodes) - b.ancestors(flows[large].nodes)
        b.contracted |= {i for i in inside if b.nodes[i].primitive == "glob_avg"}
    return replace(b.merge("cse", flows), softmax=False)


def normalised(b: GraphBuilder, x: Flow, flows: list[Flow]) -> Flow:
    """A stream that was divided by its deviation; a parameter that scaled either of them before is the norm's weight."""
    inside = [flow.inside for flow in flows if flow.deviation]
    gains = [flow.gain for flow in flows if flow.gain is not None and flow.gain not in inside]
    x = replace(x, deviation=False, normalised=True, batch=any(flow.batch for flow in flows), gain=None, inside=None)
    return scale_by_parameter(b, x, gains[0]) if gains else x


def scale_by_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream × parameter: the affine part of a norm written out by hand, or a scale that has no primitive."""
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape) or (flow.params[0] if len(flow.params) == 1 else None)
    vector = name is not None and sum(size > 1 for size in value.shape) == 1
    if x.normalised and flow.offset:
        b.keep(flow.params, OFFSET)
    elif x.normalised and name is not None and vector:
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        return b.add(Node("bn" if x.batch else "ln", tuple(b.shapes[name]), name), x.nodes)
    b.keep(flow.params, SCALE)
    # Where the stream is divided by its deviation only later, `g * (z - mean) / std`, this will have been the norm's weight.
    return replace(x, normalised=False, gain=value if vector and not flow.offset and not x.normalised else None)


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
        flow = as_stream(flow)
        if flow.data:
            result = b.merge("sum", [flow, result])
        elif flow.params:
            result = add_parameter(b, result, bias)
    elif flow.data:
        result = b.merge("sum", [flow, as_stream(result)])
    else:
        result = union([flow, result])
    b.assign(call.outputs, result)
